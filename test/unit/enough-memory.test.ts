// What an engine takes on a CPU is counted as its library counts it; what does not fit is refused before a compiler starts, and nothing else is.
import { afterEach, describe, expect, it, vi } from 'vitest';
import { report } from '../../cli/errors.ts';
import { exitCode } from '../../cli/exit-code.ts';
import { memoryIo } from '../../cli/io.ts';
import { engineBytes, passSizes } from '../../codegen/memory.ts';
import type { ModelDims } from '../../codegen/model/dims.ts';
import { settleCache } from '../../codegen/settle-cache.ts';
import { settleWeights } from '../../codegen/settle-weights.ts';
import { checkMemory, type Opened, opened, withWhatFits } from '../../enough-memory.ts';
import { InsufficientMemoryError, type OnelaunchError, ofAllocation } from '../../errors.ts';
import type { FreeMemory } from '../../free-memory.ts';
import { buildKernel, load } from '../../load.ts';
import { checkDraft } from '../../load-draft.ts';
import { preflight } from '../../preflight.ts';
import { Engine } from '../../runtime/engine/engine.ts';
import { once } from '../../runtime/reply.ts';
import { readersOf } from '../../runtime/reply-grammar.ts';
import { buildQuickly } from '../support/quick-builds.ts';
import { failureOf, refusalOf } from '../support/refusal.ts';
import { thorough } from '../support/thorough.ts';

const model = 'qwen3-0.6b';
const usual = { context: 4096, sequences: 1, threads: 0 };
const checked = await preflight({ model, target: 'cpu' }, {});
const engine = opened(checked, usual);
const plenty: FreeMemory = { now: 2 ** 50, ever: 2 ** 50, mappable: null };

const bytesOf = ({ dims, passes, onGpu: _, ...room }: Opened) => engineBytes(dims, passes, room);
const allOf = (one: Opened) => Object.values(bytesOf(one)).reduce((sum, bytes) => sum + bytes, 0);
const refused = (engines: readonly Opened[], memory: Partial<FreeMemory>) =>
  refusalOf(() => checkMemory(engines, { ...plenty, ...memory })) as InsufficientMemoryError;

buildQuickly();
afterEach(() => vi.restoreAllMocks());

it.each([
  ...(thorough ? ([['qwen3-tiny', {}]] as const) : []),
  ['qwen3-tiny', { weights: 'int4', cache: 'int8' }],
] as const)('%s %j takes what its library says it takes', async (of, formats) => {
  const built = await buildKernel({ model: of, target: 'cpu', ...formats });
  const { dims, kernel, library, manifest } = built;
  // More than any machine has: 16 of 2^31 positions.
  const room = { context: 2 ** 31 - 1, sequences: 16, threads: 3 };
  const error = (await failureOf(Engine.open(library, manifest, room))) as InsufficientMemoryError;
  expect(error).toBeInstanceOf(InsufficientMemoryError);
  const bytes = engineBytes(dims, passSizes(kernel.schedule), room);
  const { weights, cache, tables, passes } = bytes;
  const megabytes = (size: number) => `${(size / 1e6).toFixed(1)} MB`;
  // It tells counts and ids apart from activations, and rounds each piece to pages.
  const apart = 4 * room.sequences * dims.vocab + 2 * 4 * manifest.passTokens;
  expect(error.message).toContain(
    `weights ${megabytes(weights)}, KV cache of 16 x ${room.context} positions ${megabytes(cache)}, activations ${megabytes(passes - apart)} `,
  );
  const pages = 4096 * (8 + room.threads);
  const all = weights + cache + tables + passes;
  expect(error.neededBytes! + 50_000).toBeGreaterThanOrEqual(all);
  expect(error.neededBytes! - 50_000).toBeLessThanOrEqual(all + pages);
});

