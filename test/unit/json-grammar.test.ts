// The grammar of a JSON Schema: what it refuses, and the numbers that are within bounds.
import { join } from 'node:path';
import { expect, it } from 'vitest';
import { z } from 'zod';
import { packageRoot } from '../../codegen/build/package-root.ts';
import { randomFrom } from '../../lab/random.ts';
import type { MaskOrEnd } from '../../runtime/engine/token-masks.ts';
import { type Grammar, Grammars } from '../../runtime/grammar/grammars.ts';
import { type JsonSchema, jsonGrammar } from '../../runtime/grammar/json-grammar.ts';
import { grammarOf } from '../../runtime/reply-grammar.ts';
import { loadTokenizer } from '../../runtime/tokenizer/tokenizer.ts';
import { refusalOf } from '../support/refusal.ts';

it.each([
  [{ pattern: '(?=a)b' }, 'at #.pattern: (?= in it is not supported'],
  [{ pattern: '(?<!a)b' }, 'at #.pattern: (?< in it is not supported'],
  [{ pattern: '(a)\\1' }, 'at #.pattern: \\1 in it is not supported'],
  [{ pattern: '\\bword\\b' }, 'at #.pattern: \\b in it is not supported'],
  [{ pattern: '\\p{L}' }, 'at #.pattern: \\p in it is not supported'],
  [{ pattern: '(?:^a|b$)' }, 'at #.pattern: the anchor ^ stands inside of it'],
  [{ pattern: '[\\x00-\\x01]' }, 'at #.pattern: it asks for characters that are never made'],
  [{ pattern: 'a'.repeat(10_001) }, 'at #.pattern: it has more than 10000 characters'],
  [{ pattern: `${'('.repeat(101)}${')'.repeat(101)}` }, 'at #.pattern: groups in it nest more than 100 deep'],
  [{ pattern: 'a{20000}' }, 'at #.pattern: it asks for more than 10000 of something'],
  [{ pattern: '^(a{1,1000}){1,1000}$' }, 'at #.pattern: it asks for more than 100000 of something in groups'],
  [
    { pattern: `^${'('.repeat(40)}a?${'){2}'.repeat(40)}$` },
    'at #.pattern: it asks for more than 100000 of something in groups',
  ],
  [{ pattern: '[b-a]' }, 'at #.pattern: it is no regular expression'],
  [{ pattern: 'a', maxLength: 3 }, 'at #.pattern: lengths beside it are not supported: more than one part'],
  [{ pattern: '^(ab)+$', maxLength: 3 }, 'at #.pattern: lengths beside it are not supported'],
  [{ pattern: '^[ab]{3}$', maxLength: 2 }, 'at #.pattern: none of its texts has a length'],
  [{ pattern: 'a', format: 'date' }, 'at #: pattern beside format is not supported'],
  [{ properties: { a: { multipleOf: 3 } } }, 'at #.properties.a: the keyword multipleOf is not supported'],
  [
    { type: 'string', format: 'email' },
    'at #.format: "email" is not supported; date, time, date-time, uuid are',
  ],
  [{ type: 'text' }, 'at #.type: there is no type "text"'],
  [{ $ref: '#' }, 'at #.$ref: # refers to itself alone'],
  [
    { $ref: '#/$defs/a', $defs: { a: { anyOf: [{ $ref: '#/$defs/a' }] } } },
    '#/$defs/a refers to itself alone',
  ],
  [{ $ref: '#/$defs/b' }, 'at #.$ref: there is no #/$defs/b'],
  [{ $ref: 'https://example.org/a' }, 'is not in this schema'],
  [{ items: false, minItems: 1 }, 'at #: no list is as long as it asks for'],
  [{ minLength: 3, maxLength: 2 }, 'at #: maxLength is below minLength'],
  [{ type: 'integer', minimum: 0.2, maximum: 0.8 }, 'at #: no whole number is within its bounds'],
  [{ type: 'number', minimum: 0.2, maximum: 0.8 }, 'a whole number on each side'],
  [{ oneOf: [{ type: 'integer' }, { type: 'number' }] }, 'at #.oneOf: its branches must differ'],
  [{ allOf: [{}, {}] }, 'at #: allOf of several is not supported'],
  [{ anyOf: [{}], minLength: 1 }, 'at #: anyOf beside minLength is not supported'],
  [{ properties: { a: false }, required: ['a'] }, 'at #.properties.a: false allows no value'],
  [{ enum: [1, 2], type: 'string' }, 'at #.enum: it has no value that type beside it allows'],
  [{ type: 'integer', const: 'str' }, 'at #.const: it has no value that type beside it allows'],
  [{ const: 'x', enum: ['y'] }, 'at #.const: it has no value that enum beside it allows'],
  [{ const: 'abc', maxLength: 2 }, 'at #.const: it has no value that maxLength beside it allows'],
  [{ enum: [5, 'a'], minimum: 6, maxLength: 0 }, 'no value that minimum and maxLength beside it allows'],
  [{ enum: ['a', 'b'], allOf: [{ const: 'c' }] }, 'at #.enum: it has no value that allOf beside it allows'],
  [{ enum: [] }, 'at #.enum: it is empty'],
  [{ const: 'a', anyOf: [{ multipleOf: 2 }] }, 'at #.anyOf[0]: the keyword multipleOf is not supported'],
  [{ type: 'string', nullable: 'yes' }, 'at #.nullable: it is neither true nor false'],
  [{ discriminator: 'kind', mapping: {} }, 'at #: the keyword discriminator is not supported'],
  [
    { oneOf: [{ type: 'string', nullable: true }, { type: 'null' }] },
    'at #.oneOf: its branches must differ in type',
  ],
  [{ oneOf: [{ $ref: '#/$defs/a' }, {}], $defs: { a: {} } }, 'at #.oneOf: its branches must differ in type'],
  [
    { required: ['a', 'bc'], propertyNames: { maxLength: 1 } },
    'at #.propertyNames: the required property "bc" is none of them',
  ],
  [
    { properties: { aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaab: {} }, propertyNames: { pattern: '^(a+)+$' } },
    'at #.propertyNames.pattern: it takes too long',
  ],
  [{ properties: { a: {} }, propertyNames: { pattern: '(' } }, 'pattern: it is no regular expression'],
  [
    { type: 'boolean', allOf: [{ type: 'null' }] },
    'at #.allOf[0]: it is of type null, and what stands around it asks for boolean',
  ],
  [{ type: 'boolean', anyOf: [{ type: 'null' }] }, 'at #.anyOf: none of it is of type boolean'],
  [
    { type: 'integer', anyOf: [{ $ref: '#/$defs/a' }], $defs: { a: { type: 'string' } } },
    'at #.anyOf: none of it is of type integer',
  ],
  [
    { type: 'integer', allOf: [{ $ref: '#/$defs/a' }], $defs: { a: { type: 'string' } } },
    'at #/$defs/a: it is of type string, and what stands around it asks for integer',
  ],
  [{ $ref: '#/$defs/a', minLength: 1, $defs: { a: {} } }, 'at #: $ref beside minLength is not supported'],
  [{ required: ['a', 5] }, 'at #.required: it is not a list of names'],
])('%j is refused: %s', (schema, why) => {
  expect(refusalOf(() => jsonGrammar(schema)).message).toContain(why);
});

