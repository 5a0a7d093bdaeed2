// Calls of functions: how a template's are read, which texts the masks allow, what becomes of them.
import { describe, expect, expectTypeOf, it } from 'vitest';
import { z } from 'zod';
import { z as z3 } from 'zod/v3';
import { type ChatMessage, chatTemplate } from '../../runtime/chat/chat-template.ts';
import { behindThinking, thinkingOf, thoughts } from '../../runtime/chat/thinking.ts';
import { toolForm } from '../../runtime/chat/tool-form.ts';
import { readForm, toolGrammar } from '../../runtime/chat/tool-grammar.ts';
import { type ToolCallPart, toolReader } from '../../runtime/chat/tool-reader.ts';
import { callingOf, type ToolChoice, type ToolOption } from '../../runtime/chat/tools.ts';
import type { MaskOrEnd } from '../../runtime/engine/token-masks.ts';
import { Grammars } from '../../runtime/grammar/grammars.ts';
import type { SchemaOption } from '../../runtime/grammar/json-schema.ts';
import type { ReplyOptions } from '../../runtime/sampling.ts';
import { makeDirectory, makeQwenDirectory } from '../support/model-directory.ts';
import { refusalOf } from '../support/refusal.ts';
import { served, tokenizer } from '../support/served.ts';
import { hermes, llama32, smolLm2, smolLm3, withoutTools } from '../support/tool-templates.ts';

const templateOf = (source: string) => chatTemplate(makeDirectory({ 'chat_template.jinja': source }));
const city = { type: 'object', properties: { city: { enum: ['Rome', 'Oslo'] } }, required: ['city'] };
const tool = (name: string, parameters?: ToolOption['function']['parameters']): ToolOption => ({
  type: 'function',
  function: { name, description: `Does ${name}.`, parameters },
});
const tools = [tool('weather', city), tool('weather_at', city), tool('clock')];
const forms = {
  qwen3: toolForm(chatTemplate(makeQwenDirectory())),
  llama: toolForm(templateOf(llama32)),
  smol: toolForm(templateOf(smolLm2)),
};
type FormName = keyof typeof forms;

/** A call as each form writes it, and two of them. */
const rome = '{"name": "weather", "arguments": {"city": "Rome"}}';
const time = '{"name": "clock", "arguments": {}}';
const written = {
  qwen3: {
    one: `<tool_call>\n${rome}\n</tool_call>`,
    two: `<tool_call>\n${rome}\n</tool_call>\n<tool_call>\n${time}\n</tool_call>`,
  },
  llama: { one: rome.replace('arguments', 'parameters'), two: null },
  smol: { one: `<tool_call>[${rome}]</tool_call>`, two: `<tool_call>[${rome}, ${time}]</tool_call>` },
} as const;

describe('the form of calls', () => {
  it('is read off what a template makes of some', () => {
    expect(forms.qwen3).toEqual({
      open: '<tool_call>\n{"name": "',
      middle: '", "arguments": ',
      next: '}\n</tool_call>\n<tool_call>\n{"name": "',
      close: '}\n</tool_call>',
      trigger: '<tool_call>',
      none: null,
    });
    expect(forms.llama).toMatchObject({ middle: '", "parameters": ', next: null, trigger: null });
    expect(forms.smol).toMatchObject({ next: '}, {"name": "', none: '<tool_call>[]</tool_call>' });
    expect(toolForm(templateOf(smolLm3))).toEqual(forms.qwen3);
  });

  it('is refused where a template knows no tools, or writes something else', () => {
    expect(refusalOf(() => toolForm(templateOf(withoutTools))).message).toContain('knows no tools');
    const silent = `{{- tools | tojson }}{%- for m in messages %}{{- m.content }}{%- endfor %}`;
    expect(refusalOf(() => toolForm(templateOf(silent))).message).toContain('in a form that is not read');
  });

  it('of SmolLM3 is what its own template takes for the text of a message', () => {
    const template = templateOf(smolLm3);
    const call = { type: 'function', function: { name: 'clock', arguments: { at: 'Rome' } } };
    const messages = [
      { role: 'user', content: 'When?' },
      { role: 'assistant', content: 'So.', tool_calls: [call, call] },
      { role: 'tool', content: 'noon' },
    ];
    const text = template(messages, { tools });
    expect(text).toContain('named SmolLM, trained by Hugging Face.\n<tools>\n{"type": "function"');
    const one = '\n<tool_call>\n{"name": "clock", "arguments": {"at": "Rome"}}\n</tool_call>';
    expect(text).toContain(`<|im_start|>assistant\nSo.${one}${one}<|im_end|>`);
    expect(text.split('<|im_end|>').at(-2)).toBe('\n<|im_start|>user\nnoon');
    expect(template(messages.slice(0, 1))).not.toContain('<tools>');
  });

  it('keeps special tokens in descriptions of functions text, in the names of their parameters too', () => {
    const plain = (text: string) => text.replaceAll('<|im_end|>', '<>');
    const told = tool('f', { type: 'object', properties: { '<|im_end|>': { description: 'x<|im_end|>' } } });
    const text = templateOf(hermes)([{ role: 'user', content: '' }], { tools: [told], plain });
    expect(text).toContain('{"<>": {"description": "x<>"}}');
  });
});

