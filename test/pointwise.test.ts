import { execFileSync, spawnSync } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll, describe, expect, test } from 'vitest';
import { findOps, PointwiseError, printOps } from '../codegen/emit/pointwise.ts';
import { type f32, pointwise, silu } from '../configs/dsl.ts';
import { add, swiglu } from '../configs/ops.ts';

// The ops of this file are printed from this file's own source text and run as they stand.
const sharp = (x: f32): f32 => x ** 3;
const gated = pointwise((gate: f32, up: f32) => silu(gate) * up);
const gelu = pointwise((x: f32) => 0.5 * x * (1 + Math.tanh(0.7978845608 * (x + 0.044715 * sharp(x)))));
const clamped = pointwise((x: f32, r: f32) => {
  const sum = x + r;
  const big = sum > 5 || sum < -5;
  return big ? (sum > 0 ? 5 : -5) : sum;
});
const grouping = pointwise((a: f32, b: f32) => a - (b - 1) - -(a + b) * (a / (b * b + 2)));
const negated = pointwise((a: f32) => -(-a) + +a - -1);
const powers = pointwise((a: f32, b: f32) => (a + b) ** 2 * 0.01 + Math.abs(a) ** 1.5 * 1e-7 + Math.PI);
const logic = pointwise((a: f32, b: f32) => (a > 0 && (b > 0 || !(a === b)) !== b < 1 ? a : b));
const chained = pointwise((a: f32, b: f32) => (a < b ? -1 : a > b ? 1 : 0) + (a !== b ? gated(a, b) : 0));
const several = pointwise(
  (a: f32, b: f32) =>
    Math.max(Math.min(a, b), Math.sin(a) * Math.cos(b)) +
    Math.log1p(Math.exp(-Math.abs(a))) +
    Math.sqrt(b * b + 1),
);
const here: Record<string, (...values: f32[]) => f32> = {
  gated,
  gelu,
  clamped,
  grouping,
  negated,
  powers,
  logic,
  chained,
  several,
};

const file = fileURLToPath(import.meta.url);
const configs = fileURLToPath(new URL('../configs/', import.meta.url));
const folder = mkdtempSync(join(tmpdir(), 'pointwise-'));
afterAll(() => rmSync(folder, { recursive: true }));