it('records of zod are objects of their keys and values', async () => {
  const grammar = grammarOf({ schema: z.record(z.string(), z.boolean()) })!;
  expect(await accepts(grammar, '{"a": true, "b c": false}')).toBe(true);
  expect(await accepts(grammar, '{"a": 1}')).toBe(false);
  const some = grammarOf({ schema: z.partialRecord(z.enum(['a', 'b']), z.literal(1)) })!;
  expect(await accepts(some, '{"b": 1}')).toBe(true);
  expect(await accepts(some, '{"c": 1}')).toBe(false);
});

it.each([
  ...['^ab|ba$', 'a.b', '^[^a]*$', '^(?:a|b1){1,2}$', '^a?b+?$', '[\\s\\S]1', '^\\w\\W\\d\\D?$', '^"\\\\$'],
  ...['^$|^(a|)+b$', '(?<name>a)\\.', '^[\\]a-b"-]{2,}$', '^(a*)*b$', '^\\u0061[\\u{62}-c]?$', '^.{2}$', ''],
  ...['^[^\\S\\n]$', '^é|[а-я]$', '^\\n\\/?$', '^[.\\-]', '^(?:(?:a)(?:b|1)?){0,1}-$', '^a{0}b{1,}$'],
  ...['^(?:(?:(?:a{0,100}b){0,100}){0})*(?:a{2}1|b{2}){1,2}$'],
])('of the pattern %j those texts are allowed that it matches', async (pattern) => {
  const grammar = jsonGrammar({ pattern });
  const regex = new RegExp(pattern, 'u');
  const letters = ['a', 'b', '1', ' ', '"', '\\', '.', '-', '\n', 'é', 'я'];
  const texts = [...letters, ''].flatMap((one) => letters.map((other) => one + other));
  const longer = [
    '',
    'abab',
    'aab',
    'b1b1',
    'a\nb',
    '"\\',
    'a.b',
    'ab-',
    'abc',
    'éя1',
    'bba',
    'aaaab1',
    '[]a"',
  ];
  const all = [...texts, ...longer];
  for (const text of all) {
    const isRight = await accepts(grammar, JSON.stringify(text));
    expect(isRight, JSON.stringify(text)).toBe(regex.test(text));
  }
});

