// Pointwise ops become C text.
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, describe, expect, test } from 'vitest';
import { packageRoot } from '../../codegen/build/package-root.ts';
import { findOps, printOps } from '../../codegen/emit/pointwise.ts';
import { pointwise } from '../../configs/dsl.ts';
import { refusalOf } from '../support/refusal.ts';

const file = join(packageRoot(), 'test/support/pointwise-ops.ts');
const configs = join(packageRoot(), 'configs');
const folder = mkdtempSync(join(tmpdir(), 'pointwise-'));
afterAll(() => rmSync(folder, { recursive: true }));

test.each([undefined, 'x', {}])('pointwise(%j) is refused', (op) => {
  expect(refusalOf(() => pointwise(op as never)).message).toContain('and no function');
});

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
    expect(await findOps(file)).toEqual([
      'gated',
      'gelu',
      'clamped',
      'grouping',
      'negated',
      'powers',
      'logic',
      'chained',
      'several',
    ]);
  });
});

function write(text: string): string {
  const path = join(mkdtempSync(join(folder, 'ops-')), 'ops.ts');
  writeFileSync(path, text);
  return path;
}
