// Drafts in a stream's kernels, on the emulator: a reply with them is the one without, and so are the bits of the cache that it leaves.
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, describe, expect, test } from 'vitest';
import { byContext, generate, stream } from '../../codegen/index.ts';
import type { WeightName } from '../../codegen/model/formats.ts';
import base from '../../configs/plans/stream.ts';
import { openEngine } from '../../load.ts';
import { preflight } from '../../preflight.ts';
import type { Sampling } from '../../runtime/engine/bindings.ts';
import { greedy, type Speculate } from '../../runtime/engine/options.ts';
import { cannotEmulate, emulate } from '../support/emulate.ts';
import { emulatedManifest } from '../support/emulate-model.ts';
import { read } from '../support/read-reply.ts';
import { smallGpu } from '../support/small-gpu.ts';

const folder = mkdtempSync(join(tmpdir(), 'drafts-'));
afterAll(() => rmSync(folder, { recursive: true, force: true }));

/** A head has one block before position 32, and four from there on. */
const plan = base.with('drafts', {}, stream({ tokens: 4, splits: byContext({ 1: 0, 4: 32 }) }));

const samplings: readonly Partial<Sampling>[] = [
  {},
  { temperature: 0.5, top_k: 4, repetition_penalty: 1.05, presence_penalty: 0.1 },
];

/** What replies with drafts and without them say and leave, and how many drafts were right and wrong. */
async function both(name: string, weights: WeightName) {
  const model = join(import.meta.dirname, '../fixtures', name);
  const checked = await preflight(
    { model, plan, weights, target: smallGpu(folder, 'h100', 8) },
    { weights: true },
  );
  const kernel = await generate(checked);
  const manifest = emulatedManifest(kernel);
  const built = { modelDirectory: model, kernel, manifest, library: await emulate(kernel) };
  const { engine } = await openEngine(
    { ...checked, ...built, directory: '', cached: true, millis: 0 },
    { context: 64 },
  );
  const { vocab } = kernel.schedule.dims;
  const prompt = Array.from({ length: 15 }, (_, i) => (((i % 5) + 1) * 37) % vocab);
  const [off, on]: Awaited<ReturnType<typeof say>>[][] = [[], []];
  async function say(change: Partial<Sampling>, speculate: Speculate) {
    engine.reset(0);
    const sampling = { ...greedy(vocab), seed: 3, ...change };
    const { ids, drafted, accepted } = await read(
      engine.generate(prompt, { maxTokens: 26, sampling, speculate }),
    );
    return { ids, logits: await engine.score([1], 0), drafted, accepted };
  }
  try {
    for (const change of samplings) {
      off!.push(await say(change, 'off'));
      on!.push(await say(change, { tokens: 7, ngram: 1 }));
    }
  } finally {
    engine.close();
  }
  const said = (replies: typeof off) => replies!.map(({ ids, logits }) => ({ ids, logits }));
  const sum = (of: 'drafted' | 'accepted') => on!.reduce((total, one) => total + one[of], 0);
  return {
    off: said(off),
    on: said(on),
    accepted: sum('accepted'),
    wrong: sum('drafted') - sum('accepted'),
  };
}

const why = cannotEmulate();
describe.skipIf(why)(why ? `drafts (skipped: ${why})` : 'drafts', () => {
  test.each<[heads: string, model: string, WeightName]>([
    ['two heads a key', 'qwen3-micro', 'plain'],
    ['three, in two sets', 'qwen2-micro', 'int8'],
  ])('change no bit of a reply, %s, %s in %s', async (_, model, weights) => {
    const { off, on, accepted, wrong } = await both(model, weights);
    expect(on).toEqual(off);
    expect(accepted).toBeGreaterThan(10);
    expect(wrong).toBeGreaterThan(1);
  });
});
