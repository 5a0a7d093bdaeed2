// Compilers accept the kept kernels: g++ those for the CPU, nvcc those for GPUs on each architecture.
import { spawnSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { findNvcc } from '../../codegen/build/tools.ts';
import { generate, type Kernel } from '../../codegen/index.ts';
import { stream as ofStream } from '../../codegen/plan/plan.ts';
import stream from '../../configs/plans/stream.ts';
import { microKernels } from '../golden/kernels.ts';
import { quickNvcc } from '../support/quick-nvcc.ts';
import { thorough } from '../support/thorough.ts';

let kernels: readonly Kernel[];
let folder: string;

beforeAll(async () => {
  kernels = await microKernels();
  folder = mkdtempSync(join(tmpdir(), 'golden-'));
  kernels.forEach(write);
});
afterAll(() => rmSync(folder, { recursive: true, force: true }));

function write(kernel: Kernel): void {
  for (const [name, text] of Object.entries(kernel.sources)) {
    mkdirSync(dirname(join(folder, kernel.name, name)), { recursive: true });
    writeFileSync(join(folder, kernel.name, name), text);
  }
}

function compile(tool: string, args: readonly string[], kernel: Kernel) {
  const options = { cwd: join(folder, kernel.name), encoding: 'utf8' } as const;
  const { status, stderr, stdout } = spawnSync(tool, ['-std=c++17', '-I.', '-Ihost', ...args], options);
  const output = `${stderr}${stdout}`;
  expect(status, `${kernel.name}: ${output}`).toBe(0);
  return output;
}
const of = (kind: 'cpu' | 'cuda') => kernels.filter((kernel) => kernel.schedule.target.kind === kind);

test('g++ accepts the C++ kernels without a warning', () => {
  const args = ['-O1', '-Wall', '-Werror', '-DISA_NAME=plain', '-c', 'kernel.cpp', '-o', 'kernel.o'];
  for (const kernel of of('cpu')) compile('g++', args, kernel);
});

const nvcc = findNvcc();
describe.skipIf(!nvcc)(nvcc ? 'nvcc' : 'nvcc (skipped: it is not installed)', () => {
  const cubin = (kernel: Kernel, arch: string, flags: readonly string[]) => {
    const gencode = `-gencode=arch=${arch.replace('sm', 'compute')},code=${arch}`;
    return compile(nvcc!.path, [gencode, ...flags, '-cubin', 'kernel.cu', '-o', `${arch}.cubin`], kernel);
  };

  const quick = nvcc ? quickNvcc(nvcc) : [];

  // A stream uses instructions of its own architecture.
  test('accepts the CUDA kernels for sm_80', () => {
    for (const kernel of of('cuda')) if (kernel.schedule.scheme !== 'stream') cubin(kernel, 'sm_80', quick);
  });

  // Those at barriers have the same text as for sm_80; passes of 8 and 16 tokens that of 4.
  test('accepts the CUDA kernels for sm_90a', async () => {
    if (thorough) for (const kernel of of('cuda')) cubin(kernel, 'sm_90a', quick);
    const { dims, target } = of('cuda').find(({ schedule }) => schedule.scheme === 'stream')!.schedule;
    const plan = stream.with('four', {}, ofStream({ tokens: 4 }));
    const kernel = await generate({ dims, target, plan });
    write(kernel);
    cubin(kernel, 'sm_90a', quick);
  });

  test('accepts the host code of a profile', () => {
    const flags = [
      '-x',
      'c++',
      '-DPROFILE=1',
      '-Xcompiler',
      '-Wall',
      '-c',
      'host/backend.cpp',
      '-o',
      'host.o',
    ];
    for (const scheme of ['stream', 'barriers'] as const)
      compile(nvcc!.path, flags, of('cuda').find((kernel) => kernel.schedule.scheme === scheme)!);
  });
});
