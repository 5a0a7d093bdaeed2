// More queries of a key than a matrix instruction takes, on the emulated GPU: they are several sets, of which one has the key of its own token.
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, describe, expect, test } from 'vitest';
import type { Kernel } from '../../codegen/index.ts';
import { changedKernel } from '../support/changed-kernel.ts';
import { changedModels, fixture, rewrite } from '../support/changed-models.ts';
import { cannotEmulate } from '../support/emulate.ts';
import { verifyEmulated } from '../support/emulate-model.ts';
import { smallGpu } from '../support/small-gpu.ts';

const folder = mkdtempSync(join(tmpdir(), 'many-queries-'));
afterAll(() => rmSync(folder, { recursive: true, force: true }));
const { copyOf } = changedModels('many-queries');

const [heads, before, headDim, hidden] = [10, 4, 32, 128];
const bytesOf = 2; // of a number in bf16

/** llama3-micro with one key head in the place of two, which ten query heads share: its four, again and again. */
function manyQueries(): string {
  const model = copyOf(fixture('llama3-micro'), {
    'config.json': { num_attention_heads: heads, num_key_value_heads: 1 },
    'golden.json': undefined,
  });
  return rewrite(model, (tensors) =>
    Object.fromEntries(
      Object.entries(tensors).map(([name, tensor]) => {
        if (/\.[kv]_proj\./.test(name)) return [name, rowsOf(tensor, headDim)];
        if (name.includes('.q_proj.')) return [name, rowsOf(tensor, heads * headDim)];
        if (name.includes('.o_proj.')) return [name, columnsOf(tensor, heads * headDim)];
        return [name, tensor];
      }),
    ),
  );
}

type Tensor = Parameters<Parameters<typeof rewrite>[1]>[0][string];

function rowsOf({ dtype, data }: Tensor, rows: number): Tensor {
  const row = hidden * bytesOf;
  const parts = Array.from({ length: rows }, (_, i) => {
    const from = (i % (data.length / row)) * row;
    return data.subarray(from, from + row);
  });
  return { dtype, shape: [rows, hidden], data: Buffer.concat(parts) };
}

function columnsOf({ dtype, data }: Tensor, columns: number): Tensor {
  const row = before * headDim * bytesOf;
  const parts = Array.from({ length: hidden }, (_, i) => {
    const of = data.subarray(i * row, (i + 1) * row);
    return Buffer.concat([of, of, of]).subarray(0, columns * bytesOf);
  });
  return { dtype, shape: [hidden, columns], data: Buffer.concat(parts) };
}

const why = cannotEmulate();
describe.skipIf(why !== null)(why ? `many queries (skipped: ${why})` : 'many queries', () => {
  const verify = (change?: (kernel: Kernel) => Kernel) =>
    verifyEmulated({
      ...{ model: manyQueries(), plan: 'stream', weights: 'int8', tokens: 4 },
      target: smallGpu(folder, 'h100', 4),
      ...(change && { change }),
    });

  test('of a key make the logits of the reference', async () => {
    const { ok, cases } = await verify();
    expect(cases.flatMap(({ problems }) => problems)).toEqual([]);
    expect(ok).toBe(true);
  });

  test('the scores of one set alone are noticed', async () => {
    // What the scratch has in their place is whatever lay there: other numbers, or none.
    const noticed = verify((kernel) => {
      const name = 'stream/own.cuh';
      const source = kernel.sources[name]!;
      const changed = source.replace(
        'first < S::kQueries; first += S::kEach',
        'first < 8; first += S::kEach',
      );
      expect(changed).not.toBe(source);
      return changedKernel(kernel, 'changed', name, changed);
    }).then(
      ({ ok }) => !ok,
      ({ message }: Error) => message.includes('not finite'),
    );
    expect(await noticed).toBe(true);
  });
});
