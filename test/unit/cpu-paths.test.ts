// Which instruction sets a machine has, decided by the generator as the library decides it when it is opened.
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { cpuPaths, pathsOf } from '../../codegen/build/cpu-paths.ts';
import { packageRoot } from '../../codegen/build/package-root.ts';

const isX64 = process.arch === 'x64';

test('the sets that a path needs are those that the library asks the CPU for', () => {
  const text = readFileSync(join(packageRoot(), 'templates/cpu/backend.cpp'), 'utf8');
  const asked = (expression: RegExp) =>
    [...expression.exec(text)![1]!.matchAll(/supports\("(\w+)"\)/g)].map(([, set]) => set!);
  const avx2 = asked(/const bool avx2 = (.*?);/s);
  const avx512 = [...avx2, ...asked(/const bool avx512 = avx2 && (.*?);/s)];
  const avx512bf16 = [...avx512, ...asked(/kernel_run_avx512bf16 && avx512 && (.*?)\}/s)];
  expect(avx512bf16).toHaveLength(8);
  const all = [[], avx2, avx512, avx512bf16];
  expect(cpuPaths.map(({ needs }) => needs)).toEqual(isX64 ? all : [[]]);
});

const skylake = 'fma avx f16c avx2 avx512f avx512dq avx512cd avx512bw avx512vl';
test.skipIf(!isX64).each([
  ['sse4_2', 'plain'],
  ['avx f16c avx2', 'plain'],
  ['fma avx f16c avx2', 'avx2'],
  ['fma avx f16c avx2 avx512f', 'avx2'],
  [skylake, 'avx512'],
  [`${skylake} avx512_bf16`, 'avx512bf16'],
  ['avx512_bf16', 'plain'],
])('a CPU with %s runs %s at best', (flags, path) => {
  const text = `processor\t: 0\nflags\t\t: fpu ${flags}\nvmx flags\t: none\n`;
  expect(pathsOf(text)?.at(-1)?.name).toBe(path);
});

test.skipIf(!isX64)('of a machine that does not tell nothing is known', () => {
  expect(pathsOf(null)).toBe(null);
  expect(pathsOf('processor\t: 0\n')).toBe(null);
});
