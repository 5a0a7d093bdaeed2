// Several sequences in the passes of a stream's kernels, on the emulator: what each says is what it says alone, and its log probabilities
// are those of the float32 reference within the bounds of the format.
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, describe, expect, test } from 'vitest';
import { byContext, type FusionPlan, generate, into, stream } from '../../codegen/index.ts';
import type { ModelDims } from '../../codegen/model/dims.ts';
import base from '../../configs/plans/stream.ts';
import { resolveTarget } from '../../configs/resolve.ts';
import { openEngine } from '../../load.ts';
import { preflight } from '../../preflight.ts';
import type { Sampling } from '../../runtime/engine/bindings.ts';
import { greedy, type TokenLogprobs } from '../../runtime/engine/options.ts';
import { referenceForward } from '../../runtime/reference/reference.ts';
import { readReferenceModel } from '../../runtime/reference/weights.ts';
import { tolerance } from '../../runtime/verify/tolerance.ts';
import { maskOf } from '../support/choices.ts';
import { cannotEmulate, emulate } from '../support/emulate.ts';
import { emulatedManifest } from '../support/emulate-model.ts';
import { logprobsOf } from '../support/plain-choice.ts';
import { read } from '../support/read-reply.ts';
import { smallGpu } from '../support/small-gpu.ts';
import { makeTwoKinds, twoKinds } from '../support/two-kinds.ts';

const folder = mkdtempSync(join(tmpdir(), 'emulated-sequences-'));
afterAll(() => rmSync(folder, { recursive: true, force: true }));

/** A head has up to four blocks; rows share them, or take turns in one. */
const split = base.with('split', {}, stream({ tokens: 4, splits: byContext({ 1: 0, 4: 32 }) }));
const splitAtOnce = base.with('split-at-once', {}, stream({ tokens: 8, splits: byContext({ 4: 0 }) }));
const merged = base.with(
  'merged',
  { attn_merge: into('attn_out', { recompute: true }) },
  stream({ tokens: 8, splits: byContext({ 1: 0, 4: 32 }) }),
);

/** Fewer places than a block has tiles of one row, and those of several rows take turns in them. */
const shallow = base.with(
  'shallow',
  {},
  stream({ tokens: 16, slots: 4, slotBytes: 4096, copiesInFlight: 1, splits: byContext({ 1: 0 }) }),
);

const samplings: readonly Partial<Sampling>[] = [
  {},
  { presence_penalty: 1e4 }, // no token twice, whatever the others say
  { temperature: 0.7, top_k: 20, frequency_penalty: 1 },
];

/** A model with the float32 reference of it. */
async function fixture(name: string) {
  const model = join(import.meta.dirname, '../fixtures', name);
  const { dims } = await preflight({ model, plan: split, target: 'h100' }, { weights: true });
  return { dims, folder: model, reference: readReferenceModel(model) };
}

/** The same of layers with windows and layers without. */
async function ofTwoKinds() {
  const model = await makeTwoKinds(folder);
  const read = readReferenceModel(model.folder);
  return { ...model, reference: { ...read, dims: { ...read.dims, ...twoKinds } } };
}

async function open(
  { dims, folder: modelDirectory }: { dims: ModelDims; folder: string },
  plan: FusionPlan,
  arch: string,
) {
  const target = resolveTarget(smallGpu(folder, arch, 8));
  const kernel = await generate({ dims, target, plan, promptPlan: null });
  const manifest = emulatedManifest(kernel);
  const built = { manifest, library: await emulate(kernel), directory: '', cached: true, millis: 0 };
  const found = { ...built, dims, planReason: null, modelDirectory, target, kernel };
  return { manifest, ...(await openEngine(found, { context: 128, sequences: 9 })) };
}