describe('what is refused', () => {
  const { weights, tables } = bytesOf(engine);

  it('what is written at once, where less and a twentieth of the machine is free; not the cache, which grows', () => {
    const ever = 100e9;
    const now = weights + tables - 0.05 * ever;
    expect(() => checkMemory([engine], { ...plenty, ever, now })).not.toThrow();
    const error = refused([engine], { ever, now: now - 1 });
    expect(error).toMatchObject({
      ...{
        name: 'InsufficientMemoryError',
        kind: 'environment',
        neededBytes: allOf(engine),
        freeBytes: now - 1,
      },
      message: expect.stringMatching(
        /^qwen3-0\.6b takes 1\.\d\d GB of memory \(weights 1\.19 GB, KV cache of 4,096 positions 0\.47 GB, activations and tables [\d.]+ MB\), and -?[\d.]+ [MG]B are free$/,
      ),
    });
  });

  it('on a GPU all of it, which must be free at once', () => {
    const target = { ...checked.target, kind: 'cuda' as const };
    const onGpu = opened({ ...checked, target }, usual);
    expect(allOf(onGpu)).toBeLessThan(allOf(engine));
    const now = allOf(onGpu);
    expect(() => checkMemory([onGpu], { ...plenty, now })).not.toThrow();
    expect(refused([onGpu], { now: now - 1, ever: 85.5e9 })).toMatchObject({
      message: expect.stringMatching(
        /^qwen3-0\.6b takes 1\.\d\d GB of GPU memory \(weights 1\.19 GB, KV cache of 4,096 positions 0\.47 GB, tables [\d.]+ MB\), and 1\.66 GB of 85\.50 GB are free$/,
      ),
      hint: expect.stringMatching(/^This would fit: a context of 3840; or cache int8; or weights int8\.$/),
    });
  });

  it('all of it, where the machine has less in all', () => {
    const ever = allOf(engine);
    expect(() => checkMemory([engine], { ...plenty, ever })).not.toThrow();
    const error = refused([engine], { ever: ever - 1 });
    expect(error.message).toMatch(/there are 1\.\d\d GB in all$/);
    expect(error.neededBytes).toBe(ever);
    expect(error.freeBytes).toBe(ever - 1);
  });

  it('nothing, where the system does not say what there is', () => {
    const huge = { ...engine, context: 40_960, sequences: 16 };
    expect(() => checkMemory([huge], { now: null, ever: null, mappable: null })).not.toThrow();
  });
});

describe('what would fit', () => {
  const changed: Readonly<Record<string, (of: Opened, number: number) => Opened>> = {
    'a context of': (of, context) => ({ ...of, context }),
    'at a time': (of, sequences) => ({ ...of, sequences }),
    'cache int8': (of) => ({ ...of, dims: settleCache(of.dims, 'int8') }),
    'weights int8': (of) => ({ ...of, dims: settleWeights(of.dims, 'int8') }),
    'weights int4': (of) => ({ ...of, dims: settleWeights(of.dims, 'int4') }),
  };
  /** A machine without room for so much of what is needed. */
  const without = (of: Opened, bytes: number): Partial<FreeMemory> => ({ ever: allOf(of) - bytes });
  const four = { ...engine, context: 8192, sequences: 4 };

  it.each<[string, Opened, Partial<FreeMemory>, readonly string[]]>([
    ['a byte', engine, without(engine, 1), ['a context of', 'cache int8', 'weights int8']],
    ['half the cache', engine, without(engine, 0.24e9), ['a context of', 'weights int8']],
    ['half the weights', engine, without(engine, 0.6e9), ['weights int4']],
    ['some of four', four, without(four, 1.3e9), ['a context of', 'at a time', 'cache int8']],
    ['room for weights now', engine, { now: 0.7e9, ever: 4e9 }, ['weights int8']],
    ['room for anything', engine, { now: 0.1e9, ever: 0.1e9 }, []],
  ])('%s is lacking: the hint has what alone is enough', (_, of, memory, ways) => {
    const { hint = '', fittingContext } = refused([of], memory);
    const told = Object.keys(changed).filter((way) => hint.includes(way));
    expect(told.sort()).toEqual([...ways].sort());
    for (const way of told) {
      const number = Number(new RegExp(`(\\d+) ${way}|${way} (\\d+)`).exec(hint)?.slice(1).find(Boolean));
      expect(() => checkMemory([changed[way]!(of, number)], { ...plenty, ...memory })).not.toThrow();
      if (way === 'a context of') expect(fittingContext).toBe(number);
    }
    if (ways.length === 0) expect(hint).toMatch(/^End other programs, or take a smaller model/);
  });

  it('a context is as long as it can be', () => {
    const memory = without(engine, 0.24e9);
    const { fittingContext = 0 } = refused([engine], memory);
    refused([{ ...engine, context: fittingContext + 256 }], memory);
  });
});

describe('before a compiler is started', () => {
  const tight = (share: number): FreeMemory => ({ ...plenty, ever: allOf(engine) * share });

  it.each([
    ['the usual context', { usual: true }, 0.99, true],
    ['a shorter one that is asked for', { usual: true, context: 512 }, 0.99, false],
    ['none that is known yet', {}, 0.99, false],
    ['several at a time', { context: 512, sequences: 16 }, 0.99, true],
  ])('%s counts', async (_, run, share, isRefused) => {
    const asked = preflight({ model, target: 'cpu' }, { run: { ...run, memory: tight(share) } });
    if (isRefused) expect(await failureOf(asked)).toBeInstanceOf(InsufficientMemoryError);
    else await asked;
  });

  it('a model and one that drafts for it are counted together', async () => {
    const draft = { ...engine, dims: settleWeights(checked.dims, 'int4') };
    const both = allOf(engine) + allOf(draft);
    const asked = (ever: number) =>
      checkDraft({ model, weights: 'int4' }, checked, {
        ...{ usual: true, randomWeights: { seed: 1 }, target: 'cpu', memory: { ...plenty, ever } },
      });
    await asked(both);
    const error = (await failureOf(asked(both - 1))) as InsufficientMemoryError;
    expect(error.message).toMatch(/^qwen3-0\.6b and qwen3-0\.6b, which drafts, take /);
    expect(error.neededBytes).toBe(both);
    expect(error.hint).toMatch(/the model without one that drafts/);
  });
});

