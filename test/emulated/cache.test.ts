// A KV cache in int8 on the emulated GPU: what it holds, what is computed from it, and that drafts, sequences, copies and what lay there before change nothing.
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { byContext, stream } from '../../codegen/index.ts';
import prefill, { variants } from '../../configs/plans/prefill.ts';
import base from '../../configs/plans/stream.ts';
import { openEngine } from '../../load.ts';
import type { Engine } from '../../runtime/engine/engine.ts';
import { referenceCache, referenceForward } from '../../runtime/reference/reference.ts';
import { readReferenceModel } from '../../runtime/reference/weights.ts';
import { tolerance } from '../../runtime/verify/tolerance.ts';
import { cannotEmulate } from '../support/emulate.ts';
import { builtEmulated, type EmulatedCase } from '../support/emulate-model.ts';
import { read } from '../support/read-reply.ts';
import { smallGpu } from '../support/small-gpu.ts';
import { thorough } from '../support/thorough.ts';

const folder = mkdtempSync(join(tmpdir(), 'emulated-cache-'));
afterAll(() => rmSync(folder, { recursive: true, force: true }));

/** A head has one block before position 32, and four from there on. */
const plan = base.with('cache', {}, stream({ tokens: 4, splits: byContext({ 1: 0, 4: 32 }) }));
/** One kernel, and two blocks a head from position 8 on. */
const ones = base.with('ones', {}, stream({ tokens: 1, splits: byContext({ 1: 0, 2: 8 }) }));
/** Launches that find positions before them. */
const chunks = { tokens: 64 } as const;
const inChunks = prefill.with('chunks', {}, chunks);
const apartInChunks = variants
  .find(({ name }) => name === 'prefill-heads-apart')!
  .with('apart-chunks', {}, chunks);

const ids = Array.from({ length: 100 }, (_, i) => ((i % 11) * 37 + i) % 512);

async function open(asked: Partial<EmulatedCase> & { arch?: string } = {}) {
  const { arch = 'h100', model = 'qwen3-micro', ...more } = asked;
  const target = smallGpu(folder, arch, asked.plan === ones ? 4 : 8);
  const built = await builtEmulated({ model, plan, target, cache: 'int8', ...more });
  const { engine } = await openEngine(built, { context: 128, sequences: thorough ? 3 : 1 });
  return { engine, built };
}

type Opened = Awaited<ReturnType<typeof open>>;

/** How far the logits behind `count` ids are off, as a share of what they may be. */
async function distance({ engine, built }: Opened, count: number): Promise<number> {
  engine.reset(0);
  const got = await engine.score(ids.slice(0, count), count - 1);
  const { dims, tensors } = readReferenceModel(built.modelDirectory!);
  const expected = referenceForward(dims, tensors, ids.slice(0, count), {
    storage: 'int8',
    firstLogits: count - 1,
  });
  const { logit } = tolerance({
    ...{ dims: built.dims, dtype: built.dims.dtype, decimals: null },
    extraRoundings: built.manifest.roundings,
    ...{ positions: count, counted: expected.length },
    logitRms: Math.hypot(...expected) / Math.sqrt(expected.length),
  });
  return Math.max(...expected.map((one, i) => Math.abs(one - got[i]!))) / logit;
}

/** Of each head of all layers and each position, as stream/cached.cuh has them: the scale and the numbers of a key (part 0) or a value. */
function rowsOf(bytes: Uint8Array, count: number, headDim: number) {
  const rowBytes = 2 * headDim + 16;
  // What byte of 16 each element is.
  const keyByte = (e: number) => (e & 12) | ((e & 1) << 1) | ((e >> 1) & 1);
  const valueByte = (e: number) => ((e & 7) << 1) | (e >> 3);
  return (head: number, position: number, part: number) => {
    const row = bytes.slice((head * count + position) * rowBytes, (head * count + position + 1) * rowBytes);
    const codes = new Int8Array(row.buffer, part * headDim, headDim);
    const byte = part === 0 ? keyByte : valueByte;
    return {
      scale: new Float32Array(row.buffer, 2 * headDim, 2)[part]!,
      numbers: Array.from(codes, (_, e) => codes[(e & ~15) | byte(e & 15)]!),
    };
  };
}