const why = cannotEmulate();
describe.skipIf(why)(why ? `sequences (skipped: ${why})` : 'sequences', () => {
  test.each([
    ['qwen3-micro', 'h100', split, [17, 1, 90, 40, 16]],
    ['qwen3-micro', 'h100', merged, [3, 33, 5, 64, 1, 15, 80]],
    ['llama3-micro', 'a100', splitAtOnce, [20, 50, 2, 1, 9]],
    ['qwen3-micro', 'h100', shallow, [64, 70, 78, 80]],
    ['two kinds of layers', 'h100', split, [40, 1, 5, 60]],
  ] as const)('%s on %s: each says what it says alone', async (name, arch, plan, lengths) => {
    const model = await (name === 'two kinds of layers' ? ofTwoKinds() : fixture(name));
    const { engine, manifest } = await open(model, plan, arch);
    const { dims, reference } = model;
    const asked = lengths.map((length, i) => ({
      prompt: Array.from({ length }, (_, at) => ((at % 9) * 37 + i) % dims.vocab),
      maxTokens: plan === shallow ? 30 : 4 + i, // so long that all share passes
      sampling: { ...greedy(dims.vocab), ...samplings[i % 3], seed: i },
    }));
    const sayOf = async ({ prompt, ...options }: (typeof asked)[number]) => {
      await using sequence = engine.open();
      const logprobs: TokenLogprobs[] = [];
      const onLogprobs = (more: readonly TokenLogprobs[]) => logprobs.push(...more);
      const { ids } = await read(
        sequence.generate(prompt, { ...options, logprobs: { top: 20, onLogprobs } }),
      );
      // What it left in the cache is its own.
      return { ids, logprobs, behind: await sequence.score([1], 0) };
    };
    try {
      const alone: Awaited<ReturnType<typeof sayOf>>[] = [];
      for (const one of asked) alone.push(await sayOf(one));
      const together = await Promise.all(asked.map(sayOf));
      for (const [i, { ids, logprobs, behind }] of together.entries()) {
        const { prompt } = asked[i]!;
        const fed = [...prompt, ...ids.slice(0, -1), 1];
        const logits = referenceForward(reference.dims, reference.tensors, fed, {
          firstLogits: prompt.length - 1,
        });
        const rows = ids.map((_, at) => logits.subarray(at * dims.vocab, (at + 1) * dims.vocab));
        const { margin } = tolerance({
          ...{ dims, dtype: dims.dtype, decimals: null, extraRoundings: manifest.roundings },
          ...{ positions: fed.length, counted: logits.length },
          logitRms: Math.hypot(...rows.map((row) => Math.hypot(...row))) / Math.sqrt(logits.length),
        });
        for (const [at, { top, ...chosen }] of logprobs.entries()) {
          const expected = logprobsOf(rows[at]!);
          for (const { token, logprob } of [chosen, ...top])
            expect(Math.abs(logprob - expected[token]!)).toBeLessThan(margin);
        }
        const last = logits.subarray(ids.length * dims.vocab);
        for (const [id, logit] of behind.entries()) expect(Math.abs(logit - last[id]!)).toBeLessThan(margin);
      }
      expect(together.map(({ ids }) => ids)).toEqual(alone.map(({ ids }) => ids));
    } finally {
      engine.close();
    }
  });

  test('masked replies of one pass are chosen each by its own mask, as alone', async () => {
    const { engine } = await open(await fixture('qwen3-micro'), split, 'h100');
    const { vocab } = engine;
    const sayOf = async (i: number) => {
      await using sequence = engine.open();
      const allowed = Array.from({ length: 6 }, (_, at) => [3 + i, 40 + 7 * i + at, 200 + i, 300 + at]);
      let at = 0;
      const next = () => (at < allowed.length ? maskOf(allowed[at++]!, vocab) : 'end');
      const sampling = { ...greedy(vocab), ...samplings[i % 3], seed: i };
      const { ids } = await read(
        sequence.generate([5 + i, 60, 7], {
          maxTokens: 9,
          sampling,
          bias: i === 4 ? { 3: 9 } : {},
          mask: { next },
        }),
      );
      expect(ids).toHaveLength(allowed.length);
      for (const [j, id] of ids.entries()) expect(allowed[j]).toContain(id);
      return ids;
    };
    try {
      const alone: number[][] = [];
      for (let i = 0; i < 5; ++i) alone.push(await sayOf(i));
      expect(await Promise.all([0, 1, 2, 3, 4].map(sayOf))).toEqual(alone);
      expect(new Set(alone.flat()).size).toBeGreaterThan(10);
    } finally {
      engine.close();
    }
  });
});