const grammars = new Grammars(tokenizer, tokenizer.size);
const end = tokenizer.idOf('<|im_end|>')!;
const allows = (words: MaskOrEnd, id: number) =>
  typeof words === 'string'
    ? words === 'end' && id === end
    : words === null || ((words[id >> 5]! >> (id & 31)) & 1) === 1;

/** How many characters of a text a grammar allows; its length + 1 where the text may also end. */
async function allowed(grammar: Parameters<Grammars['mask']>[0], text: string): Promise<number> {
  const mask = await grammars.mask(grammar, [end]);
  let words = await mask.next([]);
  let at = 0;
  for (const letter of text) {
    for (const id of tokenizer.encode(letter)) {
      if (!allows(words, id)) return at;
      words = await mask.next([id]);
    }
    at++;
  }
  const whole = allows(words, end);
  mask.end();
  return whole ? at + 1 : at;
}

describe.each(Object.keys(forms) as FormName[])('the masks of %s', (name) => {
  const { one, two } = written[name];
  const grammarOf = (toolChoice: ToolChoice, parallelToolCalls?: boolean) =>
    toolGrammar(forms[name], callingOf({ tools, toolChoice, parallelToolCalls })!);
  const whole = (text: string) => text.length + 1;

  it('allow text and calls as the model decides, and a call that begins is one of a function', async () => {
    const auto = grammarOf('auto');
    for (const text of ['', 'A < b.', 'Né {"name": 1}', one, ...(two === null ? [] : [two])]) {
      expect(await allowed(auto, text), text).toBe(whole(text));
    }
    const wrongName = one.replace('weather', 'weathering');
    expect(await allowed(auto, wrongName)).toBe(wrongName.indexOf('ing"'));
    const wrongCity = one.replace('Rome', 'Oxford');
    expect(await allowed(auto, wrongCity)).toBe(wrongCity.indexOf('xford'));
    expect(await allowed(auto, `${one} and`)).toBe(one.length);
    expect(await allowed(auto, one.slice(0, -1))).toBe(one.length - 1);
  });

  it('require a call, or that of one function', async () => {
    expect(await allowed(grammarOf('required'), one)).toBe(whole(one));
    expect(await allowed(grammarOf('required'), 'A')).toBe(0);
    const named = grammarOf({ name: 'weather_at' });
    expect(await allowed(named, one)).toBe(one.indexOf('", "', 10));
    expect(await allowed(named, one.replace('weather', 'weather_at'))).toBe(whole(one) + 3);
  });

  it('allow one call alone where it is so asked', async () => {
    if (two === null) return;
    expect(await allowed(grammarOf('auto', false), two)).toBeLessThan(two.length);
    expect(await allowed(grammarOf('auto', false), one)).toBe(whole(one));
  });
});

