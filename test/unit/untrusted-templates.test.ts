// Chat templates come with models of others: none may hang, end the process, or take its memory.
import { describe, expect, test } from 'vitest';
import { chatTemplate } from '../../runtime/chat/chat-template.ts';
import { makeDirectory } from '../support/model-directory.ts';
import { refusalOf } from '../support/refusal.ts';

const hello = [{ role: 'user', content: 'Hi' }];
const render = (template: string, messages = hello) =>
  chatTemplate(makeDirectory({ 'chat_template.jinja': template }))(messages);

/** Eighteen times: `ns.s` becomes what `change` makes of it. */
const grow = (start: string, change: string) =>
  `{% set ns = namespace(s=${start}) %}{% for i in range(18) %}{% set ns.s = ${change} %}{% endfor %}`;
const loop = (body: string) => `{% for i in range(60000) %}${body}{% endfor %}`;

const steps = 'it takes too many steps';
const value = 'one of its values is too large';
const operation = 'one of its operations is too large';
const depth = 'it nests too deep';
const hostile: [what: string, template: string, why: string][] = [
  ['a loop of a billion steps', '{% for i in range(1000000000) %}x{% endfor %}', steps],
  ['a range of tiny steps', '{{ range(0, 1, 0.000000001) }}', steps],
  ['loops in loops', `${'{% for i in range(9000) %}'.repeat(20)}x${'{% endfor %}'.repeat(20)}`, steps],
  ['a text that doubles', grow("'abcd'", 'ns.s ~ ns.s'), value],
  [
    'a block that doubles',
    `${grow("'abcd'", "'abcd' ~ ns.s")}${'{% set ns.s %}{{ ns.s }}{{ ns.s }}{% endset %}'.repeat(30)}{{ ns.s }}`,
    value,
  ],
  ['a list of itself twice', grow('[1, 2]', '[ns.s, ns.s]'), value],
  ['a dict of itself twice', grow("{'a': 1}", "{'a': ns.s, 'b': ns.s}"), value],
  ['a list that doubles', grow('[1, 2, 3, 4]', 'ns.s + ns.s'), value],
  [
    'a namespace inside itself',
    '{% set ns = namespace() %}{% set ns.a = ns %}{{ ns }}',
    'it has a namespace inside another value',
  ],
  ['a replacement of each letter by the text', grow("'aaaa'", "ns.s|replace('a', ns.s)"), operation],
  [
    'a replacement by a method of another name',
    `${grow("'a'", 'ns.s ~ ns.s')}{% set f = ns.s.replace %}{{ f('a', ns.s) }}`,
    operation,
  ],
  ['a join with the text', grow("'aaaa'", 'range(1000)|join(ns.s)'), value],
  ['half a billion spaces before a line', "{{ 'a\\nb'|indent(500000000) }}", operation],
  ['the same in a block', '{% filter indent(500000000) %}a\nb{% endfilter %}', operation],
  ['JSON with half a billion spaces', '{{ [[1]]|tojson(indent=500000000) }}', operation],
  [
    'a search for a long text in a long text',
    `${grow("'a'", 'ns.s ~ ns.s')}{{ ('b' ~ ns.s) in ns.s }}`,
    operation,
  ],
  [
    'a long text cut at each comma, often',
    `${grow("','", 'ns.s ~ ns.s')}${loop("{% set x = ns.s.split(',') %}")}`,
    steps,
  ],
  ['a long text sliced often', `${grow("'a'", 'ns.s ~ ns.s')}${loop('{% set x = ns.s[1:] %}')}`, steps],
  [
    'a long text compared often',
    `${grow("'a'", 'ns.s ~ ns.s')}${loop('{% set x = ns.s|upper == ns.s|upper %}')}`,
    steps,
  ],
  ['a long text tested often', `${grow("'a'", 'ns.s ~ ns.s')}${loop('{% set x = ns.s is lower %}')}`, steps],
  ['the time told often', loop("{{ strftime_now('%B') }}"), steps],
  ['a macro that calls itself', '{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}', depth],
  [
    'a macro that calls itself twice',
    '{% macro f(n) %}{% if n %}{{ f(n - 1) }}{{ f(n - 1) }}{% endif %}{% endmacro %}{{ f(60) }}',
    steps,
  ],
];

describe('a template with', () => {
  test.each(hostile)('%s is refused by its name', (_, template, why) => {
    const { message, kind } = refusalOf(() => render(template));
    expect(message).toMatch(/^the chat template in \/.*\/chat_template\.jinja is not run to its end: /);
    expect(message.split(': ')[1]).toBe(why);
    expect(kind).toBe('usage');
  });

  test.each([
    ['many brackets', `{{ ${'('.repeat(100_000)} }}`, 'it nests too deep'],
    ['many characters', 'x'.repeat(500_001), 'it has 500001 characters, more than 500000'],
    ['many spaces in a row', `{{ 1 ${' '.repeat(400_000)} }}`, 'it has 400002 spaces in a row'],
  ])('%s is refused before it runs', (_, template, why) => {
    const { message } = refusalOf(() => render(template));
    expect(message.split('cannot be read: ')[1]).toBe(why);
  });

  test('more text of its own than the file may have is refused by the size of the file', () => {
    const { message } = refusalOf(() => render('世'.repeat(700_000)));
    expect(message).toMatch(/chat_template\.jinja has 2100000 bytes, more than 2000000$/);
  });

  test('a template in tokenizer_config.json is named by that file', () => {
    const directory = makeDirectory({ 'tokenizer_config.json': { chat_template: hostile[0]![1] } });
    expect(refusalOf(() => chatTemplate(directory)(hello)).message).toContain(
      '/tokenizer_config.json is not run',
    );
  });
});

describe('the budget', () => {
  const forms =
    '{% for m in messages %}{% if loop.index0 < messages|length - 1 and "</think>" in m.content %}' +
    '{{ m.role ~ m.content.split("</think>")[-1].strip() }}{% else %}{{ m.content | trim }}{% endif %}' +
    '{% endfor %}{{ messages | tojson | length }}';

  test.each([
    ['5,000 messages', Array.from({ length: 5000 }, () => ({ role: 'user', content: 'words and words' }))],
    ['a message of 3 million characters', [{ role: 'user', content: 'word '.repeat(600_000) }, ...hello]],
  ])('is large enough for %s', (_, messages) => {
    expect(render(forms, messages).length).toBeGreaterThan(70_000);
  });

  test('is the same for each conversation of the same size', () => {
    const template = chatTemplate(makeDirectory({ 'chat_template.jinja': forms }));
    for (let turn = 0; turn < 3; turn++) expect(template(hello)).toBe(template(hello));
  });
});

test.each([
  ['CR LF', '\r\n'],
  ['CR', '\r'],
])('a template whose lines end in %s says the same as one with LF', (_, end) => {
  const lines = [
    '{% for m in messages %}',
    '<|im_start|>{{ m.role }}',
    "{{ m.content + '",
    "' }}<|im_end|>",
    '{% endfor %}',
    '',
    '',
  ];
  expect(render(lines.join(end))).toBe('<|im_start|>user\nHi\n<|im_end|>\n');
  expect(render(lines.join(end))).toBe(render(lines.join('\n')));
});