it('where the engine that drafts has no memory, that of the model is closed', async () => {
  const { open } = Engine;
  const made: Engine[] = [];
  vi.spyOn(Engine, 'open').mockImplementation(async (...given) => {
    if (made.length === 1) throw new InsufficientMemoryError('no', { neededBytes: 5, hint: 'none' });
    made.push(await open(...given));
    return made[0]!;
  });
  const draft = { model: 'qwen3-tiny', weights: 'int4' } as const;
  const loading = load({ model: 'qwen3-tiny', target: 'cpu', draft });
  const error = await failureOf(loading);
  expect(error).toMatchObject({
    ...{ name: 'InsufficientMemoryError', neededBytes: 5, message: 'for qwen3-tiny, which drafts: no' },
    hint: expect.stringMatching(/ Without the draft model there is enough\.$/),
  });
  const { io, written } = memoryIo();
  expect(report(error, io, { json: false, command: 'chat' })).toBe(exitCode.environment);
  expect(written.err).toBe(`error: ${error.message}\nhint: ${error.hint}\n`);
  report(error, io, { json: true, command: 'chat' });
  expect(JSON.parse(written.out).error).toMatchObject({ name: 'InsufficientMemoryError', exitCode: 3 });
  expect(() => made[0]!.reset()).toThrow('the engine is closed');
});

it('an array that Node.js has no memory for is one of these errors', async () => {
  const built = await buildKernel({ model: 'qwen3-tiny', target: 'cpu' });
  const one = await Engine.open(built.library, built.manifest, { context: 64, threads: 1 });
  class Full extends Float32Array {
    constructor() {
      super(0);
      throw new RangeError('Array buffer allocation failed');
    }
  }
  vi.stubGlobal('Float32Array', Full);
  try {
    const error = (await failureOf(one.score([1, 2], 0))) as InsufficientMemoryError;
    expect(error).toBeInstanceOf(InsufficientMemoryError);
    expect(error.neededBytes).toBe(2 * one.vocab * 4);
  } finally {
    vi.unstubAllGlobals();
    one.close();
  }
});

it('what a reply has no memory for later ends it as one of these errors, told twice as any is', async () => {
  async function* failing(): AsyncGenerator<never, never, undefined> {
    yield* [];
    throw new RangeError('Array buffer allocation failed');
  }
  const reply = once(
    failing,
    readersOf(() => ({})),
  );
  const reading = (async () => {
    for await (const _ of reply);
  })();
  expect(await failureOf(reading)).toBeInstanceOf(InsufficientMemoryError);
  expect(await failureOf(reply.result())).toBeInstanceOf(InsufficientMemoryError);
  const other = new RangeError('Invalid string length');
  expect(ofAllocation(other)).toBe(other);
});

describe('a GPU without room', () => {
  const dims: ModelDims = checked.dims;
  const schedule = {
    dims,
    cachedBytes: 2 * dims.headDim * 2,
    target: { ...checked.target, kind: 'cuda' as const },
  };
  const room = { context: 40_960, sequences: 16, threads: 0 };
  const position = 16 * dims.layers * dims.kvHeads * schedule.cachedBytes + 4 * dims.headDim;
  const because = (neededBytes: number | undefined, freeBytes: number | undefined) =>
    withWhatFits(
      new InsufficientMemoryError('the text', { neededBytes, freeBytes, hint: 'short' }),
      schedule,
      room,
    ) as InsufficientMemoryError;

  it('says which context would fit', () => {
    const needed = 1.3e9 + room.context * position;
    const { fittingContext = 0, hint, message } = because(needed, 20e9);
    expect(message).toBe('the text');
    expect(hint).toContain(String(fittingContext));
    expect(1.3e9 + fittingContext * position).toBeLessThan(20e9);
    expect(1.3e9 + (fittingContext + 512) * position).toBeGreaterThan(20e9);
  });

  it('and none where that would not help, or where it is not told how much there is', () => {
    expect(because(90e9, 1e9).fittingContext).toBeUndefined();
    expect(because(90e9, undefined).fittingContext).toBeUndefined();
    expect(because(undefined, undefined).hint).toBe('short');
    const other: Partial<OnelaunchError> = new Error('other');
    expect(withWhatFits(other, schedule, room)).toBe(other);
  });
});
