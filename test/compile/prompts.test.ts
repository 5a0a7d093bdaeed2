// The kernels of prompts: nvcc accepts them, and on the CPU, with an emulator in the place of a GPU, they make the logits of transformers.
import { spawnSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { afterAll, describe, expect, test } from 'vitest';
import { findNvcc } from '../../codegen/build/tools.ts';
import { type FusionPlan, generate, type Kernel, type ModelDims } from '../../codegen/index.ts';
import { models } from '../../configs/models.ts';
import prefill, { variants } from '../../configs/plans/prefill.ts';
import stream from '../../configs/plans/stream.ts';
import { resolveModel, resolveTarget } from '../../configs/resolve.ts';
import { targetText } from '../../configs/target-file.ts';
import { targetNamed } from '../../configs/targets.ts';
import { changedKernel } from '../support/changed-kernel.ts';
import { cannotEmulate, emulate } from '../support/emulate.ts';
import { emulatedManifest, verifyEmulated } from '../support/emulate-model.ts';
import { oddDims } from '../support/odd-dims.ts';
import { unmissedTiles } from '../support/tiles.ts';
import { kernelOfTwoKinds, makeTwoKinds, verifyTwoKinds } from '../support/two-kinds.ts';

const fixture = (name: string) => join(import.meta.dirname, '../fixtures', name);
const folder = mkdtempSync(join(tmpdir(), 'prompts-'));
afterAll(() => rmSync(folder, { recursive: true, force: true }));

/** For heads that tiles cut. */
const apart = variants.find(({ name }) => name === 'prefill-apart')!;

const some = ['h100', 'a100', 'rtx4090'].map((name) => resolveTarget(name));

test.each(models)('each sync of $name is missed where it is left out', (dims) => {
  for (const target of some) expect(unmissedTiles(dims, prefill, target).unmissed, target.name).toEqual([]);
});

test.each(variants)('each sync of $name is missed where it is left out', (plan) => {
  const dims = models.find(({ name }) => name === 'qwen3-0.6b')!;
  for (const target of some) expect(unmissedTiles(dims, plan, target).unmissed, target.name).toEqual([]);
});

const nvcc = findNvcc();
describe.skipIf(!nvcc)(nvcc ? 'nvcc' : 'nvcc (skipped: it is not installed)', () => {
  const made: readonly (readonly [ModelDims, FusionPlan])[] = [
    [resolveModel(fixture('qwen3-micro')).dims, prefill],
    [oddDims[0]!, apart],
  ];

  test.each(['a100', 'h100', 'rtx5090'])('accepts the kernels of %s, without a warning', async (name) => {
    const target = resolveTarget(name);
    for (const [dims, promptPlan] of made) {
      const kernel = await generate({ dims, plan: stream, promptPlan, target });
      const work = join(folder, kernel.name);
      write(work, kernel);
      const gencode = `-gencode=arch=${target.arch.replace('sm', 'compute')},code=${target.arch}`;
      const args = [
        '-std=c++17',
        '-I.',
        '-Ihost',
        '-Werror',
        'all-warnings',
        '-Xcicc',
        '-O1',
        '-Xptxas',
        '-O1',
      ];
      const made = spawnSync(nvcc!.path, [...args, gencode, '-cubin', 'prompt.cu', '-o', 'prompt.cubin'], {
        cwd: work,
        encoding: 'utf8',
      });
      expect(made.status, `${kernel.name}: ${made.stderr}${made.stdout}`).toBe(0);
    }
  });
});

function write(work: string, { sources }: Kernel): void {
  for (const [name, text] of Object.entries(sources)) {
    mkdirSync(dirname(join(work, name)), { recursive: true });
    writeFileSync(join(work, name), text);
  }
}

/** A GPU of few multiprocessors: what is left of one runs one block after the other. */
function smallGpu(name: string, sms: number): string {
  const path = join(folder, `${name}.json`);
  const target = targetNamed(name)!;
  writeFileSync(path, targetText({ ...target, name: `small-${name}`, sms }));
  return path;
}

/** The golden case of 130 tokens. */
const longest = [3];

const why = cannotEmulate();
describe.skipIf(why !== null)(why ? `emulated (skipped: ${why})` : 'emulated', () => {
  const verify = (model: string, target: string, more: Partial<Parameters<typeof verifyEmulated>[0]> = {}) =>
    verifyEmulated({
      model: fixture(model),
      plan: 'stream',
      promptPlan: 'prefill',
      target: smallGpu(target, 4),
      cases: longest,
      ...more,
    });
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

  test('layers with windows take in a prompt too', async () => {
    const model = await makeTwoKinds(folder);
    const target = resolveTarget(smallGpu('h100', 4));
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
      'cells.cuh',
      /asm volatile\("cp\.async\.wait_group.*/,
      /^wrong|not finite/,
    ],
  ] as const)('%s: it is noticed', async (_, header, without, noticed) => {
    const change = (kernel: Kernel) => {
      const file = `tiles/${header}`;
      const text = kernel.sources[file]!;
      expect(text.replace(without, '')).not.toBe(text);
      return changedKernel(kernel, 'faulty', file, text.replace(without, ''));
    };
    const outcome = await verify('qwen3-micro', 'h100', { change }).then(
      ({ ok }) => (ok ? 'right' : 'wrong logits'),
      (error: Error) => error.message,
    );
    expect(outcome).toMatch(noticed);
  });
});