const why = cannotEmulate();
describe.skipIf(why !== null)(why ? `emulated (skipped: ${why})` : 'emulated', () => {
  let opened: Opened;
  let engine: Engine;
  beforeAll(async () => {
    opened = await open(thorough ? {} : { plan: ones });
    engine = opened.engine;
    return () => engine.close();
  });

  test('logits are those of the reference that rounds as the cache does, and positions have codes of what was computed, whatever lay there', async () => {
    engine.writeCache(ids, new Uint8Array(ids.length * engine.cacheBytes()).fill(0xff));
    expect(await distance(opened, 20)).toBeLessThan(1);
    const { layers, kvHeads, headDim } = opened.built.dims;
    expect(engine.cacheBytes()).toBe(layers * kvHeads * (2 * headDim + 16));
    const row = rowsOf(engine.readCache(0, 20), 20, headDim);
    const { dims, tensors } = readReferenceModel(opened.built.modelDirectory!);
    const exact = referenceCache(dims);
    referenceForward(dims, tensors, ids.slice(0, 20), { cache: exact, firstLogits: 19 });
    /** Elements of a key that are rotated together are neighbours. */
    const keyAt = (e: number) => (e >> 1) + (e & 1) * (headDim / 2);
    // In the first layer three roundings to bf16: of the input, of what crosses blocks, and of what is rotated.
    const sigmas = Math.sqrt(2 * Math.log((20 * 2 * kvHeads * headDim) / 1e-6));
    for (let head = 0; head < kvHeads; head++)
      for (let position = 0; position < 20; position++)
        for (const part of [0, 1]) {
          const { scale, numbers } = row(head, position, part);
          expect(Math.max(...numbers.map(Math.abs))).toBe(127);
          const from = (position * kvHeads + head) * headDim;
          const off = numbers.map((number, e) => {
            const of = part === 0 ? exact.keys : exact.values;
            return Math.abs(number - of[0]![from + (part === 0 ? keyAt(e) : e)]! / scale);
          });
          const rms = Math.hypot(...numbers) / Math.sqrt(headDim);
          expect(Math.max(...off)).toBeLessThan(0.5 + sigmas * Math.sqrt(3) * 2 ** -8 * rms);
        }
  });

  test.runIf(thorough)(
    'logits are right whatever the splits, and what lay in the cache before changes no bit',
    async () => {
      for (const count of [1, 70]) expect(await distance(opened, count)).toBeLessThan(1);
      engine.reset(0);
      const fresh = await engine.score(ids.slice(0, 37), 36);
      engine.reset(0);
      engine.writeCache(ids, new Uint8Array(ids.length * engine.cacheBytes()).fill(0xff));
      engine.reset(0);
      expect(await engine.score(ids.slice(0, 37), 36)).toEqual(fresh);
    },
  );

  test.runIf(thorough)('drafts change no bit', async () => {
    const say = async (speculate: 'off' | { tokens: number; ngram: number }) => {
      engine.reset(0);
      const prompt = Array.from({ length: 15 }, (_, i) => ((i % 5) + 1) * 37);
      const {
        ids: said,
        drafted,
        accepted,
      } = await read(engine.generate(prompt, { maxTokens: 26, speculate }));
      return { said: { ids: said, behind: await engine.score([1], 0) }, drafted, accepted };
    };
    const plain = await say('off');
    const drafted = await say({ tokens: 7, ngram: 1 });
    expect(drafted.said).toEqual(plain.said);
    expect(drafted.accepted).toBeGreaterThan(0);
    expect(drafted.drafted).toBeGreaterThan(drafted.accepted);
  });

  test.runIf(thorough)(
    'copies of positions are what they are of, and sequences beside each other say what each says alone',
    async () => {
      engine.reset(0);
      await using first = engine.open();
      await using second = engine.open();
      await first.score(ids.slice(0, 40), 39);
      second.copyFrom(first, 35);
      const bytes = second.readCache(0, 35);
      const alone = await second.score([1], 0);
      await using third = engine.open();
      third.writeCache(ids.slice(0, 35), bytes);
      expect(await third.score([1], 0)).toEqual(alone);
      const replies = (one: typeof first) => read(one.generate([3, 5], { maxTokens: 3 }));
      const together = await Promise.all([first, second].map(replies));
      for (const [i, length] of [40, 36].entries()) {
        third.reset(0);
        await third.score([...ids.slice(0, Math.min(length, 35)), ...(i === 0 ? ids.slice(35, 40) : [1])], 0);
        expect((await replies(third)).ids).toEqual(together[i]!.ids);
      }
    },
  );

  describe.runIf(thorough)('thoroughly', () => {
    const withEngine = async <T>(asked: Parameters<typeof open>[0], use: (of: Opened) => Promise<T>) => {
      const other = await open(asked);
      try {
        return await use(other);
      } finally {
        other.engine.close();
      }
    };

    test.each([
      ['qwen3-micro', 'h100', inChunks.name, inChunks],
      ['qwen3-micro', 'h100', apartInChunks.name, apartInChunks],
      ['llama3-micro', 'a100', inChunks.name, inChunks],
      ['qwen2-micro', 'h100', inChunks.name, inChunks],
    ] as const)('%s on %s takes in a prompt by %s', async (model, arch, _, promptPlan) => {
      await withEngine({ model, arch, plan: ones, promptPlan }, async (of) => {
        expect(await distance(of, 100)).toBeLessThan(1);
      });
    });
  });
});
