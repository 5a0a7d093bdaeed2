// The kernels of prompts: nvcc accepts them, and one runs on the emulator.
import { spawnSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { afterAll, describe, expect, test } from 'vitest';
import { findNvcc } from '../../codegen/build/tools.ts';
import { type FusionPlan, generate, type Kernel, type ModelDims } from '../../codegen/index.ts';
import { stream as ofStream } from '../../codegen/plan/plan.ts';
import prefill, { variants } from '../../configs/plans/prefill.ts';
import stream from '../../configs/plans/stream.ts';
import { resolveModel, resolveTarget } from '../../configs/resolve.ts';
import { cannotEmulate } from '../support/emulate.ts';
import { verifyEmulated } from '../support/emulate-model.ts';
import { oddDims } from '../support/odd-dims.ts';
import { quickNvcc } from '../support/quick-nvcc.ts';
import { smallGpu } from '../support/small-gpu.ts';
import { thorough } from '../support/thorough.ts';

const fixture = (name: string) => join(import.meta.dirname, '../fixtures', name);
const folder = mkdtempSync(join(tmpdir(), 'prompts-'));
afterAll(() => rmSync(folder, { recursive: true, force: true }));

/** For heads that tiles cut. */
const apart = variants.find(({ name }) => name === 'prefill-apart')!;

const nvcc = findNvcc();
describe.skipIf(!nvcc)(nvcc ? 'nvcc' : 'nvcc (skipped: it is not installed)', () => {
  const made: readonly (readonly [ModelDims, FusionPlan])[] = [
    [resolveModel(fixture('qwen3-micro')).dims, prefill],
    [oddDims[0]!, apart],
  ];

  test.each(['a100', 'h100'])('accepts the kernels of %s, without a warning', async (name) => {
    const target = resolveTarget(name);
    const quick = quickNvcc(nvcc!);
    // The text of heads that tiles cut is the same on both.
    const each = thorough || name === 'h100' ? made : made.slice(0, 1);
    for (const [dims, promptPlan] of each) {
      const kernel = await generate({ dims, plan: stream, promptPlan, target });
      const work = join(folder, kernel.name);
      write(work, kernel);
      const gencode = `-gencode=arch=${target.arch.replace('sm', 'compute')},code=${target.arch}`;
      const args = ['-std=c++17', '-I.', '-Ihost', '-Werror', 'all-warnings', ...quick, gencode];
      // The instructions are the same for all dims.
      const whole = thorough || dims === made[0]![0];
      const end = whole ? '-cubin' : '-ptx';
      const { status, stderr, stdout } = spawnSync(
        nvcc!.path,
        [...args, end, 'prompt.cu', '-o', 'prompt.out'],
        { cwd: work, encoding: 'utf8' },
      );
      expect(status, `${kernel.name}: ${stderr}${stdout}`).toBe(0);
    }
  });

  test('accepts one that writes down what it does when, and only that one reads the clock', async () => {
    const [dims, promptPlan] = made[0]!;
    const kernel = await generate({ dims, plan: stream, promptPlan, target: resolveTarget('h100') });
    const work = join(folder, 'profile');
    write(work, kernel);
    const readsClock = (flags: readonly string[]) => {
      const target = ['-gencode=arch=compute_90a,code=compute_90a', ...quickNvcc(nvcc!)];
      const args = [
        '-std=c++17',
        '-I.',
        '-Ihost',
        ...target,
        ...flags,
        '-ptx',
        'prompt.cu',
        '-o',
        'prompt.ptx',
      ];
      const { status, stderr } = spawnSync(nvcc!.path, args, { cwd: work, encoding: 'utf8' });
      expect(status, stderr).toBe(0);
      return readFileSync(join(work, 'prompt.ptx'), 'utf8').includes('%clock64');
    };
    expect(readsClock(['-DPROFILE=1'])).toBe(true);
    expect(readsClock([])).toBe(false);
  });
});

function write(work: string, { sources }: Kernel): void {
  for (const [name, text] of Object.entries(sources)) {
    mkdirSync(dirname(join(work, name)), { recursive: true });
    writeFileSync(join(work, name), text);
  }
}

const why = cannotEmulate();
// More of this is in test/emulated.
test.skipIf(why !== null)(
  `emulated, qwen3-micro takes in a prompt${why ? ` (skipped: ${why})` : ''}`,
  async () => {
    const { ok, cases } = await verifyEmulated({
      model: fixture('qwen3-micro'),
      // Passes of one token only: compiling those of more takes longer than all else.
      plan: stream.with('one', {}, ofStream({ tokens: 1 })),
      promptPlan: 'prefill',
      target: smallGpu(folder, 'h100', 4),
      cases: [3],
      tokens: 2,
    });
    expect(cases.flatMap(({ problems }) => problems)).toEqual([]);
    expect(ok).toBe(true);
  },
);
