// Grammars beside the event loop: what others do while one is compiled, and what is left of those that nobody needs any more.
import { join } from 'node:path';
import { afterAll, describe, expect, it, vi } from 'vitest';
import { packageRoot } from '../../codegen/build/package-root.ts';
import { GrammarThreads } from '../../runtime/grammar/grammar-threads.ts';
import { checkGrammar, Grammars } from '../../runtime/grammar/grammars.ts';
import { jsonGrammar } from '../../runtime/grammar/json-grammar.ts';
import { shareTokens, textsOf } from '../../runtime/grammar/shared-tokens.ts';
import { loadXGrammar, type XGrammar } from '../../runtime/grammar/xgrammar.ts';
import { Thread } from '../../runtime/thread.ts';
import { loadTokenizer } from '../../runtime/tokenizer/tokenizer.ts';
import { failureOf } from '../support/refusal.ts';

const tokenizer = loadTokenizer(join(packageRoot(), 'models', 'qwen3-tiny'));
const { size } = tokenizer;
const end = 2;
const never = new AbortController().signal;
const threads = new GrammarThreads(tokenizer, size);
afterAll(() => threads.close());

/** Takes a while to compile: of each optional property all behind it may come next. */
const slow = jsonGrammar({
  type: 'object',
  properties: Object.fromEntries(Array.from({ length: 40 }, (_, i) => [`property_${i}`, {}])),
}) as string;

it('masks are made while another grammar is compiled, whose reply may leave', async () => {
  const mask = (await threads.mask('root ::= "a"*', [end], never))!;
  const leaving = new AbortController();
  const order: string[] = [];
  const stays = threads.mask(slow, [end], never).then((made) => order.push(made === null ? 'none' : 'made'));
  const left = threads.mask(slow, [end], leaving.signal).then((made) => order.push(`left with ${made}`));
  const [a] = tokenizer.encode('a');
  expect(await mask.next([])).toEqual(await mask.next([a!]));
  order.push('masks');
  leaving.abort();
  await left;
  await stays;
  expect(order).toEqual(['masks', 'left with null', 'made']);
});

it('a refusal comes out of a thread as it is', async () => {
  const refused = 'root ::= (';
  const here = await failureOf(new Grammars(tokenizer, size).mask(refused, [end]));
  const { kind, message, hint } = await failureOf(threads.mask(refused, [end], never));
  expect({ kind, message, hint }).toEqual({ kind: here.kind, message: here.message, hint: here.hint });
});

it('what waits for a grammar when the model is closed gets none, and masks that were made are made on', async () => {
  const some = new GrammarThreads(tokenizer, size);
  const mask = (await some.mask('root ::= "a"*', [end], never))!;
  const waiting = some.mask(slow, [end], never);
  await new Promise((resolve) => setImmediate(resolve));
  some.close();
  expect(await waiting).toBeNull();
  expect(await mask.next([])).toBeInstanceOf(Int32Array);
  mask.end();
  await expect(mask.next([])).rejects.toThrow('ended');
});

it('threads share what tokens add to a text', async () => {
  const { bytes, specialIds } = textsOf(await shareTokens(tokenizer, size));
  for (let id = 0; id < size; id++) expect([...bytes(id)], `${id}`).toEqual([...tokenizer.bytes(id)]);
  expect(specialIds).toEqual(tokenizer.specialIds);
});

/** Grammars that are counted: those that are compiled, and those of them that are freed. */
function counted() {
  const count = { compiled: 0, freed: 0 };
  const load = async (): Promise<XGrammar> => {
    const loaded = await loadXGrammar();
    class Counted extends loaded.package.CompiledGrammar {
      constructor(handle: unknown) {
        super(handle);
        count.compiled++;
      }
      override dispose(): void {
        super.dispose();
        count.freed++;
      }
    }
    return { ...loaded, package: { ...loaded.package, CompiledGrammar: Counted } };
  };
  return { count, grammars: new Grammars(tokenizer, size, load) };
}

it('grammars beyond the last 32 are freed, and their masks go on', async () => {
  const { count, grammars } = counted();
  const masks = await Promise.all(
    Array.from({ length: 40 }, (_, i) => grammars.mask(`root ::= "${i}a"`, [end])),
  );
  expect(count).toEqual({ compiled: 40, freed: 8 });
  for (const mask of masks) expect(await mask.next([])).toBeInstanceOf(Int32Array);
});

it('equal grammars that are asked for at once are compiled once', async () => {
  const { count, grammars } = counted();
  await Promise.all([1, 2, 3].map(() => grammars.mask('root ::= "a"', [end])));
  expect(count.compiled).toBe(1);
});

it('reading a grammar has a limit, too', async () => {
  const classes = `root ::= ${'[а-яѐ-џ㐀-䶵]'.repeat(20_000)}`;
  await expect(checkGrammar(classes, 100)).rejects.toThrow('compiling it takes more than');
});