describe.each(Object.keys(forms) as FormName[])('beside a schema, the masks of %s', (name) => {
  const warm = { type: 'object', properties: { warm: { type: 'boolean' } }, required: ['warm'] };
  const calling = (schema: SchemaOption, toolChoice?: ToolChoice) =>
    callingOf({ tools, schema, toolChoice })!;
  const { one, two } = written[name];

  it('allow calls or a text of it, and nothing else', async () => {
    const form = readForm(forms[name], calling(warm));
    const grammar = toolGrammar(form, calling(warm));
    const json = '{"warm": true}';
    for (const text of [json, one, ...(two === null ? [] : [two])]) {
      expect(await allowed(grammar, text), text).toBe(text.length + 1);
      const reader = toolReader(form, calling(warm).tools);
      const said = reader.push(text).text + reader.end().text;
      expect([said, reader.calls.length > 0]).toEqual(text === json ? [json, false] : ['', true]);
    }
    expect(await allowed(grammar, 'A')).toBe(0);
    expect(await allowed(grammar, `${json} ${one}`)).toBe(json.length);
    expect(await allowed(toolGrammar(form, calling(warm, 'required')), json)).toBeLessThan(3);
  });

  it('are refused where a text of it may begin as a call', () => {
    const asked = calling({ type: 'object' });
    const make = () => toolGrammar(readForm(forms[name], asked), asked);
    if (name !== 'llama') expect(make).not.toThrow();
    else expect(refusalOf(make).message).toContain('may begin as the calls of this model do, with "{\\"name');
  });
});

it('a grammar of any text lets it end', async () => {
  expect(await allowed(String.raw`root ::= [\0-\U0010ffff]*`, 'A nut.')).toBe(7);
});

it('a list of no calls is no call, and may not be required', async () => {
  const grammar = (toolChoice: ToolChoice) => toolGrammar(forms.smol, callingOf({ tools, toolChoice })!);
  const none = forms.smol.none!;
  expect(await allowed(grammar('auto'), none)).toBe(none.length + 1);
  expect(await allowed(grammar('required'), none)).toBe('<tool_call>['.length);
});

/** What a reader makes of a text that comes in pieces of so many characters. */
function readIn(name: FormName, text: string, size: number) {
  const reader = toolReader(forms[name], callingOf({ tools })!.tools);
  const all: ToolCallPart[] = [];
  let said = '';
  for (let at = 0; at < text.length; at += size) {
    const told = reader.push(text.slice(at, at + size));
    said += told.text;
    all.push(...told.parts);
  }
  said += reader.end().text;
  const json = (index: number) =>
    all.flatMap((part) => (part.index === index ? part.arguments : [])).join('');
  return { said, calls: reader.calls, names: all.flatMap(({ name }) => name ?? []), json };
}

describe.each(Object.keys(forms) as FormName[])('the reader of %s', (name) => {
  const { one, two } = written[name];

  it.each([1, 2, 7, 1000])('tells calls from text in pieces of %i', (size) => {
    const before = name === 'llama' ? '' : 'Let me <see>.';
    const read = readIn(name, `${before}${before && '\n\n'}${two ?? one}`, size);
    expect(read.said).toBe(before);
    expect(read.names).toEqual(two === null ? ['weather'] : ['weather', 'clock']);
    expect(read.calls[0]).toMatchObject({ name: 'weather', arguments: { city: 'Rome' } });
    expect(read.json(0)).toBe('{"city": "Rome"}');
    if (two !== null) expect(read.json(1)).toBe('{}');
  });

  it.each([1, 5, 1000])('leaves other text as it is, in pieces of %i', (size) => {
    for (const text of ['A <tool or {"x": 1} \n', '{"na', ' ', '<tool_call', '']) {
      expect(readIn(name, text, size)).toMatchObject({ said: text, calls: [] });
    }
  });

  it('has no call of one that is cut', () => {
    for (let length = one.indexOf('"'); length < one.indexOf('}'); length++) {
      expect(readIn(name, one.slice(0, length), 3).calls).toEqual([]);
    }
  });
});

const question: ChatMessage[] = [{ role: 'user', content: 'Is it warm?' }];

