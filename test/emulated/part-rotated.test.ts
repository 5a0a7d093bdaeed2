// A part of a head rotated, on the emulated GPU: rows change their order while they are loaded, and kernels know nothing of it.
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, describe, expect, test } from 'vitest';
import type { Kernel } from '../../codegen/index.ts';
import { changedKernel } from '../support/changed-kernel.ts';
import { cannotEmulate } from '../support/emulate.ts';
import { verifyEmulated } from '../support/emulate-model.ts';
import { smallGpu } from '../support/small-gpu.ts';

const folder = mkdtempSync(join(tmpdir(), 'part-rotated-'));
afterAll(() => rmSync(folder, { recursive: true, force: true }));

const why = cannotEmulate();
describe.skipIf(why !== null)(why ? `emulated (skipped: ${why})` : 'emulated', () => {
  const verify = (plan: string, change?: (kernel: Kernel) => Kernel) =>
    verifyEmulated({
      ...{
        model: join(import.meta.dirname, '../fixtures/phi4-mini-micro'),
        plan,
        target: smallGpu(folder, 'h100', 4),
      },
      ...(change && { change }),
    });

  test.each(['stream', 'cooperative'])('%s makes the logits of the reference', async (plan) => {
    const { ok, cases } = await verify(plan);
    expect(cases.flatMap(({ problems }) => problems)).toEqual([]);
    expect(ok).toBe(true);
  });

  test('rows in the order of the checkpoint are noticed', async () => {
    const { ok } = await verify('stream', (kernel) => {
      const slots = kernel.sources['slots.h']!;
      const changed = slots.replaceAll(', 32, 24 }', ' }');
      expect(changed).not.toBe(slots);
      return changedKernel(kernel, 'changed', 'slots.h', changed);
    });
    expect(ok).toBe(false);
  });
});
