// The kept kernels are what the generator prints, and compilers accept them.
import { spawnSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { findNvcc } from '../codegen/build/tools.ts';
import type { Kernel } from '../codegen/index.ts';
import { goldenKernels, printedFiles, readGoldenFiles } from './golden/kernels.ts';

let kernels: readonly Kernel[];
let folder: string;

beforeAll(async () => {
  kernels = await goldenKernels();
  folder = mkdtempSync(join(tmpdir(), 'golden-'));
  for (const kernel of kernels) {
    for (const [name, text] of Object.entries(kernel.sources)) {
      mkdirSync(dirname(join(folder, kernel.name, name)), { recursive: true });
      writeFileSync(join(folder, kernel.name, name), text);
    }
  }
});
afterAll(() => rmSync(folder, { recursive: true, force: true }));

const compile = (tool: string, args: readonly string[], kernel: Kernel): string => {
  const { status, stderr, stdout } = spawnSync(tool, args, {
    cwd: join(folder, kernel.name),
    encoding: 'utf8',
  });
  return status === 0 ? 'compiled' : `${stderr}${stdout}`;
};
const of = (kind: 'cpu' | 'cuda') => kernels.filter((kernel) => kernel.schedule.target.kind === kind);

test('the kept kernels are what the generator prints (npm run golden -- --update)', () => {
  for (const kernel of kernels) {
    const kept = readGoldenFiles(kernel);
    for (const [name, text] of printedFiles(kernel))
      expect(kept.get(name), `${kernel.name}/${name}`).toBe(text);
    expect([...kept.keys()].sort()).toEqual(
      printedFiles(kernel)
        .map(([name]) => name)
        .sort(),
    );
  }
});

test('the same input gives the same bytes', async () => {
  const again = await goldenKernels();
  expect(again.map((kernel) => kernel.hash)).toEqual(kernels.map((kernel) => kernel.hash));
});

test('generated sources hold no path of this machine and no date', () => {
  for (const kernel of kernels) {
    for (const [name, text] of Object.entries(kernel.sources)) {
      expect(text.includes(process.cwd()), `${kernel.name}/${name}`).toBe(false);
      expect(/\b20\d\d-\d\d-\d\d\b/.test(text), `${kernel.name}/${name}`).toBe(false);
    }
  }
});

test('g++ accepts the C++ kernels without a warning', () => {
  const args = [
    '-std=c++17',
    '-O1',
    '-Wall',
    '-Werror',
    '-I.',
    '-Ihost',
    '-DISA_NAME=plain',
    '-c',
    'kernel.cpp',
    '-o',
    'kernel.o',
  ];
  for (const kernel of of('cpu')) expect(compile('g++', args, kernel)).toBe('compiled');
});

describe('nvcc', () => {
  const nvcc = findNvcc();
  if (!nvcc) console.warn('skipped: nvcc is not installed, so no CUDA kernel is compiled');
  test.skipIf(!nvcc).each(['sm_80', 'sm_90a', 'sm_120'])('accepts the CUDA kernels for %s', (arch) => {
    const gencode = `-gencode=arch=${arch.replace('sm', 'compute')},code=${arch}`;
    const args = [
      '-std=c++17',
      '-O3',
      gencode,
      '-I.',
      '-Ihost',
      '-cubin',
      'kernel.cu',
      '-o',
      `${arch}.cubin`,
    ];
    // A stream uses instructions of its own architecture.
    const fitting = of('cuda').filter(({ schedule }) => !schedule.stream || schedule.target.arch === arch);
    for (const kernel of fitting) expect(compile(nvcc!.path, args, kernel)).toBe('compiled');
  });
});