/** Does something while each look at the clock finds it so much later [ms]. */
async function slowly<T>(millis: number, make: () => T | Promise<T>): Promise<T> {
  let now = 0;
  const clock = vi.spyOn(performance, 'now').mockImplementation(() => (now += millis));
  try {
    return await make();
  } finally {
    clock.mockRestore();
  }
}

it('a mask has a limit, since each one takes longer where a text can be read in many ways', async () => {
  const mask = await new Grammars(tokenizer, size).mask('root ::= "a"*', [end]);
  expect(await slowly(5000, () => mask.next([]))).toBeInstanceOf(Int32Array);
  const { kind, message } = await failureOf(slowly(5100, () => mask.next(tokenizer.encode('a'))));
  expect([kind, message]).toEqual(['usage', 'what may come next took 5.1 s to find']);
});

describe('behind its first reply', () => {
  const forced = 'root ::= "abc" "a"*';
  /** Whether a mask was made in another thread; the first of a reply. */
  async function isApart(some: GrammarThreads): Promise<boolean> {
    const calls = vi.spyOn(Thread.prototype, 'call');
    const mask = (await some.mask(forced, [end], never))!;
    await mask.next([]);
    mask.end();
    const names = calls.mock.calls.map(([name]) => name);
    // What it took there is told when it has ended.
    await Promise.all(calls.mock.results.map(({ value }) => value));
    calls.mockRestore();
    return names.includes('next');
  }

  it.each([
    ['quick', Number.POSITIVE_INFINITY, false],
    ['slow', 0, true],
  ])('a grammar that is %s has its masks made in the fitting thread', async (_, quick, stays) => {
    const some = new GrammarThreads(tokenizer, size, quick);
    expect([await isApart(some), await isApart(some)]).toEqual([true, stays]);
    some.close();
  });

  it.each([
    ['slow', 'next'],
    ['slow to foresee', 'foresee'],
  ])('a grammar of this thread that turns out to be %s goes back to another one', async (_, what) => {
    const some = new GrammarThreads(tokenizer, size, 1000);
    expect([await isApart(some), await isApart(some)]).toEqual([true, false]);
    const mask = (await some.mask(forced, [end], never))!;
    if (what === 'next') await slowly(1000, () => mask.next([]));
    else {
      await mask.next([]);
      await slowly(1000, () => mask.foresee!()!(8));
    }
    mask.end();
    expect(await isApart(some)).toBe(true);
    some.close();
  });

  it('so it does in the middle of a reply, which goes on as it would have', async () => {
    const some = new GrammarThreads(tokenizer, size, 1000);
    const [a, b, c] = ['a', 'b', 'c'].map((letter) => tokenizer.encode(letter)[0]!);
    const said = [a!, b!, c!, a!, a!];
    await isApart(some);
    const mask = (await some.mask(forced, [end], never))!;
    const alone = await new Grammars(tokenizer, size).mask(forced, [end]);
    const calls = vi.spyOn(Thread.prototype, 'call');
    for (const i of [-1, 0, 1, 2, 3, 4]) {
      const tokens = i < 0 ? [] : [said[i]!];
      const masks = [
        await (i === 1 ? slowly(1000, () => mask.next(tokens)) : mask.next(tokens)),
        await alone.next(tokens),
      ];
      expect(masks[0], `behind ${i + 1} tokens`).toEqual(masks[1]);
      expect(calls.mock.calls.map(([name]) => name)).toEqual(
        i < 2 ? [] : ['open', ...Array.from({ length: i - 1 }, () => 'next')],
      );
    }
    const others = calls.mock.calls.length;
    mask.end();
    expect(calls.mock.calls.slice(others).map(([name]) => name)).toEqual(['end']);
    calls.mockRestore();
    some.close();
  });

  it.each(['aborted', 'left'])(
    'a reply that is %s while its mask goes there is not complete',
    async (how) => {
      const some = new GrammarThreads(tokenizer, size, 1000);
      const abort = new AbortController();
      await isApart(some);
      const mask = (await some.mask(forced, [end], abort.signal))!;
      await slowly(1000, () => mask.next([]));
      const going = mask.next(tokenizer.encode('a'));
      if (how === 'aborted') abort.abort();
      mask.end();
      expect(await going).toBe('abort');
      some.close();
    },
  );
});

it('what took long to be refused is refused at once when it comes again, also while it is looked at', async () => {
  const call = vi.spyOn(Thread.prototype, 'call');
  const opens = () => call.mock.calls.filter(([name]) => name === 'open').length;
  const impatient = new GrammarThreads(tokenizer, size, 0);
  const ask = () => failureOf(impatient.mask('root ::= (', [end], never));
  const refusals = [...(await Promise.all([ask(), ask(), ask()])), await ask()];
  for (const { kind, message } of refusals)
    expect({ kind, message }).toMatchObject({ kind: 'usage', message: refusals[0]!.message });
  expect(opens()).toBe(1);
  // What is wrong with another option is no refusal of the grammar.
  expect((await failureOf(impatient.mask('root ::= "a"', [], never))).option).toEqual(['stopIds']);
  expect(await impatient.mask('root ::= "a"', [end], never)).toBeTruthy();
  call.mockRestore();
  impatient.close();
});
