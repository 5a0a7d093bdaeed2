// A plan's own pointwise ops: printed from the user's file, refused where they cannot be.
import { rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, describe, expect, test } from 'vitest';
import { generate, type Kernel, makeSchedule, plan, pointwise } from '../../codegen/index.ts';
import { parsePlan } from '../../codegen/plan/parse-plan.ts';
import type { FusionPlan } from '../../codegen/plan/plan.ts';
import type { f32 } from '../../configs/dsl.ts';
import cooperative from '../../configs/plans/cooperative.ts';
import stream from '../../configs/plans/stream.ts';
import unfused from '../../configs/plans/unfused.ts';
import { resolveModel, resolvePlan, resolveTarget } from '../../configs/resolve.ts';
import { ownOps, planFolder, writePlan } from '../support/plan-files.ts';

const folder = planFolder();
afterAll(() => rmSync(folder, { recursive: true, force: true }));
const { dims } = resolveModel(join(import.meta.dirname, '../fixtures/qwen3-micro'));
const kernelOf = (made: FusionPlan, target = 'cpu') =>
  generate({ dims, plan: made, target: resolveTarget(target) });
const printed = ({ sources }: Kernel) =>
  Object.entries(sources)
    .filter(([name]) => /^kernel\./.test(name))
    .flatMap(([, text]) => text.split('\n').filter((line) => /ops::|namespace|DEVICE float \w+\(/.test(line)))
    .map((line) => line.trim())
    .join('\n');

const geglu = pointwise((gate: f32, up: f32) => 0.5 * gate * (1 + Math.tanh(gate)) * up);
const half = pointwise((x: f32, branch: f32) => x + 0.5 * branch);
const third = pointwise((x: f32) => x / 3);

test('only pointwise ops take a function, by their types too', () => {
  // @ts-expect-error
  const made = cooperative.with('mine', {}, undefined, { ops: { qkv_proj: third } });
  expect(() => parsePlan(made)).toThrow("the plan cannot say what 'qkv_proj' computes");
});

test('an op of the plan is printed from its file, and called where the op stands', async () => {
  const made = cooperative.with('mine', {}, undefined, { ops: { swiglu: geglu } });
  expect(printed(await kernelOf(made))).toMatchInlineSnapshot(`
    "namespace ops {
    DEVICE float add(float residual, float branch) { return residual + branch; }
    namespace plan {
    DEVICE float geglu(float gate, float up) { return 0.5f * gate * (1.0f + tanhf(gate)) * up; }
    }  // namespace plan
    }  // namespace ops
    pass.x[token * kHidden + row] = ops::add(pass.x[token * kHidden + row], y[0]);
    pass.h[token * kFfn + row] = ops::plan::geglu(y[0], y[1]);
    pass.x[token * kHidden + row] = ops::add(pass.x[token * kHidden + row], y[0]);"
  `);
});

test('a residual of the plan is another one after attention than after the feed-forward part', async () => {
  const made = stream.with('mine', {}, undefined, { ops: { attn_add: half } });
  expect(printed(await kernelOf(made, 'h100'))).toMatchInlineSnapshot(`
    "namespace ops {
    DEVICE float silu(float x) { return x / (1.0f + expf(-x)); }
    DEVICE float swiglu(float gate, float up) { return silu(gate) * up; }
    DEVICE float add(float residual, float branch) { return residual + branch; }
    namespace plan {
    DEVICE float half(float x, float branch) { return x + 0.5f * branch; }
    }  // namespace plan
    }  // namespace ops
    const float x = ops::plan::half(residual, o.y);
    const float h = ops::swiglu(gate, up);
    const float x = ops::add(residual, o.y);"
  `);
});

test('ops are kept by plans that are made from the plan', async () => {
  const base = cooperative.with('base', {}, undefined, { ops: { attn_add: half } });
  const made = base.with('mine', {}, undefined, { ops: { swiglu: geglu } });
  expect(made.functions).toEqual({ attn_add: half, swiglu: geglu });
  expect(Object.keys(JSON.parse(JSON.stringify(made)).ops)).toEqual(['attn_add', 'swiglu']);
  expect(parsePlan(made).functions).toEqual(made.functions);
});

test('a plan file brings its ops, in TypeScript and in JavaScript', async () => {
  const text = printed(await kernelOf(await resolvePlan(writePlan(folder, 'geglu', ownOps.geglu))));
  expect(text).toContain('float geglu(float gate, float up) { return gelu(gate) * up; }');
  expect(text).toContain('ops::plan::geglu(');
  const ops = ownOps.geglu.ops.replaceAll(': f32', '');
  const script = await resolvePlan(writePlan(folder, 'geglu', { ...ownOps.geglu, ops, file: 'geglu.mjs' }));
  expect(printed(await kernelOf(script))).toBe(text);
});

test('an op may be imported by the plan file, and its helpers by the op file', async () => {
  writeFileSync(
    join(folder, 'act.ts'),
    "import { type f32, pointwise } from 'onelaunch/codegen';\nimport { silu } from 'onelaunch/codegen';\nexport const mine = pointwise((g: f32, u: f32) => silu(g) - u);\n",
  );
  const file = writePlan(folder, 'imported', {
    ops: "import { mine } from './act.ts';",
    replaced: 'swiglu: mine',
  });
  const text = printed(await kernelOf(await resolvePlan(file)));
  expect(text).toContain('DEVICE float mine(float g, float u) { return silu(g) - u; }');
});

describe('refuses', () => {
  const message = async (name: string, ops: string, replaced: string) =>
    resolvePlan(writePlan(folder, name, { ops, replaced }))
      .then(kernelOf)
      .then(
        () => 'accepted',
        (error: Error) => error.message.replaceAll(/\S*plans-\w+\//g, ''),
      );
  test('an op that is no pointwise one', async () => {
    expect(
      await message('one', 'const half = pointwise((x: f32) => x / 2);', 'attn_norm: half'),
    ).toMatchInlineSnapshot(`
      "one.ts:12:25: error: op-not-pointwise
        12 | ], barriers(), { ops: { attn_norm: half } });
           |                         ^^^^^^^^^
        the plan cannot say what 'attn_norm' computes.
        It can of 'attn_add', 'swiglu', 'ffn_add'."
    `);
  });
  test('a misspelt op', async () => {
    expect(
      await message('two', 'const half = pointwise((x: f32) => x / 2);', 'swigul: half'),
    ).toMatchInlineSnapshot(`
      "two.ts:12:25: error: op-not-pointwise
        12 | ], barriers(), { ops: { swigul: half } });
           |                         ^^^^^^
        the plan cannot say what 'swigul' computes: did you mean 'swiglu'?
        It can of 'attn_add', 'swiglu', 'ffn_add'."
    `);
  });
  test('a function of another number of values', async () => {
    expect(
      await message('three', 'const half = pointwise((x: f32) => x / 2);', 'swiglu: half'),
    ).toMatchInlineSnapshot(`
      "three.ts:12:33: error: op-function
        12 | ], barriers(), { ops: { swiglu: half } });
           |                                 ^^^^
        swiglu is a function of 2 values, gate and up, not of 1.
        Write: const swiglu = pointwise((gate: f32, up: f32) => ...)."
    `);
  });
  test('a function that is not marked', async () => {
    expect(
      await message('four', 'const half = (x: f32, y: f32): f32 => x / y;', 'swiglu: half'),
    ).toMatchInlineSnapshot(`
      "four.ts:12:33: error: op-function
        12 | ], barriers(), { ops: { swiglu: half } });
           |                                 ^^^^
        what 'swiglu' computes is not written as pointwise(...) in a file.
        Write: const swiglu = pointwise((gate: f32, up: f32) => ...)."
    `);
  });
  test('an op without a name', async () => {
    expect(await message('five', '', 'swiglu: pointwise((x: f32, y: f32) => x / y)')).toMatchInlineSnapshot(`
      "five.ts:12:33 - error op-missing: an op needs a name of its own

      12 ], barriers(), { ops: { swiglu: pointwise((x: f32, y: f32) => x / y) } });
                                         ~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~
      Legal here: const name = pointwise(...)."
    `);
  });
  test('what cannot be printed', async () => {
    expect(
      await message(
        'six',
        'const odd = pointwise((x: f32, y: f32) => Math.random() * x * y);',
        'swiglu: odd',
      ),
    ).toMatchInlineSnapshot(`
      "six.ts:2:43 - error unknown-call: 'Math.random' has no device equivalent

      2 const odd = pointwise((x: f32, y: f32) => Math.random() * x * y);
                                                  ~~~~~~~~~~~
      Legal here: silu, Math.abs, Math.cos, Math.exp, Math.expm1, Math.log, Math.log1p, Math.max, Math.min, Math.pow, Math.sin, Math.sqrt, Math.tanh."
    `);
  });
  test('a plan whose functions were lost', () => {
    const made = cooperative.with('lost', {}, undefined, { ops: { swiglu: geglu } });
    expect(() => parsePlan(JSON.parse(JSON.stringify(made)))).toThrow('op-function');
    expect(() => makeSchedule(dims, { ...made }, resolveTarget('cpu'))).toThrow('op-function');
    expect(() =>
      parsePlan(plan('x', unfused.stages, undefined, { ops: { swiglu: third } as never })),
    ).toThrow('swiglu is a function of 2 values, gate and up, not of 1');
  });
});