it.each(['^[^a]{1,8}$', '^(?:\\w+ )?[A-Z]{2}-\\d{3,5}$', '^.{3,6}$', '^(é|"|\\s)+x$'])(
  'texts that are made of the pattern %j are matched by it',
  async (pattern) => {
    const random = randomFrom(5);
    const regex = new RegExp(pattern, 'u');
    let made = 0;
    for (let round = 0; round < 20; round++) {
      const text = await anyText(jsonGrammar({ pattern }), random);
      if (text === null) continue;
      made++;
      expect(JSON.parse(text), text).toMatch(regex);
    }
    expect(made).toBeGreaterThan(3);
  },
);

it.each([
  ['^([^a]|a.{5})$', ['b', 'abbbbb', 'ab'], 'é'],
  ['^([^ab]{1,2}|ab+c)$', ['1', 'abbc', 'abb'], 'éé'],
  ['ab', ['ab', 'bab', 'ba', '😀ab'], ''],
  ['^.b$', ['bb', '😀b', 'b'], '😀'],
])(
  'texts of the pattern %j are as without it where another text has a bound',
  async (pattern, texts, other) => {
    const properties = { a: { type: 'string', pattern }, b: { type: 'string', maxLength: 2 } };
    const grammar = jsonGrammar({ type: 'object', properties, required: ['a', 'b'] });
    expect(typeof grammar).toBe('object');
    const regex = new RegExp(pattern, 'u');
    for (const text of texts) {
      const isRight = await accepts(grammar, `{"a": ${JSON.stringify(text)}, "b": "${other}"}`);
      expect(isRight, text).toBe(regex.test(text));
      expect(await accepts(grammar, `{"a": ${JSON.stringify(text)}, "b": "abc"}`), text).toBe(false);
    }
  },
);

it.each([
  ['^[ab]+$', 2, 3],
  ['^a[ab]*b$', 0, 3],
  ['^a', 2, 3],
  ['b$', 0, 2],
  ['^(?:a|b{2,9}|ab)$', 2, 3],
  ['^([ab]{2})$', 1, 2],
  ['^a?$|^b{3,}$', 1, null],
])(
  'texts of the pattern %j have lengths from %j to %j, where these stand beside it',
  async (pattern, minLength, maxLength) => {
    const grammar = jsonGrammar({ pattern, minLength, ...(maxLength !== null && { maxLength }) });
    const regex = new RegExp(pattern, 'u');
    const texts = [''];
    for (let i = 0; texts[i]!.length < 5; i++) texts.push(`${texts[i]}a`, `${texts[i]}b`);
    for (const text of texts) {
      const isRight = await accepts(grammar, `"${text}"`);
      const fits = text.length >= minLength && (maxLength === null || text.length <= maxLength);
      expect(isRight, text).toBe(fits && regex.test(text));
    }
  },
);

it('signs that need no backslash may have one', async () => {
  const grammar = jsonGrammar({ pattern: '^[a\\_]\\_\\ \\-\\@$' });
  expect(await accepts(grammar, '"__ -@"')).toBe(true);
  expect(await accepts(grammar, '"b_ -@"')).toBe(false);
});

it('a pattern beside a format is followed where zod writes both', async () => {
  for (const [schema, text] of [
    [z.email(), 'a.b@example.org'],
    [z.iso.datetime({ offset: true }), '2024-02-29T10:00:00+01:00'],
    [z.ipv4(), '127.0.0.1'],
  ] as const) {
    const grammar = jsonGrammar(z.toJSONSchema(schema));
    expect([await accepts(grammar, `"${text}"`), await accepts(grammar, '"a"')]).toEqual([true, false]);
  }
});

it('texts of zod are made as it reads them, whatever it calls their format', async () => {
  const made = async (schema: z.ZodType, text: string) => accepts(grammarOf({ schema })!, `"${text}"`);
  expect(await made(z.email(), 'a.b@example.org')).toBe(true);
  expect(await made(z.email(), 'a.b@example')).toBe(false);
  expect(await made(z.iso.date(), '2024-02-29')).toBe(true);
  expect(await made(z.iso.date(), '2023-02-29')).toBe(false);
  expect(await made(z.string().startsWith('a-'), 'a-b')).toBe(true);
});

