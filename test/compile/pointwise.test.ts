// nvcc accepts the C text of pointwise ops.
import { spawnSync } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, expect, test } from 'vitest';
import { packageRoot } from '../../codegen/build/package-root.ts';
import { findNvcc } from '../../codegen/build/tools.ts';
import { printOps } from '../../codegen/emit/pointwise.ts';

const shown = 'test/support/pointwise-ops.ts';
const nvcc = findNvcc();
const folder = mkdtempSync(join(tmpdir(), 'pointwise-'));
afterAll(() => rmSync(folder, { recursive: true }));

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
