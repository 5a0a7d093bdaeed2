// Lengths that are counted beside a grammar: its masks are those of the grammar that has the bounds, token for token.
import { describe, expect, it } from 'vitest';
import { chatTemplate } from '../../runtime/chat/chat-template.ts';
import { toolForm } from '../../runtime/chat/tool-form.ts';
import { toolGrammar } from '../../runtime/chat/tool-grammar.ts';
import { callingOf, type ToolOption } from '../../runtime/chat/tools.ts';
import type { MaskOrEnd } from '../../runtime/engine/token-masks.ts';
import { Grammars } from '../../runtime/grammar/grammars.ts';
import { type JsonSchema, jsonGrammar } from '../../runtime/grammar/json-grammar.ts';
import type { BoundedGrammar } from '../../runtime/grammar/length-counter.ts';
import { measure } from '../../runtime/grammar/token-lengths.ts';
import type { Tokenizer } from '../../runtime/tokenizer/tokenizer.ts';
import { makeDirectory } from '../support/model-directory.ts';
import { randomSchema } from '../support/random-schemas.ts';
import { hermes, llama32, smolLm2 } from '../support/tool-templates.ts';

/** A generator of numbers from 0 to below 1. */
function randomOf(seed: number): () => number {
  let state = (seed * 2654435761 + 1) >>> 0;
  return () => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    return state / 2 ** 32;
  };
}

// Tokens that go on over the ends of texts and names, and through the middle of characters and escapes: all bytes, then pieces at random.
const pieces = [
  ...['"', '"', '"', ': ', ', ', '{', '}', '[', ']', 'a', 'b', 'z', 'kind', 'of', 'city', 'null', ' ', '\n'],
  ...['\\', '\\n', '\\"', '\\\\', 'n', '\u00e9', '\u4e16', '\ud83d\ude00', '<tool_call>', '</tool_call>'],
].map((text) => Buffer.from(text));
const parts = [...pieces, Buffer.of(0xe4), Buffer.of(0xb8), Buffer.of(0x96), Buffer.of(0xf0, 0x9f)];
const vocabulary: Buffer[] = Array.from({ length: 256 }, (_, byte) => Buffer.of(byte));
const chance = randomOf(7);
while (vocabulary.length < 2000) {
  const some = Array.from(
    { length: 1 + Math.floor(chance() * 5) },
    () => parts[Math.floor(chance() * parts.length)]!,
  );
  vocabulary.push(Buffer.concat(some));
}
const end = vocabulary.length;
const tokenizer = {
  size: end + 1,
  specialIds: new Set([end]),
  bytes: (id: number) => vocabulary[id] ?? Buffer.of(),
};
const grammars = new Grammars(tokenizer as unknown as Tokenizer, tokenizer.size);
const textOf = (id: number) => tokenizer.bytes(id).toString('latin1');

const idsOf = (words: MaskOrEnd): number[] =>
  Array.from({ length: tokenizer.size }, (_, id) => id).filter(
    (id) => (words as Int32Array)[id >> 5]! & (1 << (id & 31)),
  );

