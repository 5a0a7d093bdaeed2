// Tokens that a grammar forces: what they are expected to be, and that looking ahead changes no mask.
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { packageRoot } from '../../codegen/build/package-root.ts';
import { randomFrom } from '../../lab/random.ts';
import { type Foreseen, isAllowed, type MaskOrEnd } from '../../runtime/engine/token-masks.ts';
import { ForcedTokens } from '../../runtime/grammar/forced-tokens.ts';
import { Grammars, type MaskedBy } from '../../runtime/grammar/grammars.ts';
import { remember } from '../../runtime/grammar/recent.ts';
import { grammarOf } from '../../runtime/reply-grammar.ts';
import { loadTokenizer } from '../../runtime/tokenizer/tokenizer.ts';
import { maskOf } from '../support/choices.ts';
import { randomSchema } from '../support/random-schemas.ts';

describe('a text', () => {
  const spelled = ['', 'a', 'b', 'ab', 'abc', 'c', 'bc', 'abd'];
  const [a, b, ab, abc, c, bc, abd] = [1, 2, 3, 4, 5, 6, 7];
  const textOf = (...ids: number[]) => new ForcedTokens(spelled).text(maskOf(ids, spelled.length));

  it('is what all tokens of a mask begin with, or are the beginning of', () => {
    expect(textOf(a, ab, abc)).toBe('abc');
    expect(textOf(a, ab, abc, abd)).toBe('ab');
    expect(textOf(a, abc, abd)).toBe('ab');
    expect(textOf(c)).toBe('c');
    expect(textOf(b, bc)).toBe('bc');
    expect(textOf(a, ab, b)).toBe('');
    expect(textOf()).toBe('');
  });

  it('is that of tokens of all words of a mask', () => {
    const many = Array.from({ length: 100 }, (_, i) => 'x'.repeat(i % 50));
    const forced = new ForcedTokens([...many, 'xxy', 'z']);
    expect(forced.text(maskOf([31, 32, 49], 102))).toBe(many[49]);
    expect(forced.text(maskOf([31, 49, 100], 102))).toBe('xx');
    expect(forced.text(maskOf([31, 49, 101], 102))).toBe('');
    // Bits of no token.
    expect(forced.text(maskOf([31, 49, 120, 127], 128))).toBe(many[49]);
  });

  it('is none where more than 1,000 tokens begin with it', () => {
    const many = Array.from({ length: 1001 }, (_, i) => `x${i}`);
    const textOf = (count: number) =>
      new ForcedTokens(many).text(maskOf([...many.keys()].slice(0, count), 1024));
    expect([textOf(1000), textOf(1001)]).toEqual(['x', '']);
  });

  it('begins with its longest token, or with what was chosen of it before', () => {
    const forced = new ForcedTokens(spelled);
    expect([forced.first('abcab'), forced.first('abxab'), forced.first('')]).toEqual([abc, ab, undefined]);
    forced.note('abc', a);
    expect([forced.first('abc'), forced.first('bc')]).toEqual([a, bc]);
    forced.note('abc', ab);
    expect([forced.first('abc'), forced.first('abd')]).toEqual([ab, abd]);
    forced.note('abc', abc);
    expect(forced.first('abc')).toBe(abc);
  });

  it('has not begun with a token that says more, or something else', () => {
    const forced = new ForcedTokens(spelled);
    for (const token of [abc, c, 0]) forced.note('ab', token);
    expect(forced.first('ab')).toBe(ab);
  });
});

it('a map keeps what was used last', () => {
  const map = new Map<string, number>();
  const drops = ['a', 'b', 'a', 'c', 'd'].map((key, i) => remember(map, key, i, 2));
  expect(drops).toEqual([undefined, undefined, undefined, 1, 2]);
  expect([...map]).toEqual([
    ['c', 3],
    ['d', 4],
  ]);
});

