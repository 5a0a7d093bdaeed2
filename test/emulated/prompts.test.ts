// The kernels of prompts on the CPU, with an emulator in the place of a GPU: they make the logits of transformers, and faults are noticed.
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, describe, expect, test } from 'vitest';
import type { Kernel } from '../../codegen/index.ts';
import prefill, { variants } from '../../configs/plans/prefill.ts';
import stream from '../../configs/plans/stream.ts';
import { resolveTarget } from '../../configs/resolve.ts';
import { replacedIn } from '../support/changed-kernel.ts';
import { cannotEmulate, emulate } from '../support/emulate.ts';
import { emulatedManifest, verifyEmulated } from '../support/emulate-model.ts';
import { smallGpu } from '../support/small-gpu.ts';
import { kernelOfTwoKinds, makeTwoKinds, verifyTwoKinds } from '../support/two-kinds.ts';

const fixture = (name: string) => join(import.meta.dirname, '../fixtures', name);
const folder = mkdtempSync(join(tmpdir(), 'prompts-'));
afterAll(() => rmSync(folder, { recursive: true, force: true }));

/** For heads that tiles cut. */
const apart = variants.find(({ name }) => name === 'prefill-apart')!;

/** The golden case of 130 tokens. */
const longest = [3];

const why = cannotEmulate();
describe.skipIf(why !== null)(why ? `emulated (skipped: ${why})` : 'emulated', () => {
  const verify = (model: string, target: string, more: Partial<Parameters<typeof verifyEmulated>[0]> = {}) =>
    verifyEmulated({
      model: fixture(model),
      plan: 'stream',
      promptPlan: 'prefill',
      target: smallGpu(folder, target, 4),
      cases: longest,
      ...more,
    });
  /** The prompts of the reference: with passes of one token some of them are long enough for tiles. */
  const short = { plan: stream.with('ones', {}, { tokens: 1 }), cases: undefined };
  const inChunks = prefill.with('chunks', {}, { tokens: 64 });

  test.each([
    ['qwen3-micro', 'h100', 'one launch', prefill],
    ['llama3-micro', 'a100', 'several launches', inChunks],
    ['qwen2-micro', 'h100', 'several launches', inChunks],
  ] as const)('%s on %s takes in a prompt with %s', async (model, target, _, promptPlan) => {
    const { ok, cases } = await verify(model, target, { promptPlan });
    expect(cases.flatMap(({ problems }) => problems)).toEqual([]);
    expect(ok).toBe(true);
  });

  test.each([
    ['qwen3-micro', 'h100', 'int4'],
    ['qwen3-micro', 'h100', 'int4-asym'],
    ['llama3-micro', 'a100', 'int8'],
    ['qwen3-micro', 'h100', 'fp8'],
  ] as const)('%s on %s takes in a prompt with matrices in %s', async (model, target, weights) => {
    const { ok, cases } = await verify(model, target, { weights, ...short });
    expect(cases.flatMap(({ problems }) => problems)).toEqual([]);
    expect(ok).toBe(true);
  });

  test('layers with windows take in a prompt too', async () => {
    const model = await makeTwoKinds(folder);
    const target = resolveTarget(smallGpu(folder, 'h100', 4));
    const kernel = await kernelOfTwoKinds(model, target, stream, apart.with('chunks', {}, { tokens: 64 }));
    const library = await emulate(kernel);
    const { cases } = await verifyTwoKinds(model, kernel, {
      manifest: emulatedManifest(kernel),
      ...{ library, directory: '', cached: true, millis: 0 },
    });
    expect(cases.flatMap(({ problems }) => problems)).toEqual([]);
  });

  test.each([
    [
      'a barrier that nobody waits at',
      'block.cuh',
      'wait_for_blocks(barrier, ordinal);',
      /^wrong|not finite/,
    ],
    [
      'copies that nobody waits for',
      'block.cuh',
      'wait(full, parity);',
      /^wrong|not finite|nothing moves/, // or the ring runs ahead of itself
    ],
    ['scales that are left out', 'unpack.cuh', ' * scales[i]', /^wrong|not finite/, 'int4'],
  ] as const)('%s: it is noticed', async (_, header, without, noticed, weights?: 'int4') => {
    const change = (kernel: Kernel) => replacedIn(kernel, 'faulty', [[`tiles/${header}`, without, '']]);
    const outcome = await verify('qwen3-micro', 'h100', {
      change,
      ...(weights && { weights, ...short }),
    }).then(
      ({ ok }) => (ok ? 'right' : 'wrong logits'),
      (error: Error) => error.message,
    );
    expect(outcome).toMatch(noticed);
  });
});