describe('chat with tools', () => {
  // An instance of the grammars takes seconds of a processor to be compiled.
  const { llm, engine } = served({ template: hermes, context: 2048 });

  it('says what it says, then calls, with arguments of the types of zod', async () => {
    engine.says(`Let me see.\n${written.qwen3.two}`);
    const zod = z.object({ city: z.enum(['Rome', 'Oslo']).transform((name) => name.length) });
    const reply = llm.chat(question, {
      tools: [tool('clock'), { function: { name: 'weather', parameters: zod } }],
    });
    const pieces: string[] = [];
    for await (const { text } of reply) pieces.push(text);
    const { text, finish, toolCalls } = await reply.result();
    expect([text, pieces.join(''), finish]).toEqual(['Let me see.', 'Let me see.', 'tool_calls']);
    expect(toolCalls!.map(({ name, arguments: given }) => [name, given])).toEqual([
      ['weather', { city: 'Rome' }],
      ['clock', {}],
    ]);
    const [weather] = await reply.toolCalls();
    expect(weather).toEqual({
      id: expect.stringMatching(/^call_\w{24}$/),
      name: 'weather',
      arguments: { city: 4 },
    });
    expect(engine.calls.at(-1)!.prompt).toContain('"name": "weather"');
    expect(engine.calls.at(-1)!.prompt).toContain('"enum": ["Rome", "Oslo"]');
  });

  it('gives calls the types of their functions', () => {
    const reply = llm.chat([], {
      tools: [
        { function: { name: 'add', parameters: z.object({ a: z.number() }) } },
        { function: { name: 'clock' } },
      ],
    });
    type Calls = Awaited<ReturnType<typeof reply.toolCalls>>;
    expectTypeOf<Calls[number]['name']>().toEqualTypeOf<'add' | 'clock'>();
    expectTypeOf<Extract<Calls[number], { name: 'add' }>['arguments']>().toEqualTypeOf<{ a: number }>();
  });

  it('is either calls or JSON of a schema', async () => {
    const schema = z.object({ warm: z.enum(['a <tool_call>', 'no']) });
    const ask = () => llm.chat(question, { tools, schema });
    engine.says(written.qwen3.two);
    expect(await ask().toolCalls()).toHaveLength(2);
    await expect(ask().json()).rejects.toThrow('the reply is calls of functions, and no JSON');
    engine.says('{"warm": "a <tool_call>"}');
    expect(await ask().json()).toEqual({ warm: 'a <tool_call>' });
    expect(await ask().toolCalls()).toEqual([]);
    const required = llm.chat(question, { tools, schema, toolChoice: 'required' }).result();
    await expect(required).rejects.toThrow('the mask forbids "{"');
  });

  it('goes on from the results of calls in a session', async () => {
    engine.says(written.qwen3.two);
    const session = llm.session({ reply: { tools } });
    const calls = await session.chat('Is it warm?').toolCalls();
    const results = calls.map(({ id }) => ({ role: 'tool', tool_call_id: id, content: `of ${id}` }));
    await session.chat(results).result();
    expect(engine.calls.at(-1)!.prompt).toContain(results[1]!.content);
    const prompt = llm.renderPrompt(session.messages, { tools });
    expect(prompt).toContain(`assistant\n${written.qwen3.two}<|im_end|>\n<|im_start|>tool`);
  });

  it('is cut, or stopped by a text before its calls', async () => {
    engine.says(`Let me see.\n${written.qwen3.one}`);
    const ended = async (options: ReplyOptions) => {
      const { text, finish, toolCalls } = await llm.chat(question, { tools, ...options }).result();
      return [text, finish, toolCalls?.length];
    };
    expect(await ended({ stop: 'see' })).toEqual(['Let me ', 'stop', 0]);
    const held = { stop: ['Rome', '.\n<tool'] };
    expect(await ended(held)).toEqual(['Let me see.', 'tool_calls', 1]);
    const kinds: string[] = [];
    for await (const { text, toolCalls } of llm.chat(question, { tools, ...held })) {
      if (text !== '') kinds.push('text');
      if (toolCalls !== undefined) kinds.push('call');
    }
    expect(kinds.lastIndexOf('text')).toBe(kinds.indexOf('call') - 1);
    const before = tokenizer.encode('Let me see.\n<tool_call>\n{"name": "weather').length;
    expect(await ended({ maxTokens: before })).toEqual(['Let me see.', 'length', 0]);
    expect(await ended({ toolChoice: 'none' })).toEqual([
      `Let me see.\n${written.qwen3.one}`,
      'stop',
      undefined,
    ]);
  });

  it.each<[ReplyOptions, string]>([
    [{ tools: [] }, 'options.tools: '],
    [{ tools: [tool('a b')] }, 'options.tools.0.function.name: expected up to 64 letters'],
    [{ tools: [tool('a'), tool('a')] }, 'options.tools has two functions a'],
    [{ tools: [tool('a', { type: 'array' })] }, 'the parameters of a are of type "array"'],
    [{ tools: [tool('a', { anyOf: [{}] })] }, 'the parameters of a are said by anyOf'],
    [{ tools, toolChoice: { name: 'b' } }, 'options.toolChoice names a function that is not in'],
    [
      { tools, toolChoice: { names: [tools[0]!.function.name, 'b'], mode: 'auto' } },
      'options.toolChoice names a function that is not in',
    ],
    [{ toolChoice: 'required' }, 'options has no tools'],
    [{ tools: [Object.assign(tool('a'), { strict: true })] }, 'options.tools.0 has no strict'],
    [
      { tools, schema: { type: 'string', multipleOf: 2 } },
      'the schema cannot be followed at #: the keyword multipleOf',
    ],
    [{ tools, grammar: 'root ::= "a"' }, 'options has both tools and grammar'],
    [
      { tools: [tool('a', { type: 'object', properties: { b: { multipleOf: 2 } } })] },
      'the parameters of a: the schema cannot be followed at #.properties.b: the keyword multipleOf',
    ],
  ])('%j is refused: %s', async (options, why) => {
    await expect(llm.chat(question, options).result()).rejects.toThrow(why);
  });

  it.each([
    [z3.object({}), 'a schema of zod 3'],
    [{ '~standard': { version: 1, vendor: 'valibot' }, kind: 'schema' }, 'a schema of valibot'],
  ])('is refused where a schema is neither JSON Schema nor of zod 4, as %#', async (other, why) => {
    const schema = other as unknown as SchemaOption;
    const [said, called] = [{ schema }, { tools: [tool('a', schema as Record<string, unknown>)] }];
    await expect(llm.chat(question, said).result()).rejects.toThrow(`options.schema: ${why}`);
    await expect(llm.chat(question, called).result()).rejects.toThrow(`the parameters of a: ${why}`);
  });

  it('is refused of a model whose template knows no tools, and of texts', async () => {
    await expect(served({ template: withoutTools }).llm.chat(question, { tools }).result()).rejects.toThrow(
      'knows no tools',
    );
    await expect(llm.complete('A', { tools }).result()).rejects.toThrow('is for chat');
  });

  it('refuses messages whose calls cannot be read', () => {
    const said = (toolCalls: unknown) => () =>
      llm.renderPrompt([...question, { role: 'assistant', toolCalls }], { tools });
    expect(refusalOf(said([{}])).message).toContain('messages.1.toolCalls: expected { id, name, arguments }');
    expect(refusalOf(said([{ name: 'a', arguments: '{' }])).message).toContain('that are no JSON');
  });
});