/** What a token may have that says much, and is rare among all that may come. */
const kinds = [/^[^"\\\x80-\xff]*$/, /"/, /"./, /".*"/, /\\/, /[\x80-\xff]/];

/** Follows a grammar for so many tokens at random, behind a text, and compares each mask with that of the one that has its bounds. @returns masks of it */
async function compare(grammar: BoundedGrammar, seed: number, most: number, before = ''): Promise<number> {
  const random = randomOf(seed);
  const [counted, exact] = [await grammars.mask(grammar, [end]), await grammars.mask(grammar.exact, [end])];
  let chosen: number[] = [];
  let text = before;
  let masks = 0;
  try {
    for (const next of Buffer.from(before)) {
      await Promise.all([counted.next(chosen), exact.next(chosen)]);
      chosen = [next];
    }
    for (; masks < most; masks++) {
      const ours: MaskOrEnd = await counted.next(chosen);
      const theirs: MaskOrEnd = await exact.next(chosen);
      if (ours === 'end' || theirs === 'end') {
        expect(ours, text).toBe(theirs);
        break;
      }
      const [may, should] = [idsOf(ours), idsOf(theirs)];
      const named = (ids: number[]) => ids.map(textOf);
      expect(named(may.filter((id) => !should.includes(id))), `allowed behind ${text}`).toEqual([]);
      expect(named(should.filter((id) => !may.includes(id))), `forbidden behind ${text}`).toEqual([]);
      const kind = kinds[Math.floor(random() * kinds.length)]!;
      const some = may.filter((id) => kind.test(textOf(id)));
      const from: number[] = some.length > 0 ? some : may;
      const token = from[Math.floor(random() * from.length)]!;
      chosen = [token];
      if (token === end) break;
      text += textOf(token);
    }
    return masks;
  } finally {
    counted.end();
    exact.end();
  }
}

const counted = (schema: JsonSchema): BoundedGrammar => {
  const grammar = jsonGrammar(schema);
  expect(typeof grammar, JSON.stringify(schema)).toBe('object');
  return grammar as BoundedGrammar;
};

const text = (minLength: number, maxLength?: number) => ({ type: 'string', minLength, maxLength });
const object = (properties: Record<string, unknown>, required = Object.keys(properties)) => ({
  ...{ type: 'object', properties, required, additionalProperties: false },
});

describe('masks of texts with bounds', () => {
  it.each([
    text(0, 0),
    text(0, 1),
    text(3, 3),
    text(2, 20),
    text(5),
    object({ a: text(0, 3), b: text(1, 2), c: { type: 'string' }, d: text(4, 9) }, ['b', 'd']),
    { type: 'array', items: text(0, 2), minItems: 2, maxItems: 5 },
    {
      type: 'array',
      prefixItems: [text(1, 4), { type: ['string', 'null'], maxLength: 2 }],
      items: text(0, 1),
    },
    { anyOf: [{ type: 'null' }, text(2, 6), object({ deep: object({ er: text(0, 2) }) })] },
    {
      anyOf: [
        object({ kind: { const: 'a' }, of: text(0, 2) }),
        object({ kind: { const: 'b' }, of: text(3, 5) }),
      ],
    },
    object({
      'say "hi"': text(0, 2),
      gr\u00f6\u00dfe: { enum: ['a"b\\c', 'na\u00efve \u4e16', 'x\ny'] },
      z: text(1, 3),
    }),
    { $ref: '#/$defs/a', $defs: { a: object({ v: text(0, 3), next: { $ref: '#/$defs/a' } }, ['v']) } },
  ])('of %j are those of the grammar with the bounds', async (schema) => {
    for (let seed = 0; seed < 2; seed++) expect(await compare(counted(schema), seed, 24)).toBeGreaterThan(0);
  });

  it('of 20 schemas at random are, too', async () => {
    let compared = 0;
    for (let seed = 0; compared < 20; seed++) {
      const grammar = jsonGrammar(randomSchema(seed));
      if (typeof grammar === 'string') continue;
      await compare(grammar, seed, 12);
      compared++;
    }
  });

  it.each(['auto', 'required'] as const)('of functions are, toolChoice %s', async (toolChoice) => {
    const parameters = object({ city: text(2, 5), days: { type: 'integer' } });
    const tools: ToolOption[] = ['weather', 'weather_at'].map((name) => ({ function: { name, parameters } }));
    for (const [i, template] of [hermes, llama32, smolLm2].entries()) {
      const form = toolForm(chatTemplate(makeDirectory({ 'chat_template.jinja': template })));
      const grammar = toolGrammar(form, callingOf({ tools, toolChoice })!) as BoundedGrammar;
      expect(Object.keys(grammar)).toContain('loose');
      const before = `${form.open}weather${form.middle}{"city": "`;
      await compare(grammar, i, 10);
      await compare(grammar, i, 20, before);
    }
  });
});

it('a beginning that could be read in two ways keeps its bounds in the grammar', () => {
  for (const schema of [
    { anyOf: [text(0, 3), { enum: ['abcd'] }] },
    { anyOf: [object({ a: text(0, 3) }), object({ a: text(5) })] },
    { anyOf: [object({ a: text(0, 3) }, []), object({ b: { type: 'string' } })] },
    { anyOf: [{ $ref: '#/$defs/a' }, text(1)], $defs: { a: text(0, 3) } },
    { anyOf: [{}, text(1)] },
  ]) {
    expect(typeof jsonGrammar(schema), JSON.stringify(schema)).toBe('string');
  }
});

it('characters of a token are counted once, where they begin', () => {
  const count = (latin1: string, escaped = false) => {
    const { characters, end, escaped: open } = measure(Buffer.from(latin1, 'latin1'), escaped);
    return [characters, end, open];
  };
  expect(count('abc')).toEqual([3, -1, false]);
  expect(count('\\n\\"a"b')).toEqual([3, 5, false]);
  expect(count('n\\', true)).toEqual([1, -1, true]);
  expect(count('\xb8\x96\xe4\xb8\x96\xf0')).toEqual([2, -1, false]);
});