describe('the printed text', () => {
  test('the shipped ops are one line each, behind the helper that they call', async () => {
    const printed = await printOps(join(configs, 'ops.ts'));
    expect(printed.text).toMatchInlineSnapshot(`
      "DEVICE float silu(float x) { return x / (1.0f + expf(-x)); }
      DEVICE float swiglu(float gate, float up) { return silu(gate) * up; }
      DEVICE float add(float residual, float branch) { return residual + branch; }
      "
    `);
    expect(printed.ops.map((op) => [op.name, op.params])).toEqual([
      ['swiglu', ['gate', 'up']],
      ['add', ['residual', 'branch']],
    ]);
    expect(printed.helpers.map((op) => op.name)).toEqual(['silu']);
  });

  test('every form of expression has its C text', async () => {
    expect((await printOps(file)).text).toMatchInlineSnapshot(`
      "DEVICE float silu(float x) { return x / (1.0f + expf(-x)); }
      DEVICE float gated(float gate, float up) { return silu(gate) * up; }
      DEVICE float sharp(float x) { return x * x * x; }
      DEVICE float gelu(float x) { return 0.5f * x * (1.0f + tanhf(0.7978846f * (x + 0.044715f * sharp(x)))); }
      DEVICE float clamped(float x, float r) {
        const float sum = x + r;
        const bool big = sum > 5.0f || sum < -5.0f;
        return big ? (sum > 0.0f ? 5.0f : -5.0f) : sum;
      }
      DEVICE float grouping(float a, float b) { return a - (b - 1.0f) - -(a + b) * (a / (b * b + 2.0f)); }
      DEVICE float negated(float a) { return -(-a) + a - -1.0f; }
      DEVICE float powers(float a, float b) { return (a + b) * (a + b) * 0.01f + powf(fabsf(a), 1.5f) * 1e-7f + 3.1415927f; }
      DEVICE float logic(float a, float b) { return a > 0.0f && (b > 0.0f || !(a == b)) != (b < 1.0f) ? a : b; }
      DEVICE float chained(float a, float b) { return (a < b ? -1.0f : a > b ? 1.0f : 0.0f) + (a != b ? gated(a, b) : 0.0f); }
      DEVICE float several(float a, float b) { return fmaxf(fminf(a, b), sinf(a) * cosf(b)) + log1pf(expf(-fabsf(a))) + sqrtf(b * b + 1.0f); }
      "
    `);
  });

  test('only the asked ops are printed, in the asked order, with their helpers', async () => {
    const printed = await printOps(file, { ops: ['negated', 'gelu'] });
    expect(printed.ops.map((op) => op.name)).toEqual(['negated', 'gelu']);
    expect(printed.helpers.map((op) => op.name)).toEqual(['sharp']);
  });

  test('#line blames the source line of every statement', async () => {
    const path = write(
      `import { f32, pointwise } from 'onelaunch';
export const half = pointwise((x: f32) => {
  const y = x * 2;

  return y / 4;
});
`,
    );
    expect((await printOps(path, { shown: 'my/ops.ts', lines: true })).text).toMatchInlineSnapshot(`
      "#line 2 "my/ops.ts"
      DEVICE float half(float x) {
      #line 3 "my/ops.ts"
        const float y = x * 2.0f;
      #line 5 "my/ops.ts"
        return y / 4.0f;
      }
      "
    `);
  });

  test('a helper is found through a package name when the dsl file is told', async () => {
    const path = write(
      `import { type f32, pointwise, silu as swish } from 'onelaunch';
export const act = pointwise((x: f32) => swish(x));
`,
    );
    const printed = await printOps(path, { dsl: join(configs, 'dsl.ts') });
    expect(printed.ops[0]?.text).toBe('DEVICE float act(float x) { return silu(x); }\n');
    await expect(printOps(path)).rejects.toThrow("'swish' has no device equivalent");
  });

  test('findOps names the ops in source order', async () => {
    expect(await findOps(join(configs, 'ops.ts'))).toEqual(['swiglu', 'add']);
    expect(await findOps(file)).toEqual(Object.keys(here));
  });
});