it('what nests without end is refused', () => {
  const round: Record<string, unknown> = { type: 'array' };
  round['items'] = round;
  expect(refusalOf(() => grammarOf({ schema: round })).message).toContain('nests more than 100 levels');
  expect(refusalOf(() => grammarOf({ schema: {}, grammar: 'root ::= "a"' })).message).toContain('both');
});

it.each<[JsonSchema, readonly unknown[]]>([
  [{ enum: [0, 5, 'a'], minimum: 2 }, [5, 'a']],
  [{ enum: [0, 5, 9], exclusiveMinimum: 0, exclusiveMaximum: 9 }, [5]],
  [{ enum: ['a', 'bbb', '\u{1f600}'], minLength: 2 }, ['bbb']],
  [{ enum: ['a', 'bbb', 1], anyOf: [{ type: 'integer' }, { const: 'a' }] }, ['a', 1]],
  [{ enum: ['a', 1], oneOf: [{ type: 'integer' }, { minimum: 0 }] }, ['a']],
  [{ enum: ['a', 'bbb'], allOf: [{ maxLength: 2 }, {}] }, ['a']],
  [{ enum: [{ a: 1 }, { b: 1 }, { a: 'x' }], properties: { a: { type: 'string' } } }, [{ b: 1 }, { a: 'x' }]],
  [{ enum: [{ a: 1, b: 2 }, { a: 1 }], required: ['b'] }, [{ a: 1, b: 2 }]],
  [
    { enum: [{ a: 1, b: 2 }, { a: 1 }], properties: { a: true }, additionalProperties: { type: 'null' } },
    [{ a: 1 }],
  ],
  [{ enum: [[1], [1, 2], []], minItems: 1, maxItems: 1 }, [[1]]],
  [{ enum: [[1, 'a'], ['a'], [1, 1]], prefixItems: [{ type: 'integer' }], items: { const: 1 } }, [[1, 1]]],
  [{ enum: [{ a: 1, b: 2 }], const: { b: 2, a: 1 } }, [{ b: 2, a: 1 }]],
  [{ enum: [1, 'a'], anyOf: [{ $ref: '#/$defs/a' }], $defs: { a: { type: 'string' } } }, ['a']],
])('of %j the values are %j', (schema, values) => {
  const written = values.map((value) =>
    JSON.stringify(JSON.stringify(value).replaceAll(/[:,]/g, (mark) => `${mark} `)),
  );
  const root = written.length === 1 ? written[0] : `(${written.join(' | ')})`;
  expect(numberGrammar(schema).split('\n')[0]).toBe(`root ::= ${root}`);
});

it('constants that references which fork lead to are not looked for without end', () => {
  const schema = { ...forked(40, { type: 'string' }), $ref: undefined, const: 5 };
  const why = refusalOf(() => jsonGrammar({ ...schema, anyOf: [{ $ref: '#/$defs/0' }] })).message;
  expect(why).toContain('compared with more than 200000 schemas');
});

/** References of which each has the next one in two places. */
const forked = (count: number, last: object) => ({
  $ref: '#/$defs/0',
  $defs: Object.fromEntries(
    Array.from({ length: count }, (_, i) => {
      const next = { $ref: `#/$defs/${i + 1}` };
      return [i, i + 1 < count ? { anyOf: [next, next] } : last];
    }),
  ),
});

it.each([{ type: 'string' }, { type: 'string', maxLength: 3 }])(
  'references that fork 40 times to %j are followed once each, and too many of them refused',
  (last) => {
    expect(jsonGrammar(forked(40, last))).toContain('ref39 ::=');
    expect(refusalOf(() => jsonGrammar(forked(5000, last))).message).toContain('go on to one another');
  },
);

it('thousands of branches are told apart by a property of them all, and some hundred by any', () => {
  const tagged = (count: number) =>
    Array.from({ length: count }, (_, i) => ({
      ...{ type: 'object', required: ['kind', 'text'] },
      properties: { kind: { const: i }, text: { type: 'string', maxLength: 3 } },
    }));
  expect(jsonGrammar({ oneOf: tagged(2000) })).toHaveProperty('loose');
  expect(jsonGrammar({ oneOf: [...tagged(400), { type: 'null' }] })).toHaveProperty('loose');
  const many = { oneOf: [...tagged(2000), { type: 'null' }] };
  expect(refusalOf(() => jsonGrammar(many)).message).toContain('of more than 500 branches');
  const same = { oneOf: [...tagged(20), tagged(1)[0]] };
  expect(refusalOf(() => jsonGrammar(same)).message).toContain('its branches must differ');
});

