// nvcc accepts the options of the machine together, and the library keeps to the shared memory that is counted for it.
import { spawnSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { afterAll, expect, test } from 'vitest';
import { findNvcc } from '../../codegen/build/tools.ts';
import { generate } from '../../codegen/index.ts';
import { libraryScratch } from '../../codegen/schemes/barriers/library-scratch.ts';
import { tuningOf } from '../../codegen/schemes/barriers/tuning.ts';
import seed from '../../configs/plans/seed.ts';
import { resolveModel, resolveTarget } from '../../configs/resolve.ts';
import { quickNvcc } from '../support/quick-nvcc.ts';

const nvcc = findNvcc();
const folder = mkdtempSync(join(tmpdir(), 'tuning-'));
afterAll(() => rmSync(folder, { recursive: true, force: true }));

test.skipIf(!nvcc)(
  `nvcc accepts the options of the machine together${nvcc ? '' : ' (skipped: it is not installed)'}`,
  async () => {
    const { dims } = resolveModel(join(import.meta.dirname, '../fixtures/qwen3-micro'));
    const target = resolveTarget('h100');
    // Several tokens: both kinds of products are there.
    const plan = seed.with('all-options', {}, { buffers: 3, producers: 3, loadsInFlight: 4, tokens: 4 });
    const { sources } = await generate({ dims, target, plan });
    for (const [name, text] of Object.entries(sources)) {
      mkdirSync(dirname(join(folder, name)), { recursive: true });
      writeFileSync(join(folder, name), text);
    }
    const args = ['-std=c++17', '-I.', '-Ihost', '-gencode=arch=compute_90a,code=sm_90a'];
    const quick = [...quickNvcc(nvcc!), '-Xptxas', '-v', '-cubin', 'kernel.cu', '-o', 'kernel.cubin'];
    const { status, stderr } = spawnSync(nvcc!.path, [...args, ...quick], { cwd: folder, encoding: 'utf8' });
    expect(status, stderr).toBe(0);
    const shared = Number(/(\d+) bytes smem/.exec(stderr)?.[1]);
    expect(shared).toBeGreaterThan(0);
    expect(shared).toBeLessThanOrEqual(libraryScratch(tuningOf(plan, target)).staticBytes);
  },
);