describe('what cannot be printed', () => {
  const cases: Record<string, string> = {
    'a loop': 'pointwise((x: f32) => { for (const k of [1]) x += k; return x; })',
    'an assignment': 'pointwise((x: f32) => { x = 2; return x; })',
    'a missing return': 'pointwise((x: f32) => { const y = x; })',
    'a captured variable': 'pointwise((x: f32) => x + scale)',
    'an unknown call': "pointwise((x: f32) => parseInt('3') + x)",
    'an unknown constant': 'pointwise((x: f32) => x * Math.SQRT3)',
    'too many arguments': 'pointwise((x: f32) => Math.max(x, 1, 2))',
    'a parameter of another type': 'pointwise((x: number) => x)',
    'a default value': 'pointwise((x: f32 = 1) => x)',
    'another result': 'pointwise((x: f32): boolean => x > 1)',
    'a function expression': 'pointwise(function (x) { return x; })',
    'a condition as a number': 'pointwise((x: f32) => x * (x > 1))',
    'a number as a condition': 'pointwise((x: f32) => (x ? 1 : 2))',
    'an operator': 'pointwise((x: f32) => x % 2)',
    'a loose comparison': 'pointwise((x: f32) => (x == 2 ? 1 : 0))',
    'a template string': 'pointwise((x: f32) => `x`)',
    'a large number': 'pointwise((x: f32) => x * 1e39)',
    'a word of C': 'pointwise((register: f32) => register)',
    'a call of itself': 'pointwise((x: f32) => bad(x))',
  };
  const messages: string[] = [];

  test.each(Object.entries(cases))('%s is refused at its place', async (name, source) => {
    const text = `import { f32, pointwise, silu } from '${configs}dsl.ts';\nconst scale = 2;\nexport const bad = ${source};\n`;
    const error = await refusal(write(text), join(configs, 'dsl.ts'));
    expect(error.issues).toHaveLength(1);
    messages.push(`${name}\n${error.message}`);
  });

  test('every message says where, why and what is legal', () => {
    expect(messages).toHaveLength(Object.keys(cases).length);
    expect(messages.join('\n\n')).toMatchInlineSnapshot(`
      "a loop
      ops.ts:3:44 - error unsupported-statement: 'for of statement' is not supported in a pointwise op

      3 export const bad = pointwise((x: f32) => { for (const k of [1]) x += k; return x; });
                                                   ~~~~~~~~~~~~~~~~~~~~~~~~~~~~
      Legal here: const name = value, return value, condition ? a : b.

      an assignment
      ops.ts:3:44 - error unsupported-statement: 'expression statement' is not supported in a pointwise op

      3 export const bad = pointwise((x: f32) => { x = 2; return x; });
                                                   ~~~~~~
      Legal here: const name = value, return value, condition ? a : b.

      a missing return
      ops.ts:3:44 - error unsupported-statement: an op ends with a return

      3 export const bad = pointwise((x: f32) => { const y = x; });
                                                   ~~~~~~~~~~~~
      Legal here: return value.

      a captured variable
      ops.ts:3:46 - error captured-variable: 'scale' is captured from outside the op

      3 export const bad = pointwise((x: f32) => x + scale);
                                                     ~~~~~
      Legal here: a parameter scale: f32, const scale = ... inside the op.

      an unknown call
      ops.ts:3:42 - error unknown-call: 'parseInt' has no device equivalent

      3 export const bad = pointwise((x: f32) => parseInt('3') + x);
                                                 ~~~~~~~~
      Legal here: silu, Math.abs, Math.cos, Math.exp, Math.expm1, Math.log, Math.log1p, Math.max, Math.min, Math.pow, Math.sin, Math.sqrt, Math.tanh.

      an unknown constant
      ops.ts:3:46 - error captured-variable: 'Math.SQRT3' is not known to a pointwise op

      3 export const bad = pointwise((x: f32) => x * Math.SQRT3);
                                                     ~~~~~~~~~~
      Legal here: Math.E, Math.LN2, Math.LOG2E, Math.PI, Math.SQRT1_2, Math.SQRT2.

      too many arguments
      ops.ts:3:42 - error wrong-arguments: 'Math.max' takes 2 arguments, not 3

      3 export const bad = pointwise((x: f32) => Math.max(x, 1, 2));
                                                 ~~~~~~~~~~~~~~~~~
      Legal here: Math.max(a, b).

      a parameter of another type
      ops.ts:3:31 - error parameter-type: parameter 'x: number' is not a plain f32

      3 export const bad = pointwise((x: number) => x);
                                      ~~~~~~~~~
      Legal here: x: f32.

      a default value
      ops.ts:3:31 - error parameter-type: parameter 'x: f32 = 1' is not a plain f32

      3 export const bad = pointwise((x: f32 = 1) => x);
                                      ~~~~~~~~~~
      Legal here: x: f32.

      another result
      ops.ts:3:40 - error return-type: an op returns f32, not boolean

      3 export const bad = pointwise((x: f32): boolean => x > 1);
                                               ~~~~~~~
      Legal here: f32, no annotation.

      a function expression
      ops.ts:3:30 - error not-an-arrow: 'bad' is not an arrow function

      3 export const bad = pointwise(function (x) { return x; });
                                     ~~~~~~~~~~~~~~~~~~~~~~~~~~
      Legal here: write pointwise((x: f32) => ...) in place.

      a condition as a number
      ops.ts:3:46 - error not-a-number: '(x > 1)' is true or false where a number is needed

      3 export const bad = pointwise((x: f32) => x * (x > 1));
                                                     ~~~~~~~
      Legal here: (x > 1) ? 1 : 0.

      a number as a condition
      ops.ts:3:43 - error not-a-condition: 'x' is a number where true or false is needed

      3 export const bad = pointwise((x: f32) => (x ? 1 : 2));
                                                  ~
      Legal here: x !== 0.

      an operator
      ops.ts:3:44 - error unsupported-expression: operator '%' is not supported

      3 export const bad = pointwise((x: f32) => x % 2);
                                                   ~
      Legal here: +, -, *, /, <, <=, >, >=, ===, !==, &&, ||, **.

      a loose comparison
      ops.ts:3:45 - error unsupported-expression: operator '==' is not supported

      3 export const bad = pointwise((x: f32) => (x == 2 ? 1 : 0));
                                                    ~~
      Legal here: +, -, *, /, <, <=, >, >=, ===, !==, &&, ||, **.

      a template string
      ops.ts:3:42 - error unsupported-expression: 'no substitution template literal' is not supported in a pointwise op

      3 export const bad = pointwise((x: f32) => \`x\`);
                                                 ~~~
      Legal here: numbers, parameters, + - * / **, < <= > >= === !==, && || !, condition ? a : b, Math.*.

      a large number
      ops.ts:3:46 - error literal-out-of-range: 1e39 is not a float32

      3 export const bad = pointwise((x: f32) => x * 1e39);
                                                     ~~~~
      Legal here: 0, 1.4e-45 to 3.4e38.

      a word of C
      ops.ts:3:31 - error reserved-name: 'register' cannot name anything in C

      3 export const bad = pointwise((register: f32) => register);
                                      ~~~~~~~~
      Legal here: another name of letters and digits.

      a call of itself
      ops.ts:3:42 - error recursive-call: 'bad' calls itself

      3 export const bad = pointwise((x: f32) => bad(x));
                                                 ~~~
      Legal here: code without recursion."
    `);
  });

  test('all ops of a file are reported, one issue each, in source order', async () => {
    const path = write(`
const helper = (x: f32) => x + outside;
export const good = pointwise((x: f32) => x + 1);
export const first = pointwise((x: f32) => x % 2 + y);
export const second = pointwise((x: f32) => helper(x));
export const third = pointwise((x: f32) => helper(x) * 2);
`);
    const error = await refusal(path);
    expect(error.issues.map((issue) => [issue.line, issue.column, issue.token, issue.rule])).toEqual([
      [2, 32, 'outside', 'captured-variable'],
      [4, 46, '%', 'unsupported-expression'],
    ]);
    expect(error.kind).toBe('usage');
  });

  test('an op that is not there is refused with the ones that are', async () => {
    const error = await refusal(join(configs, 'ops.ts'), undefined, ['gelu']);
    expect(error.message).toMatchInlineSnapshot(`
      "ops.ts:1:1 - error op-missing: there is no op 'gelu' in this file
      Legal here: swiglu, add."
    `);
  });

  test('a missing file is refused by name', async () => {
    await expect(findOps(join(folder, 'none.ts'))).rejects.toThrow('cannot read the op file');
  });
});