const numberGrammar = (schema: JsonSchema) => jsonGrammar(schema) as string;

/** The texts of the first rule of a grammar that has characters, classes and counts only. */
function regexOf(grammar: string): RegExp {
  const [, body] = /^r0 ::= (.*)$/m.exec(grammar)!;
  return new RegExp(
    `^(${body!.replaceAll('"."', '\\.').replaceAll('"', '').replaceAll(' | ', '|').replaceAll(' ', '')})$`,
  );
}

it('whole numbers within bounds, and no others, are texts of its grammar', () => {
  for (const [minimum, maximum] of [
    [0, 0],
    [7, 1234],
    [-105, -98],
    [-12, 3],
    [99, 1001],
    [1, 10],
    [-1000, 1000],
    [0, 9],
    [100, 199],
  ]) {
    const regex = regexOf(numberGrammar({ type: 'integer', minimum, maximum }));
    for (let i = minimum! - 1100; i <= maximum! + 1100; i++) {
      expect(regex.test(String(i)), `${i} in ${minimum}..${maximum}`).toBe(i >= minimum! && i <= maximum!);
    }
    expect(regex.test('007') || regex.test('-0')).toBe(false);
  }
});

it('numbers of its grammar are within bounds', () => {
  for (const [minimum, exclusiveMaximum] of [
    [-2.5, 3],
    [0, 1],
    [1.25, 12.5],
    [-7, -4],
  ]) {
    const regex = regexOf(numberGrammar({ type: 'number', minimum, exclusiveMaximum }));
    let inside = 0;
    for (let i = -2000; i <= 2000; i++) {
      const number = i / 100;
      if (!regex.test(String(number))) continue;
      inside++;
      expect(number >= minimum! && number < exclusiveMaximum!, String(number)).toBe(true);
    }
    expect(inside).toBeGreaterThan(90);
  }
});

const bundledTokenizer = loadTokenizer(join(packageRoot(), 'models/qwen3-tiny'));
const bundled = new Grammars(bundledTokenizer, bundledTokenizer.size);
const end = 2;
const has = (words: MaskOrEnd, id: number) =>
  typeof words === 'string'
    ? words === 'end' && id === end
    : words === null || ((words[id >> 5]! >> (id & 31)) & 1) === 1;

/** Whether the masks of a grammar let a text come and end there. */
async function accepts(grammar: Parameters<Grammars['mask']>[0], text: string): Promise<boolean> {
  const mask = await bundled.mask(grammar, [end]);
  try {
    let words = await mask.next([]);
    for (const id of [...text].flatMap((letter) => bundledTokenizer.encode(letter))) {
      if (!has(words, id)) return false;
      words = await mask.next([id]);
    }
    return has(words, end);
  } finally {
    mask.end();
  }
}

/** A text of tokens that its masks allow, each as likely; null: it came to no end. */
async function anyText(
  grammar: Parameters<Grammars['mask']>[0],
  random: () => number,
): Promise<string | null> {
  const mask = await bundled.mask(grammar, [end]);
  const bytes: number[] = [];
  try {
    let words = await mask.next([]);
    for (let length = 0; length < 60; length++) {
      const may = Array.from({ length: bundledTokenizer.size }, (_, id) => id).filter((id) => has(words, id));
      const id = may.includes(end) ? end : may[Math.floor(random() * may.length)]!;
      if (id === end) return Buffer.from(bytes).toString();
      bytes.push(...bundledTokenizer.bytes(id));
      words = await mask.next([id]);
    }
    return null;
  } finally {
    mask.end();
  }
}