describe('of random schemas and grammars', async () => {
  const tokenizer = loadTokenizer(join(packageRoot(), 'models/qwen3-tiny'));
  const grammars = new Grammars(tokenizer, tokenizer.size);
  const end = 2;
  const others: MaskedBy[] = [
    'root ::= ("abra" | "abracadabra" [0-9])+',
    { regex: 'one (two|three) four{2}' },
  ];

  const allowedOf = (mask: MaskOrEnd): number[] =>
    mask instanceof Int32Array
      ? Array.from({ length: tokenizer.size }, (_, id) => id).filter((id) => isAllowed(mask, id))
      : [];

  it('masks are those that are made one by one, and so is what comes behind them', {
    timeout: 120_000,
  }, async () => {
    let [expected, met, bounded] = [0, 0, 0];
    for (let seed = 0; seed < 40; seed++) {
      const random = randomFrom(seed);
      const grammar = others[seed] ?? grammarOf({ schema: randomSchema(seed) })!;
      if (typeof grammar === 'object' && 'exact' in grammar) bounded++;
      const plain = await grammars.mask(grammar, [end]);
      const ahead = await grammars.mask(grammar, [end]);
      let known = await ahead.next([]);
      const foresee = async () => {
        const told = await ahead.foresee?.()?.(8);
        expected += told?.tokens.length ?? 0;
        return told;
      };
      let foreseen = await foresee();
      let passed: number[] = [];
      for (let step = 0, tokens: number[] = []; step < 120; step++) {
        const mask = await plain.next(tokens);
        expect(known, `${seed}, step ${step}`).toEqual(mask);
        if (!(mask instanceof Int32Array)) break;
        const likely = foreseen?.tokens[passed.length];
        const allowed = allowedOf(mask);
        const token =
          likely !== undefined && random() < 0.8 ? likely : allowed[Math.floor(random() * allowed.length)]!;
        tokens = [token];
        passed.push(token);
        if (token === likely) {
          known = foreseen!.masks[passed.length - 1]!;
          met++;
          continue;
        }
        known = await ahead.next(passed);
        foreseen = await foresee();
        passed = [];
      }
      plain.end();
      ahead.end();
    }
    expect(bounded).toBeGreaterThan(5);
    expect(met).toBeGreaterThan(200);
    expect(expected).toBeGreaterThan(met);
  });

  it('a token that ends the reply is none, though it is of the text', async () => {
    const foreseenBefore = async (...stopIds: number[]) => {
      const mask = await grammars.mask('root ::= "hello world;" [0-9]', [end, ...stopIds]);
      await mask.next([]);
      const { tokens } = (await mask.foresee!()!(8)) as Foreseen;
      expect(await mask.next(tokens)).toBeInstanceOf(Int32Array);
      mask.end();
      return tokens;
    };
    const [first, second] = await foreseenBefore();
    expect(await foreseenBefore(second!)).toEqual([first]);
  });

  it('a text without an end is foreseen as far as is asked for', async () => {
    const mask = await grammars.mask('root ::= "word " root', [end]);
    await mask.next([]);
    const { tokens } = (await mask.foresee!()!(8)) as Foreseen;
    expect(tokens.length).toBe(8);
    expect(tokenizer.decode(tokens)).toMatch(/^word word/);
    mask.end();
  });

  it('what a model made of a text is expected again', async () => {
    const mask = await grammars.mask('root ::= ("hello world;" [0-9])+', [end]);
    const letters = [...'hello world;7'].flatMap((letter) => tokenizer.encode(letter));
    const foreseenBehind = async (tokens: readonly number[]) => {
      await mask.next(tokens);
      return (await mask.foresee?.()?.(20))?.tokens ?? [];
    };
    const longest = await foreseenBehind([]);
    expect(longest.length).toBeLessThan(letters.length - 1);
    let foreseen: readonly number[] = [];
    for (const letter of letters) foreseen = await foreseenBehind([letter]);
    // A digit or the next round: nothing is forced.
    expect(foreseen).toEqual([]);
    expect(await foreseenBehind(tokenizer.encode('h'))).toEqual(letters.slice(1, -1));
    mask.end();
  });
});