describe('the compiled text', () => {
  const all: typeof here = { ...here, add, swiglu };

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

  test('nvcc compiles it for sm_90a', async ({ skip }) => {
    if (spawnSync('nvcc', ['--version']).status !== 0) skip('nvcc is not installed');
    const printed = await printOps(file, { lines: true, shown: 'test/pointwise.test.ts' });
    const calls = printed.ops.map(
      (op) => `x[i] = ${op.name}(${op.params.map((_, k) => `x[i + ${k}]`).join(', ')});`,
    );
    const source = join(folder, 'ops.cu');
    writeFileSync(
      source,
      `#define DEVICE __device__ __forceinline__\n${printed.text}__global__ void run(float* x, int i) {\n  ${calls.join('\n  ')}\n}\n`,
    );
    const run = spawnSync('nvcc', ['-arch=sm_90a', '-cubin', source, '-o', join(folder, 'ops.cubin')], {
      encoding: 'utf8',
    });
    expect(run.stderr).toBe('');
    expect(run.status).toBe(0);
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

function write(text: string): string {
  const path = join(mkdtempSync(join(folder, 'ops-')), 'ops.ts');
  writeFileSync(path, text);
  return path;
}

async function refusal(path: string, dsl?: string, ops?: readonly string[]): Promise<PointwiseError> {
  const error = await printOps(path, {
    shown: 'ops.ts',
    ...(dsl ? { dsl } : {}),
    ...(ops ? { ops } : {}),
  }).catch((e) => e);
  expect(error).toBeInstanceOf(PointwiseError);
  return error;
}
