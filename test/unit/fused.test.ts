// Matrices that Phi-3 stores as one: the loader and the oracle read their rows, of numbers and of codes.
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, expect, test } from 'vitest';
import type { Slot } from '../../abi/manifest.ts';
import type { Packed } from '../../quantised/tensors.ts';
import { readReferenceModel } from '../../runtime/reference/weights.ts';
import { checkpointTensors } from '../../runtime/weights/checkpoint.ts';
import { partedTensors } from '../../runtime/weights/fused.ts';
import { loadPlan } from '../../runtime/weights/load-plan.ts';
import { fakeEngines } from '../support/fake-engines.ts';
import { round } from '../support/number-formats.ts';
import { type Kind, kinds, writeQuantised } from '../support/quantised-model.ts';
import { refusalOf } from '../support/refusal.ts';

const source = join(import.meta.dirname, '../fixtures/phi3-micro');
const folder = mkdtempSync(join(tmpdir(), 'onelaunch-fused-'));
afterAll(() => rmSync(folder, { recursive: true }));

/** Heads of 96, two of queries and two of keys, over 192 columns; 320 rows of gate and of up. */
const columns = 192;
const parts = [
  ...(['q', 'k', 'v'] as const).map(
    (name, i) => [`self_attn.${name}_proj`, 'self_attn.qkv_proj', i * 192, 192] as const,
  ),
  ...(['gate', 'up'] as const).map(
    (name, i) => [`mlp.${name}_proj`, 'mlp.gate_up_proj', i * 320, 320] as const,
  ),
];
const inLayer = (name: string) => `model.layers.1.${name}.weight`;
const slots = parts.map(
  ([name, , , rows], i): Slot => ({
    ...{ tensor: inLayer(name), shape: [rows, columns], offset: i * 320 * columns * 4, stride: columns },
    dtype: 'fp32',
  }),
);
const { fake, emptyEngine } = await fakeEngines(slots);

/** What the loader makes of each part, in float32. */
async function loaded(directory: string): Promise<Float32Array[]> {
  const engine = await emptyEngine();
  await engine.load([...loadPlan({ ...fake.manifest, slots }, checkpointTensors(directory)).sources]);
  const image = fake.weights();
  return slots.map(({ offset, shape: [rows] }) => {
    const bytes = image.slice(offset, offset + rows * columns * 4);
    return new Float32Array(bytes.buffer, bytes.byteOffset, rows * columns);
  });
}

const same = (a: Float32Array, b: Float32Array) =>
  a.length === b.length && a.every((x, i) => x === b[i] || (x === 0 && b[i] === 0));

async function expectParts(directory: string, whole: (fused: string) => Float32Array) {
  const read = await loaded(directory);
  const { tensors } = readReferenceModel(directory);
  for (const [i, [name, fused, first, rows]] of parts.entries()) {
    const right = whole(inLayer(fused)).subarray(first * columns, (first + rows) * columns);
    expect(same(read[i]!, right), `${name} as loaded`).toBe(true);
    const rounded = right.map((x) => round(x, 'bf16'));
    expect(same(tensors(inLayer(name)), rounded), `${name} to the oracle`).toBe(true);
  }
}

test('each part is its rows of the matrix', async () => {
  const { tensors } = readReferenceModel(source);
  await expectParts(source, tensors);
  const names = [...checkpointTensors(source).keys()];
  expect(names.filter((name) => /qkv_proj|gate_up_proj/.test(name))).toEqual([]);
});

/** Those whose groups of rows end where parts do; of 64 columns in the place of 128, which 192 are no whole number of. */
const parted = Object.entries(kinds)
  .filter(
    ([
      ,
      {
        group: [rows],
      },
    ]) => rows === null || rows === 1,
  )
  .map(([name, kind]): [string, Kind] => {
    const [rows, columns] = kind.group;
    return [name, { ...kind, group: [rows, columns === 128 ? 64 : columns] }];
  });

test.each(parted)('codes of %s', async (name, kind) => {
  const directory = join(folder, name.replaceAll(/\W/g, '-'));
  const expected = writeQuantised(source, directory, kind, { only: isFused });
  await expectParts(directory, (fused) => expected.get(fused)!);
});

test('groups of rows that end where parts do are read', async () => {
  const directory = join(folder, 'whole-groups');
  const kind: Kind = { format: 'fp8', bits: 8, group: [64, 64], symmetric: true, scales: 'fp32' };
  const expected = writeQuantised(source, directory, kind, { only: isFused });
  await expectParts(directory, (fused) => expected.get(fused)!);
});

test('groups of rows that begin within a part are refused by name', () => {
  const directory = join(folder, 'refused');
  writeQuantised(source, directory, kinds['fp8, blocks of 128']!, {
    only: (matrix) => matrix.includes('.qkv_proj.'),
  });
  const error = refusalOf(() => checkpointTensors(directory));
  expect(error.kind).toBe('usage');
  expect(error.message).toMatch(
    /model\.safetensors: model\.layers\.0\.self_attn\.qkv_proj\.weight is several/,
  );
  expect(error.message).toContain(
    'row 192, where one begins, is within a group of 128 rows that share scales',
  );
  expect(error.hint).toContain('fp8 with a scale for each row');
});

test('parts that words of codes do not end with are refused by name', () => {
  const shared = { ...{ file: 'f', offset: 0, bytes: 1, shape: [] }, dtype: 'F16' };
  const packed: Packed = {
    ...{ scales: shared, zeros: shared, zerosAdded: 0, fileRows: 24, levels: 'int4-asym' },
    group: { rows: 1, columns: 32 },
  };
  const codes = { ...{ file: 'f', offset: 0, bytes: 384, shape: [24, 32], packed }, dtype: 'AWQ int4' };
  const error = refusalOf(() => partedTensors(new Map([['l.mlp.gate_up_proj.weight', codes]])));
  expect(error.message).toContain('rows 0 to 11 are not whole words of eight codes');
});

test('a matrix that cannot be parted stays as it is', () => {
  const entry = (shape: number[]) => ({ ...{ file: 'f', dtype: 'BF16', offset: 0, bytes: 1 }, shape });
  const odd = new Map([
    ['l.mlp.gate_up_proj.weight', entry([5, 4])],
    ['l.self_attn.qkv_proj.weight', entry([9, 4])],
    ['l.self_attn.o_proj.weight', entry([4, 4])],
    ['m.self_attn.qkv_proj.weight', entry([9, 4])],
    ['n.self_attn.qkv_proj.weight', entry([9])],
  ]);
  expect(partedTensors(odd)).toEqual(odd);
});

const isFused = (name: string) => /qkv_proj|gate_up_proj/.test(name);
