// The kernels of a stream and of its prompts at real sizes, which take more registers than small ones: nvcc needs no spills.
import { spawnSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { afterAll, expect, test } from 'vitest';
import { findNvcc } from '../../codegen/build/tools.ts';
import { invariant } from '../../errors.ts';
import { keptKernels } from '../golden/kernels.ts';

const folder = mkdtempSync(join(tmpdir(), 'spills-'));
afterAll(() => rmSync(folder, { recursive: true, force: true }));

const nvcc = findNvcc();
test.skipIf(!nvcc)(`no spills on sm_90a, the sampler apart${nvcc ? '' : ' (skipped: no nvcc)'}`, async () => {
  const kernel = (await keptKernels()).find(({ name }) => name === 'qwen3-0.6b-h100-stream-prefill')!;
  for (const [name, text] of Object.entries(kernel.sources)) {
    mkdirSync(dirname(join(folder, name)), { recursive: true });
    writeFileSync(join(folder, name), text);
  }
  const spills = /Function properties for (\S+)\s+.*, (\d+) bytes spill stores, (\d+) bytes spill loads/g;
  const flags = [
    '-std=c++17',
    '-I.',
    '-Ihost',
    '-gencode=arch=compute_90a,code=sm_90a',
    '-O3',
    '-Xptxas',
    '-v',
  ];
  const reports = ['kernel.cu', 'prompt.cu'].map((file) => {
    const made = spawnSync(nvcc!.path, [...flags, '-cubin', file, '-o', `${file}.cubin`], {
      cwd: folder,
      encoding: 'utf8',
    });
    expect(made.status, made.stderr).toBe(0);
    return made.stderr + made.stdout;
  });
  const found = [...reports.join('\n').matchAll(spills)].filter(
    ([, name]) => !/choose_token|sample|Draw/.test(name!),
  );
  for (const [of, { schedule }] of [
    ['decode', kernel],
    ['prompt', kernel.prompts!],
  ] as const) {
    invariant('kernels' in schedule, `${of} has kernels by the tokens of a launch`);
    expect(found.filter(([, name]) => name!.includes(of))).toHaveLength(schedule.kernels.length);
  }
  for (const [, name, stores, loads] of found) expect([name, stores, loads]).toEqual([name, '0', '0']);
});