it.each<[JsonSchema, readonly string[], readonly string[]]>([
  [{ type: 'integer', anyOf: [{ minimum: 5 }, { maximum: 2 }] }, ['5', '-3'], ['1.22', '5.5', '4']],
  [
    {
      type: 'integer',
      anyOf: [
        { type: 'number', minimum: 5 },
        { type: 'integer', maximum: 2 },
      ],
    },
    ['7'],
    ['7.5'],
  ],
  [
    { type: 'string', anyOf: [{ type: 'string', maxLength: 3 }, { type: 'null' }] },
    ['"abc"'],
    ['null', '"abcd"'],
  ],
  [{ type: 'string', anyOf: [{ const: 'a' }, { const: null }, { enum: [1, 2] }] }, ['"a"'], ['null', '1']],
  [
    { type: 'string', anyOf: [{ maxLength: 3 }, { anyOf: [{ type: 'null' }, { type: 'number' }] }] },
    ['"a"'],
    ['null', '1'],
  ],
  [
    {
      type: 'object',
      properties: {
        a: { type: 'string', anyOf: [{ $ref: '#/$defs/S' }, { $ref: '#/$defs/N' }] },
        b: { $ref: '#/$defs/N' },
      },
      required: ['a', 'b'],
      $defs: { N: { type: 'null' }, S: { type: 'string', maxLength: 2 } },
    },
    ['{"a": "x", "b": null}'],
    ['{"a": null, "b": null}', '{"a": "x", "b": "x"}'],
  ],
  [
    {
      type: 'object',
      properties: { a: { $ref: '#/$defs/A', type: 'string' }, b: { $ref: '#/$defs/A string' } },
      required: ['a', 'b'],
      $defs: { A: { type: ['string', 'boolean'] }, 'A string': { const: 5 } },
    },
    ['{"a": "x", "b": 5}'],
    ['{"a": "x", "b": "x"}', '{"a": true, "b": 5}'],
  ],
  [{ type: 'string', format: 'date', enum: ['2020-01-01', 'soon'] }, ['"soon"'], ['"now"']],
  [{ type: ['string', 'null'], anyOf: [{ minimum: 5 }, { maxLength: 1 }] }, ['"abc"', 'null'], ['6', 'true']],
  [{ type: 'string', allOf: [true] }, ['"a"'], ['1']],
  [{ type: 'integer', $ref: '#/$defs/a', $defs: { a: { minimum: 2 } } }, ['2'], ['2.5', '1']],
  [
    {
      ...{ type: 'array', items: { $ref: '#/$defs/a' }, $defs: { a: { minimum: 0, maxLength: 1 } } },
      prefixItems: [{ type: 'integer', allOf: [{ $ref: '#/$defs/a' }] }],
    },
    ['[5, "a"]'],
    ['["a"]', '[-5]', '[5, 5]'],
  ],
  [{ type: ['string', 'integer'], nullable: true }, ['"a"', '5', 'null'], ['true']],
  [{ type: 'object', nullable: true, properties: { a: { const: 1 } } }, ['{"a": 1}', 'null'], ['5']],
  [{ type: 'string', nullable: true, enum: ['a', null, 5] }, ['"a"', 'null'], ['5', '"b"']],
  [{ type: 'string', nullable: true, anyOf: [{ maxLength: 1 }, { type: 'null' }] }, ['"a"', 'null'], ['5']],
  [{ type: 'string', anyOf: [{ type: 'string', nullable: true, maxLength: 1 }] }, ['"a"'], ['null']],
  [{ type: 'string', nullable: false }, ['"a"'], ['null']],
  [
    {
      oneOf: [{ $ref: '#/$defs/Cat' }, { $ref: '#/$defs/Dog' }],
      discriminator: { propertyName: 'kind', mapping: { cat: '#/$defs/Cat', dog: '#/$defs/Dog' } },
      $defs: {
        Cat: {
          type: 'object',
          properties: { kind: { const: 'cat' }, n: { maximum: 1 } },
          required: ['kind', 'n'],
        },
        Dog: { type: 'object', properties: { kind: { enum: ['dog'] } }, required: ['kind'] },
      },
    },
    ['{"kind": "cat", "n": 1}', '{"kind": "dog"}'],
    ['{"kind": "cat"}', '{"kind": "cow"}'],
  ],
  [
    { properties: { a: { const: 1 }, bc: { const: 2 } }, propertyNames: { pattern: '^.$' } },
    ['{"a": 1}', '{}'],
    ['{"bc": 2}', '{"a": 1, "bc": 2}'],
  ],
  [{ properties: { a: {} }, propertyNames: { pattern: '^b' } }, ['{}'], ['{"a": 1}']],
  [{ type: 'object', propertyNames: false }, ['{}'], ['{"a": 1}']],
  [
    { type: 'object', propertyNames: { type: 'string', maxLength: 2 }, additionalProperties: { const: 1 } },
    ['{}', '{"ab": 1, "": 1}'],
    ['{"abc": 1}', '{"a": 2}'],
  ],
  [
    { propertyNames: { enum: ['a', 'b', 5] }, additionalProperties: { type: 'boolean' } },
    ['{}', '{"b": true}', '{"a": true, "b": false}'],
    ['{"c": true}', '{"a": true, "a": true}', '{"a": 1}'],
  ],
  [{ enum: [{ a: 1 }, { bc: 1 }, 5], propertyNames: { pattern: '^.$' } }, ['{"a": 1}', '5'], ['{"bc": 1}']],
  [
    { propertyNames: { pattern: '^[a-c]+$' }, additionalProperties: { type: 'boolean' } },
    ['{}', '{"ab": true, "c": false}'],
    ['{"d": true}', '{"a": 1}'],
  ],
  [{ enum: ['ab', 'cd', 5], pattern: 'b$' }, ['"ab"', '5'], ['"cd"']],
  [{ type: 'object', required: ['a', 'a'] }, ['{"a": 1}'], ['{"a": 1, "a": 1}']],
])('of %j texts are allowed that all of its keywords allow', async (schema, right, wrong) => {
  for (const text of right) expect(await accepts(jsonGrammar(schema), text), text).toBe(true);
  for (const text of wrong) expect(await accepts(jsonGrammar(schema), text), text).toBe(false);
});

