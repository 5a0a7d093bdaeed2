// The C text of pointwise ops computes what the functions compute, and nvcc accepts it.
import { execFileSync, spawnSync } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, describe, expect, test } from 'vitest';
import { packageRoot } from '../../codegen/build/package-root.ts';
import { findNvcc } from '../../codegen/build/tools.ts';
import { printOps } from '../../codegen/emit/pointwise.ts';
import type { f32 } from '../../configs/dsl.ts';
import { add, swiglu } from '../../configs/ops.ts';
import * as here from '../support/pointwise-ops.ts';

const shown = 'test/support/pointwise-ops.ts';
const nvcc = findNvcc();
const folder = mkdtempSync(join(tmpdir(), 'pointwise-'));
afterAll(() => rmSync(folder, { recursive: true }));

const file = join(packageRoot(), shown);
const configs = join(packageRoot(), 'configs');

const name = 'nvcc compiles every form of expression for sm_90a';
test.skipIf(!nvcc)(nvcc ? name : `${name} (skipped: it is not installed)`, async () => {
  const printed = await printOps(join(packageRoot(), shown), { lines: true, shown });
  const calls = printed.ops.map(
    (op) => `x[i] = ${op.name}(${op.params.map((_, k) => `x[i + ${k}]`).join(', ')});`,
  );
  const source = join(folder, 'ops.cu');
  writeFileSync(
    source,
    `#define DEVICE __device__ __forceinline__\n${printed.text}__global__ void run(float* x, int i) {\n  ${calls.join('\n  ')}\n}\n`,
  );
  const run = spawnSync(nvcc!.path, ['-arch=sm_90a', '-cubin', source, '-o', join(folder, 'ops.cubin')], {
    encoding: 'utf8',
  });
  expect(run.stderr).toBe('');
  expect(run.status).toBe(0);
});

describe('the compiled text', () => {
  const all: Record<string, (...values: f32[]) => f32> = { ...here, add, swiglu };

  test('g++ agrees with the function itself on 1,000 random inputs', async () => {
    const program = join(folder, 'ops');
    const [ours, theirs] = [await printOps(file), await printOps(join(configs, 'ops.ts'))];
    const texts = new Map([...ours.helpers, ...ours.ops, ...theirs.ops].map((op) => [op.name, op.text]));
    const runs = [...ours.ops, ...theirs.ops].map(
      (op, i) =>
        `if (op == ${i}) for (int j = 0; j < n; j++) out[j] = ${op.name}(${op.params.map((_, k) => `in[${k}][j]`).join(', ')});`,
    );
    const source = join(folder, 'ops.cpp');
    writeFileSync(
      source,
      `#include <cmath>
#include <cstdio>
#include <cstdlib>
#define DEVICE static inline
${[...new Set([ours.text, ...theirs.ops.map((op) => op.text)])].join('')}
int main(int, char** argv) {
  constexpr int n = 1000;
  static float in[2][n], out[n];
  const int op = atoi(argv[1]);
  if (fread(in, sizeof in, 1, stdin) != 1) return 1;
  ${runs.join('\n  ')}
  return fwrite(out, sizeof out, 1, stdout) != 1;
}
`,
    );
    execFileSync('g++', ['-std=c++17', '-O2', '-Wall', '-Wextra', '-Werror', source, '-o', program]);
    const inputs = randomInputs(2000);
    for (const [i, op] of [...ours.ops, ...theirs.ops].entries()) {
      const run = spawnSync(program, [String(i)], { input: Buffer.from(inputs.buffer) });
      expect(run.status).toBe(0);
      const out = new Float32Array(
        run.stdout.buffer.slice(run.stdout.byteOffset, run.stdout.byteOffset + 4000),
      );
      for (let j = 0; j < 1000; j++) {
        const values = [inputs[j]!, inputs[1000 + j]!].slice(0, op.params.length);
        const wanted = all[op.name]!(...values);
        const error = Math.abs(out[j]! - wanted);
        expect(error, `${op.name}(${values})`).toBeLessThanOrEqual(
          floatBound(op.text, texts, [...values, wanted]),
        );
      }
    }
  });
});

/** Every operator or call of the text, and of what it calls, may be off by one unit in the last place of the largest number in sight. */
function floatBound(text: string, texts: ReadonlyMap<string, string>, values: readonly number[]): number {
  const steps = (printed: string): number => {
    const body = printed.slice(printed.indexOf('{'));
    const called = [...body.matchAll(/\b(\w+)\(/g)]
      .map((match) => texts.get(match[1]!))
      .filter((t) => t !== undefined);
    return (
      (body.match(/[-+*/?]|\w\(/g) ?? []).length + called.reduce((sum, helper) => sum + steps(helper), 0)
    );
  };
  return steps(text) * 2 ** -23 * Math.max(1, ...values.map(Math.abs));
}

function randomInputs(count: number): Float32Array {
  let state = 2024;
  return Float32Array.from({ length: count }, () => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    return (state / 2 ** 32) * 16 - 8;
  });
}
