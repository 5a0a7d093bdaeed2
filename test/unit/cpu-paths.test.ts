// Which instruction sets a machine has, decided by the generator as the library decides it when it is opened.
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { cpuPaths, multipliesPairs, pathsOf } from '../../codegen/build/cpu-paths.ts';
import { packageRoot } from '../../codegen/build/package-root.ts';
import { generate } from '../../codegen/index.ts';
import { resolveModel, resolvePlan, resolveTarget } from '../../configs/resolve.ts';

const isX64 = process.arch === 'x64';

test('the sets that a path needs are those that the library asks the CPU for', () => {
  const text = readFileSync(join(packageRoot(), 'templates/cpu/paths.h'), 'utf8');
  const asked = (expression: RegExp) =>
    [...expression.exec(text)![1]!.matchAll(/(?:supports\("|has_)(\w+)/g)].map(([, set]) => set!);
  const avx2 = asked(/const bool avx2 = (.*?);/s);
  const avx512 = [...avx2, ...asked(/const bool avx512 = avx2 && (.*?);/s)];
  const avx512bf16 = [...avx512, ...asked(/&kernel_avx512bf16 && avx512 && (.*?)\}/s)];
  expect(avx512bf16).toHaveLength(9);
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
  [`${skylake} avx512_bf16 avx512_vnni`, 'avx512bf16'],
  [`${skylake} avx512_bf16`, 'avx512'],
  ['avx512_bf16', 'plain'],
])('a CPU with %s runs %s at best', (flags, path) => {
  const text = `processor\t: 0\nflags\t\t: fpu ${flags}\nvmx flags\t: none\n`;
  expect(pathsOf(text)?.at(-1)?.name).toBe(path);
});

test.skipIf(!isX64)('of a machine that does not tell nothing is known', () => {
  expect(pathsOf(null)).toBe(null);
  expect(pathsOf('processor\t: 0\n')).toBe(null);
});

test.skipIf(!isX64)(
  'pairs of bf16 are multiplied by the best path that the library holds and the machine has',
  () => {
    const all = cpuPaths.map(({ name }) => name);
    const here = (flags: string) => pathsOf(`flags : ${flags}\n`);
    expect(multipliesPairs(all, here(`${skylake} avx512_bf16 avx512_vnni`))).toBe(true);
    expect(multipliesPairs(['plain', 'avx512'], here(`${skylake} avx512_bf16 avx512_vnni`))).toBe(false);
    expect(multipliesPairs(all, here(skylake))).toBe(false);
    expect(multipliesPairs(all, null)).toBe(false);
  },
);

test.each([
  ['cpu', 'cooperative', { perLayer: 5, once: 1 }],
  ['cpu', 'unfused', { perLayer: 5, once: 1 }],
  ['h100', 'cooperative', { perLayer: 0, once: 0 }],
  ['h100', 'stream', { perLayer: 0, once: 0 }],
])(
  'on %s, %s rounds for pairs of bf16: inputs of four products, queries and the head',
  async (target, plan, rounded) => {
    const { dims } = resolveModel('qwen3-0.6b');
    const { schedule } = await generate({
      dims,
      plan: await resolvePlan(plan),
      target: resolveTarget(target),
    });
    expect(schedule.pairRoundings).toEqual(rounded);
  },
);