/** Texts of these letters, up to a length. */
const textsOf = (letters: string, longest: number): string[] =>
  longest === 0
    ? ['']
    : ['', ...[...letters].flatMap((letter) => textsOf(letters, longest - 1).map((rest) => letter + rest))];

it('of texts that begin and end alike those are allowed, and no mixtures', async () => {
  expect(await accepts(jsonGrammar({ enum: ['abab', 'abb'] }), '"abaaab"')).toBe(false);
  const random = randomFrom(7);
  const pick = (count: number) => Math.floor(random() * count);
  const every = [...new Set(textsOf('ab', 5))];
  for (let round = 0; round < 12; round++) {
    const some = new Set(Array.from({ length: 3 + pick(6) }, () => every[1 + pick(every.length - 1)]!));
    const grammar = `root ::= ${[...some].map((text) => JSON.stringify(text)).join(' | ')}`;
    for (const text of every)
      expect(await accepts(grammar, text), `${text} of ${grammar}`).toBe(some.has(text));
  }
});

it.each<[Grammar, readonly string[], readonly string[]]>([
  ['root ::= [é-ë]+', ['é', 'êë'], ['', 'e', 'ì']],
  ['root ::= [a-cé\\u00ea-]', ['a', 'c', 'é', 'ê', '-'], ['d', 'ë']],
  ['root ::= [а-я]{2,3} # [я-а]', ['да', 'мир'], ['д', 'DA']],
  ['root ::= "[é-ë]" [^\\x00-\\x7f]', ['[é-ë]ж', '[é-ë]😀'], ['[é-ë]z', 'éж']],
  ['root ::= [z-\\U0010ffff]', ['z', 'é', '😀'], ['y']],
  ['root ::= [^é]+', ['e', 'êж😀', 'è'], ['é', 'aé', '']],
  ['root ::= [^"é-ë\\n]', ['ì', 'è', 'a', '😀'], ['ê', '"', '\n']],
  [{ regex: '[一-龥]{2}' }, ['文字', '一龥'], ['文', '文a', '文龦', 'ж文']],
  ['root ::= [\\ud000-\\ue0ff]', ['\ud000', '\ud7ff', '\ue000'], ['\ufffd', '\ucfff', '\ue100']],
  [{ regex: '[^一-龥]' }, ['a', 'é', '龦', '㐀', '😀'], ['文']],
  [{ regex: '[а-я]+' }, ['мир'], ['', 'mir']],
  [{ regex: '.\\.[\\s\\S]' }, ['é.\n', 'a.😀'], ['\n.a', 'ab.']],
  [{ regex: '[^\\dé]' }, ['a', 'ж'], ['5', 'é']],
  [{ regex: '[\\S]|[é\\D]' }, ['é', 'a', '文', ' '], ['']],
  [{ regex: '[^\\S\\n]' }, [' ', '\t'], ['é', 'a', '\n']],
  [{ regex: '[^\\W\\d_]' }, ['a', 'Z'], ['é', '5', '_', '-']],
  [{ regex: '[\\w-.]|[+-\\d]' }, ['a', '-', '.', '5', '+'], ['/', ',']],
  [{ regex: '^a\\^$|^[$^]$' }, ['a^', '$', '^'], ['a', '']],
  [{ regex: '\\[[^\\]-]?\\]' }, ['[a]', '[é]', '[]'], ['[-]', '[]]']],
])('classes of %j have whole characters', async (grammar, inside, outside) => {
  for (const text of inside) expect(await accepts(grammar, text), text).toBe(true);
  for (const text of outside) expect(await accepts(grammar, text), text).toBe(false);
});

