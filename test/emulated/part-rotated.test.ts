// A part of a head rotated, on the emulated GPU: rows change their order while they are loaded, and kernels know nothing of it.
import { cpSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
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

/** Phi-4-mini's kind with pairs of one size: tables of a GPU have no other. */
function ofOneSize(): string {
  const source = join(import.meta.dirname, '../fixtures/phi4-mini-micro');
  const config = JSON.parse(readFileSync(join(source, 'config.json'), 'utf8'));
  const model = join(folder, 'one-size');
  for (const name of ['generation_config.json', 'model.safetensors'])
    cpSync(join(source, name), join(model, name));
  const rope_parameters = { ...config.rope_parameters, attention_factor: 1 };
  writeFileSync(join(model, 'config.json'), JSON.stringify({ ...config, rope_parameters }));
  return model;
}

const why = cannotEmulate();
describe.skipIf(why !== null)(why ? `emulated (skipped: ${why})` : 'emulated', () => {
  const verify = (plan: string, change?: (kernel: Kernel) => Kernel) =>
    verifyEmulated({
      ...{ model: ofOneSize(), plan, target: smallGpu(folder, 'h100', 4) },
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
