// Runs the CUDA host of each scheme without a GPU, over a stand-in runtime and stand-in kernels.
import { execFile } from 'node:child_process';
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { promisify } from 'node:util';
import { afterAll, describe, expect, test } from 'vitest';
import { z } from 'zod';
import { findNvcc } from '../../codegen/build/tools.ts';
import { generate, type Kernel } from '../../codegen/index.ts';
import { resolvePlan } from '../../configs/resolve.ts';
import { microKernels } from '../golden/kernels.ts';
import { thorough } from '../support/thorough.ts';

const run = promisify(execFile);
const nvcc = findNvcc();
if (!nvcc) console.warn('skipped: the CUDA host is run only where the headers of CUDA are, with nvcc');

const checkLine = z.object({ check: z.string(), compared: z.number().positive(), worst: z.number() });

describe.skipIf(!nvcc)('the CUDA host', () => {
  const folder = mkdtempSync(join(tmpdir(), 'onelaunch-cuda-host-'));
  afterAll(() => rmSync(folder, { recursive: true, force: true }));

  const micro = async (plan: string) =>
    (await microKernels()).find(({ name }) => name === `qwen3-micro-h100-${plan}`)!;
  /** Its head is loaded in three parts, of which the last is shorter. */
  const largeHead = async () => {
    const { dims, target } = (await micro('stream')).schedule;
    return generate({
      ...{ dims: { ...dims, tiedHead: false, vocab: 4100 }, target },
      plan: await resolvePlan('stream'),
    });
  };
  type Case = readonly [
    name: string,
    scheme: string,
    () => Promise<Kernel>,
    blocks: number | null,
    count: number,
  ];
  const small: Case = ['stream', 'stream', () => micro('stream'), null, 14];
  const cases: readonly Case[] = [
    ['barriers', 'barriers', () => micro('cooperative'), 4, 9], // as many as barriers.cpp lets fit
    ['stream with a large head', 'stream', largeHead, null, 14],
    ...(thorough ? [small] : []),
  ];
  test.each(cases)(
    'of %s loads, replies, fails and is over as the contract says',
    async (name, scheme, generated, blocks, count) => {
      const kernel = await generated();
      const cwd = join(folder, name);
      for (const [file, text] of Object.entries(kernel.sources)) {
        mkdirSync(dirname(join(cwd, file)), { recursive: true });
        writeFileSync(join(cwd, file), text);
      }
      const native = join(import.meta.dirname, '..', 'native');
      const sources = ['checks.cpp', 'runtime.cpp', 'masks.cpp', `${scheme}.cpp`].map((file) =>
        join(native, 'cuda-host', file),
      );
      // As one source: most of what each takes to compile is for headers that the others have too.
      const all = [...sources, 'host/backend.cpp'].map((file) => `#include "${file}"\n`).join('');
      writeFileSync(join(cwd, 'all.cpp'), all);
      const flags = ['-std=c++17', '-O0', '-cudart', 'none', '-Xcompiler', '-Wall,-Werror,-pthread'];
      const includes = ['-I.', '-Ihost', `-I${native}`];
      await run(nvcc!.path, ['-x', 'c++', ...flags, ...includes, 'all.cpp', '-o', 'checks'], { cwd });
      const { stdout, stderr } = await run(join(cwd, 'checks'), { timeout: 60_000 });
      expect(stderr).toBe('');
      const [device, ...checks] = stdout.trim().split('\n').sort().reverse();
      expect(device).toBe(`{"device": "stand-in, ${blocks ?? kernel.schedule.blocks} blocks"}`);
      expect(checks).toHaveLength(count);
      expect(
        checks.map((line) => checkLine.parse(JSON.parse(line))).filter(({ worst }) => !(worst <= 1)),
      ).toEqual([]);
    },
  );
});