it('classes at random are those of JavaScript', async () => {
  const random = randomFrom(11);
  const pick = (count: number) => Math.floor(random() * count);
  const letters = [
    'a',
    'z',
    '\x7f',
    '\x80',
    'é',
    '\u07ff',
    '\u0800',
    '文',
    '\ud7ff',
    '\ue000',
    '\uffff',
    '😀',
    '\u{3ffff}',
    '\u{10ffff}',
  ];
  const near = (code: number) =>
    [code - 1, code, code + 1].filter((one) => one < 0xd800 || (one > 0xdfff && one <= 0x10ffff));
  for (let round = 0; round < 40; round++) {
    const codes = Array.from({ length: 1 + pick(3) }, () =>
      [0, 0]
        .map(() => Math.max(97, letters[pick(letters.length)]!.codePointAt(0)! + pick(70) - 35))
        .map((code) => Math.min(code, 0x10ffff))
        .sort((a, b) => a - b),
    );
    const ends = codes.flat().filter((code) => code < 0xd800 || code > 0xdfff);
    if (ends.length < codes.length * 2) continue;
    const members = codes.map((range) => range.map((code) => `\\u{${code.toString(16)}}`).join('-')).join('');
    const regex = `[${pick(2) === 0 ? '^' : ''}${members}]`;
    const expected = new RegExp(`^${regex}$`, 'u');
    for (const code of ends.flatMap(near)) {
      const letter = String.fromCodePoint(code);
      expect(await accepts({ regex }, letter), `${code.toString(16)} of ${regex}`).toBe(
        expected.test(letter),
      );
    }
  }
});

it.each<[Grammar, string]>([
  ['root ::= [я-а]', 'a range of [я-а] ends before it begins'],
  [{ regex: '[^\\qé]' }, '[^\\qé] has an escape that is no character'],
  [{ regex: 'a^b' }, 'the anchor ^ stands elsewhere than at its beginning'],
  [{ regex: 'a|b^' }, 'the anchor ^ stands elsewhere than at its beginning'],
  [{ regex: '$a' }, 'the anchor $ stands elsewhere than at its end'],
  [{ regex: '(a$)?b' }, 'the anchor $ stands elsewhere than at its end'],
  [{ regex: 'x[^\\s\\S]y' }, 'the class [^\\s\\S] has no characters'],
  [{ regex: '[^\\D1\\d]' }, 'the class [^\\D1\\d] has no characters'],
  [{ regex: '[^\\x00-\\u{10ffff}]' }, 'the class [^\\x00-\\u{10ffff}] has no characters'],
  ['root ::= "a" [\\ud800-\\udfff]', 'the class [\\ud800-\\udfff] has no characters'],
  [{ regex: '\ud83d' }, 'half of a character'],
  [{ regex: '' }, 'it cannot be read'],
])('%j is refused: %s', async (grammar, why) => {
  await expect(bundled.mask(grammar, [end])).rejects.toThrow(`the grammar cannot be used: ${why}`);
});

it.each([
  [0, 15],
  [3, 16],
  [17, 17],
  [7, 60],
  [260, 260],
  [31, undefined],
])('lengths and numbers of items from %i to %s are kept to', async (least, most) => {
  const text = jsonGrammar({ type: 'string', minLength: least, maxLength: most });
  const list = jsonGrammar({ items: { const: 1 }, minItems: least, maxItems: most });
  const above = (most ?? 33) + 1;
  for (const size of new Set([least - 1, least, above - 1, above].filter((size) => size >= 0))) {
    const inside = size >= least && (most === undefined || size <= most);
    expect(await accepts(text, `"${'a'.repeat(size)}"`), `${size} characters`).toBe(inside);
    if (size > 40) continue;
    const items = Array.from({ length: size }, () => 1).join(', ');
    expect(await accepts(list, `[${items}]`), `${size} items`).toBe(inside);
  }
});

it('masks of whole numbers, digit by digit, are as their bounds', async () => {
  const most = 10 ** 15 - 1;
  const texts = ['0', '-0', '007', '9', '-1', '-8', '-276', '-277', '-300', '1000', '1235', '-123456'];
  for (const [low, high] of [
    [-276, most],
    [-most, 276],
    [7, 1234],
    [-12345, most],
    [-1000, 1000],
  ]) {
    const grammar = jsonGrammar({ type: 'integer', minimum: low, maximum: high });
    for (const text of [...texts, String(most), `1${most}`, `-1${most}`]) {
      const inside = String(Number(text)) === text && Number(text) >= low! && Number(text) <= high!;
      expect(await accepts(grammar, text), `${text} in ${low}..${high}`).toBe(inside);
    }
  }
});
