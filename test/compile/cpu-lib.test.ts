// Compiles the CPU target's library for every instruction set this machine can run and checks it against plain loops.
import { execFile } from 'node:child_process';
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { z } from 'zod';
import { abiHeader } from '../../abi/header.ts';
import { microKernel } from '../support/fake-compiler.ts';
import { thorough } from '../support/thorough.ts';

const run = promisify(execFile);
const root = fileURLToPath(new URL('../..', import.meta.url));
const here = join(root, 'test/native');
const folder = mkdtempSync(join(tmpdir(), 'onelaunch-cpu-'));
const includes = [folder, join(root, 'templates'), join(root, 'templates/cpu'), here].map(
  (path) => `-I${path}`,
);

const avx512 = ['f', 'bw', 'vl', 'dq'].map((part) => `avx512${part}`);
const paths = [
  { isa: 'plain', needs: [], weights: ['bf16'] },
  { isa: 'avx2', needs: ['avx2', 'fma', 'f16c'], weights: thorough ? ['fp16', 'float'] : ['float'] },
  { isa: 'avx512', needs: [...avx512, 'fma', 'f16c'], weights: thorough ? ['bf16', 'fp16'] : ['fp16'] },
  { isa: 'avx512bf16', needs: [...avx512, 'avx512_bf16', 'avx512_vnni', 'fma', 'f16c'], weights: ['bf16'] },
];
const flagsOf = (needs: readonly string[]): string[] => needs.map((need) => `-m${need.replace('_', '')}`);
const isX64 = process.arch === 'x64';
const cpuFlags = isX64
  ? (/^flags\s*:(.*)$/m.exec(readFileSync('/proc/cpuinfo', 'utf8'))?.[1] ?? '').trim().split(' ')
  : [];

/** The path that this machine takes, and those that are far from it; the one between only where nothing is left out. */
const best = paths.findLast(({ needs }) => needs.every((need) => cpuFlags.includes(need)));
const checked = paths.filter((path) => thorough || path.isa !== 'avx512' || path === best);

/** -Og compiles in two thirds of the time of -O1, and what it makes takes as long. */
const optimised = thorough ? '-O1' : '-Og';

/** The sampler draws 240,000 tokens of 1000: what -O2 takes to compile more, a second, it draws quicker by 2 to 18 s. */
const optimisedSampler = '-O2';

const checkLine = z.object({ check: z.string(), compared: z.number().positive(), worst: z.number() });

async function compile(output: string, source: string, flags: readonly string[]): Promise<string> {
  const file = join(folder, output);
  await run('g++', [
    '-std=c++17',
    '-Wall',
    '-Wextra',
    '-Werror',
    '-pthread',
    ...includes,
    ...flags,
    '-o',
    file,
    source,
  ]);
  return file;
}

/** Compiles and runs a test program; the lines it prints. */
async function checksOf(output: string, source: string, flags: readonly string[]) {
  const { stdout } = await run(await compile(output, source, flags));
  return stdout
    .trim()
    .split('\n')
    .map((line) => checkLine.parse(JSON.parse(line)));
}

beforeAll(() => writeFileSync(join(folder, 'abi.h'), abiHeader()));
afterAll(() => rmSync(folder, { recursive: true }));

const hashes = new Map<string, string>();

for (const { isa, needs, weights } of checked) {
  const missing = needs.filter((need) => !cpuFlags.includes(need));
  const name = missing.length > 0 ? `${isa} (skipped: this CPU lacks ${missing.join(', ')})` : isa;
  describe.skipIf(missing.length > 0)(name, () => {
    it.each(weights)('computes what loops in double compute, %s weights', async (weight) => {
      const checks = await checksOf(`lib-${isa}-${weight}`, join(here, 'cpu-lib.cpp'), [
        optimised,
        `-DWEIGHT=${weight}`,
        ...flagsOf(needs),
      ]);
      const ofFormat = weight === 'float' ? 0 : 1;
      const ofPairs = isa === 'avx512bf16' ? 1 : 0;
      expect(checks.length).toBe(40 + ofFormat + ofPairs);
      expect(checks.filter(({ worst }) => !(worst <= 1))).toEqual([]);
    });

    // What multiplies inputs in 16 bits is read by the path of this machine; a thorough run has it of all.
    const inputs = thorough || isa === best?.isa ? [16, 8] : [8];
    it.each(inputs)('multiplies rows in blocks as loops in double do, inputs in %i bits', async (bits) => {
      const checks = await checksOf(`blocks-${isa}-${bits}`, join(here, 'cpu-blocks.cpp'), [
        optimised,
        `-DINPUT_BITS=${bits}`,
        ...flagsOf(needs),
      ]);
      expect(checks.length).toBe(bits === 8 ? 24 : 30);
      expect(checks.filter(({ worst }) => !(worst <= 1))).toEqual([]);
    });

    it('samples as a sort and the softmax say', async () => {
      const checks = await checksOf(`sampler-${isa}`, join(here, 'cpu-sampler.cpp'), [
        optimisedSampler,
        ...flagsOf(needs),
      ]);
      hashes.set(isa, checks.at(-1)?.check ?? '');
      expect(checks.length).toBe(14);
      expect(checks.filter(({ worst }) => !(worst <= 1))).toEqual([]);
      expect(hashes.get(isa)).toBe(hashes.get('plain'));
    });
  });
}

describe.skipIf(!isX64)('a kernel leaves no symbol that another instruction set could be linked to', () => {
  const exported = async (source: string, more: readonly string[] = []) => {
    const flags = ['-O0', '-c', '-Wno-error', ...more, ...flagsOf(paths.at(-1)?.needs ?? [])];
    const object = await compile('object', source, flags);
    const { stdout } = await run('nm', ['--defined-only', '--extern-only', '--format=posix', object]);
    return stdout
      .trim()
      .split('\n')
      .map((line) => line.split(' ')[0]);
  };

  it('whatever it calls of the library', async () => {
    expect(await exported(join(here, 'cpu-kernel.cpp'))).toEqual(['kernel_test']);
  });

  it('as it is generated', async () => {
    const { sources } = await microKernel();
    mkdirSync(join(folder, 'micro'));
    for (const name of ['kernel.cpp', 'model.h', 'slots.h']) {
      writeFileSync(join(folder, 'micro', name), sources[name]!);
    }
    expect(await exported(join(folder, 'micro/kernel.cpp'), ['-DISA_NAME=test'])).toEqual(['kernel_test']);
  });
});

it('runs passes in order on its team, and says why when it cannot', async () => {
  const file = await compile('backend', join(here, 'cpu-backend.cpp'), [
    optimised,
    join(root, 'templates/cpu/backend.cpp'),
  ]);
  const { stdout } = await run(file);
  const [device, ...checks] = stdout.trim().split('\n');
  expect(device).toMatch(/"CPU, .+, \d+ threads?"/);
  expect(checks.length).toBe(12);
  expect(
    checks.map((line) => checkLine.parse(JSON.parse(line))).filter(({ worst }) => !(worst <= 1)),
  ).toEqual([]);
});
