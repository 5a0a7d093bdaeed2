// Rows of heads that are rotated in part: the loader puts pairs where kernels have them, of numbers, codes and blocks.
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, expect, test } from 'vitest';
import { readReferenceModel } from '../../runtime/reference/weights.ts';
import { checkpointTensors } from '../../runtime/weights/checkpoint.ts';
import { loadPlan } from '../../runtime/weights/load-plan.ts';
import { blockLayouts } from '../support/blocks.ts';
import { fakeEngines } from '../support/fake-engines.ts';
import { ggufOf, writeGguf } from '../support/gguf.ts';
import type { FakeSlot } from '../support/host-fake.ts';
import { kinds, writeQuantised } from '../support/quantised-model.ts';

const source = join(import.meta.dirname, '../fixtures/phi4-mini-micro');
const folder = mkdtempSync(join(tmpdir(), 'onelaunch-part-'));
afterAll(() => rmSync(folder, { recursive: true }));

/** Four heads of queries and two of keys, of 32 of which 24 are rotated, keys in blocks too; values lie as they are. */
const columns = 128;
const named = (name: string) => `model.layers.1.self_attn.${name}_proj.weight`;
const keys: Omit<FakeSlot, 'offset' | 'dtype'> = {
  tensor: named('k'),
  shape: [64, columns],
  stride: columns,
  heads: [32, 24],
};
const slots: FakeSlot[] = [
  { tensor: named('q'), shape: [128, columns], offset: 0, stride: 160, dtype: 'fp32', heads: [32, 24] },
  { ...keys, offset: 81920, dtype: 'fp32' },
  { tensor: named('v'), shape: [64, columns], offset: 114688, stride: columns, dtype: 'fp32' },
  { ...keys, offset: 147456, dtype: 'int8' },
];
const { fake, emptyEngine } = await fakeEngines(slots);

/** Pair i of a slot's head is of rows i and i + 16. In the file those of the first twelve are i and i + 12, and the others follow. */
const pairs = Array.from({ length: 16 }, (_, i) => (i < 12 ? [i, i + 12] : [i + 12, i + 16]));
const order = [...pairs.map(([first]) => first!), ...pairs.map(([, second]) => second!)];

/** The first row of a slot that is not the one of the file with its place; undefined where all are. */
async function firstWrong(model: string, isRounded: boolean): Promise<string | undefined> {
  const engine = await emptyEngine();
  await engine.load([...loadPlan({ ...fake.manifest, slots }, checkpointTensors(model)).sources]);
  const image = fake.weights();
  const { tensors } = readReferenceModel(model);
  for (const { tensor, shape, offset, stride, dtype, heads } of slots) {
    const values = tensors(tensor);
    for (let row = 0; row < shape[0]; row++) {
      const from = heads ? row - (row % 32) + order[row % 32]! : row;
      const right = values.subarray(from * columns, (from + 1) * columns);
      const perNumber = dtype === 'int8' ? blockLayouts.int8.bytes / 32 : 4;
      const at = offset + row * stride * perNumber;
      const stored = Buffer.from(image.subarray(at, at + columns * perNumber));
      const numbers =
        dtype === 'int8'
          ? blockLayouts.int8.expand(stored)
          : Float32Array.from({ length: columns }, (_, i) => stored.readFloatLE(i * 4));
      // Half a step of the largest of 32, a half for the scale, and of codes the oracle's bf16.
      const largest = right.reduce((most, x) => Math.max(most, Math.abs(x)), 0);
      const most = largest * ((dtype === 'int8' ? 1 / 254 + 2 ** -11 : 0) + (isRounded ? 2 ** -8 : 0));
      const off = numbers.findIndex((x, i) => !(Math.abs(x - right[i]!) <= most));
      if (off !== -1) return `${tensor} in ${dtype}, row ${row}, column ${off}`;
    }
  }
  return undefined;
}

test('of numbers', async () => {
  expect(await firstWrong(source, false)).toBeUndefined();
});

test.each(['packed int4', 'int8, a row', 'fp8 of compressed-tensors, a row'])(
  'of codes: %s',
  async (name) => {
    const model = join(folder, name.replaceAll(/\W/g, '-'));
    writeQuantised(source, model, kinds[name]!, { only: (matrix) => matrix.includes('qkv_proj') });
    expect(await firstWrong(model, true)).toBeUndefined();
  },
);

test.each(['BF16', 'Q8_0', 'Q4_0'] as const)('of a GGUF file of %s', async (type) => {
  const path = writeGguf(
    join(folder, `${type}.gguf`),
    ggufOf(source, () => type),
  );
  expect(await firstWrong(path, type !== 'BF16')).toBeUndefined();
});