describe('thinking', () => {
  const [begin, close, word, call] = [1, 2, 3, 4];
  const mask = { next: (tokens: readonly number[]) => Int32Array.of(tokens[0] ?? -1), end: () => {} };
  const seen = (thinking: Parameters<typeof behindThinking>[1], tokens: readonly number[]) => {
    const { next } = behindThinking(mask, thinking);
    return [[], ...tokens.map((token) => [token])].map(
      (each) => (next(each) as Int32Array | null)?.[0] ?? 'any',
    );
  };

  it('is not masked, nor read as calls: from its first token to its last', () => {
    const thinking = { begin, end: close, opened: false };
    expect(seen(thinking, [begin, word, close, call, begin])).toEqual([-1, 'any', 'any', -1, call, begin]);
    expect(seen(thinking, [word, begin, call])).toEqual([-1, word, begin, call]);
    expect([begin, word, close, call, begin].map(thoughts(thinking))).toEqual([
      true,
      true,
      true,
      false,
      false,
    ]);
    expect(seen({ ...thinking, opened: true }, [word, close, call])).toEqual(['any', 'any', -1, call]);
    expect(seen(null, [begin, call])).toEqual([-1, begin, call]);
  });

  it('is opened by the prompt, or asked for', () => {
    const idOf = (token: string) => ({ '<think>': begin, '</think>': close })[token];
    const of = (prompt: number[], asked?: boolean) => thinkingOf({ idOf }, prompt, asked)?.opened;
    expect([of([word, begin, word]), of([begin, word, word]), of([], true), of([begin], false)]).toEqual([
      ...[true, false, true, undefined],
    ]);
  });
});
