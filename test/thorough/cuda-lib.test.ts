// Compiles the CUDA library inside a hand-written kernel: it must fit the registers without spills.
import { execFile } from 'node:child_process';
import { cpSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { abiHeader } from '../../abi/header.ts';
import { findNvcc } from '../../codegen/build/tools.ts';

const run = promisify(execFile);
const root = fileURLToPath(new URL('../..', import.meta.url));
const nvcc = findNvcc();

/** Shared memory that codegen/schemes/barriers/library-scratch.ts sets aside for the library [bytes]. */
const librarySharedBytes = 9 * 1024;

const kernels = [
  { name: 'like Qwen3-0.6B, passes of 8 tokens', flags: ['-DSTANDIN_TOKENS=8'] },
  { name: 'like Qwen3-0.6B, passes of one token', flags: ['-DSTANDIN_TOKENS=1'] },
  { name: 'odd sizes in fp16', flags: ['-DSTANDIN_ODD'] },
];
// One architecture, for time; test/compile/golden-kernels.test.ts compiles what the generator prints for all.
const archs = ['sm_90a'];

describe.skipIf(!nvcc)(
  nvcc ? 'the CUDA library' : 'the CUDA library (skipped: nvcc is not installed)',
  () => {
    const folder = mkdtempSync(join(tmpdir(), 'onelaunch-cuda-'));

    beforeAll(() => {
      cpSync(join(root, 'templates/cuda/lib'), join(folder, 'lib'), { recursive: true });
      for (const host of ['host', 'cuda/host', 'cuda/barriers/host', 'cuda/no_prompts/host'])
        cpSync(join(root, 'templates', host), join(folder, 'host'), { recursive: true });
      cpSync(join(root, 'test/native/cuda-standin'), folder, { recursive: true });
      writeFileSync(join(folder, 'abi.h'), abiHeader());
    });
    afterAll(() => rmSync(folder, { recursive: true, force: true }));

    const compile = async (args: readonly string[]) =>
      (await run(nvcc!.path, ['-std=c++17', '-I.', ...args], { cwd: folder })).stderr;

    for (const arch of archs) {
      it.each(kernels)(`needs no spills on ${arch}: $name`, async ({ flags }) => {
        const gencode = `-gencode=arch=${arch.replace('sm_', 'compute_')},code=${arch}`;
        const report = await compile([
          '-O3',
          gencode,
          ...flags,
          '-Xptxas',
          '-v',
          '-cubin',
          'kernel.cu',
          '-o',
          'kernel.cubin',
        ]);
        const spills = [...report.matchAll(/(\d+) bytes spill (?:stores|loads)/g)].map(([, bytes]) =>
          Number(bytes),
        );
        expect(spills.length).toBeGreaterThan(0);
        expect(Math.max(...spills)).toBe(0);
        const [, shared] = /(\d+) bytes smem/.exec(report) ?? [];
        expect(Number(shared)).toBeLessThanOrEqual(librarySharedBytes);
      });
    }

    it('has checks for a GPU that compile', async () => {
      const source = join(root, 'test/native/cuda-lib.cu');
      const flags = ['-O1', '-gencode=arch=compute_90a,code=sm_90a', '-I', join(root, 'templates')];
      await compile([...flags, '-c', source, '-o', 'cuda-lib.o']);
    });

    it('has a backend that compiles with any model', async () => {
      const errors = await compile([
        '-x',
        'c++',
        '-Xcompiler',
        '-Wall',
        '-DSTANDIN_ODD',
        '-c',
        'host/backend.cpp',
        '-o',
        'backend.o',
      ]);
      expect(errors).toBe('');
    });
  },
);
