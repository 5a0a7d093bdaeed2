// Checkpoints with quantization_config: each format is the numbers that its definition says, for the loader and for the oracle.
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, expect, test } from 'vitest';
import type { Slot } from '../../abi/manifest.ts';
import { readModel } from '../../codegen/model/read-config.ts';
import { formatsText } from '../../codegen/model/weights.ts';
import { settleWeights } from '../../codegen/settle-weights.ts';
import { preflight } from '../../preflight.ts';
import { roundToBlocks } from '../../runtime/reference/blocks.ts';
import { readReferenceModel } from '../../runtime/reference/weights.ts';
import { checkpointTensors } from '../../runtime/weights/checkpoint.ts';
import { loadPlan } from '../../runtime/weights/load-plan.ts';
import { blockLayouts, bytesOfNumber } from '../support/blocks.ts';
import { fakeEngines } from '../support/fake-engines.ts';
import { decode, round } from '../support/number-formats.ts';
import { type Edit, type Kind, kinds, writeQuantised } from '../support/quantised-model.ts';

const source = join(import.meta.dirname, '../fixtures/qwen3-micro');
const folder = mkdtempSync(join(tmpdir(), 'onelaunch-quantised-'));
afterAll(() => rmSync(folder, { recursive: true }));

/** Two matrices of a layer, of other sizes; one with gaps between rows; five formats of slots. A chunk of 4 MiB ends within each, so that its rows are read
 *  from the middle on, too, as those of a large matrix are. */
const [wide, tall] = ['mlp.down_proj', 'self_attn.q_proj'].map((name) => `model.layers.1.${name}.weight`);
const both = (name: string) => name === wide || name === tall;
const slots: Slot[] = [
  { tensor: wide!, shape: [128, 384], offset: 2 ** 22 - 94_464, stride: 384, dtype: 'fp32' },
  { tensor: tall!, shape: [256, 128], offset: 2 * 2 ** 22 - 32_256, stride: 160, dtype: 'bf16' },
  { tensor: wide!, shape: [128, 384], offset: 3 * 2 ** 22 - 25_088, stride: 384, dtype: 'int8' },
  { tensor: tall!, shape: [256, 128], offset: 4 * 2 ** 22 - 7_424, stride: 128, dtype: 'int4' },
  { tensor: wide!, shape: [128, 384], offset: 5 * 2 ** 22 - 25_088, stride: 384, dtype: 'fp8' },
  { tensor: tall!, shape: [256, 128], offset: 6 * 2 ** 22 - 8_448, stride: 128, dtype: 'int4-asym' },
];
const { fake, emptyEngine } = await fakeEngines(slots);

/** The numbers of a slot in the packed weights. */
function numbersOf(image: Uint8Array, { shape: [rows, columns], offset, stride, dtype }: Slot): Float32Array {
  const bytes = bytesOfNumber(dtype);
  const out = new Float32Array(rows * columns);
  for (let row = 0; row < rows; row++) {
    const at = offset + row * stride * bytes;
    const stored = Buffer.from(image.subarray(at, at + columns * bytes));
    const plain = (column: number) =>
      dtype === 'fp32' ? stored.readFloatLE(column * 4) : decode(stored.readUInt16LE(column * 2), 'bf16');
    const blocks = dtype in blockLayouts ? blockLayouts[dtype as 'int8'].expand(stored) : null;
    for (let column = 0; column < columns; column++)
      out[row * columns + column] = blocks ? blocks[column]! : plain(column);
  }
  return out;
}

const differing = (a: Float32Array, b: Float32Array) =>
  a.findIndex((x, i) => x !== b[i] && !(x === 0 && b[i] === 0));
/** The largest difference, in steps of its 32 numbers: the least distance of two of those. */
function farInSteps(a: Float32Array, b: Float32Array): number {
  let most = 0;
  for (let from = 0; from < a.length; from += 32) {
    const sorted = b.slice(from, from + 32).sort();
    const step = Math.min(
      ...Array.from(sorted.subarray(1), (x, i) => x - sorted[i]!).filter((far) => far > 0),
    );
    for (let i = from; i < from + 32; i++) most = Math.max(most, Math.abs(a[i]! - b[i]!) / step);
  }
  return most;
}
/** Formats of blocks that have the codes of a kind as their levels. */
const levelsOf = ({ format, bits, symmetric, group: [, columns] }: Kind) =>
  symmetric && (columns ?? 32) % 32 === 0
    ? format === 'fp8' || format === 'float'
      ? 'fp8'
      : `int${bits}`
    : null;

test.each(Object.entries(kinds))('%s', async (name, kind) => {
  const directory = join(folder, name.replaceAll(/\W/g, '-'));
  const expected = writeQuantised(source, directory, kind, { only: both });
  const tensors = checkpointTensors(directory);
  const manifest = { ...fake.manifest, slots };
  const engine = await emptyEngine();
  await engine.load([...loadPlan(manifest, tensors).sources]);
  const image = fake.weights();
  const [floats, rounded, eights, fours, eighths, codes] = slots.map((slot) => numbersOf(image, slot));
  expect(differing(floats!, expected.get(wide!)!)).toBe(-1);
  const bf16 = (values: Float32Array) => values.map((x) => round(x, 'bf16'));
  expect(differing(rounded!, bf16(expected.get(tall!)!))).toBe(-1);

  const oracle = (format: string | undefined, tensor: string) =>
    readReferenceModel(
      directory,
      format ? { layers: format, embedding: 'bf16', head: 'bf16' } : undefined,
    ).tensors(tensor);
  expect(differing(oracle(undefined, tall!), rounded!)).toBe(-1);
  expect(differing(oracle('int8', wide!), eights!)).toBe(-1);
  expect(differing(oracle('int4', tall!), fours!)).toBe(-1);
  expect(differing(oracle('fp8', wide!), eighths!)).toBe(-1);
  expect(differing(oracle('int4-asym', tall!), codes!)).toBe(-1);
  // Codes that are kept are the numbers of the file but for the scale in fp16; others are rounded anew.
  const levels = levelsOf(kind);
  const blocks = [
    ['int8', eights!, wide!, 384],
    ['int4', fours!, tall!, 128],
    ['fp8', eighths!, wide!, 384],
  ] as const;
  for (const [format, got, tensor, columns] of blocks) {
    const right = expected.get(tensor)!;
    if (format === levels)
      expect(got.every((x, i) => Math.abs(x - right[i]!) <= Math.abs(right[i]!) * 2 ** -11)).toBe(true);
    else if (kind.format === 'awq' || kind.symmetric)
      expect(differing(got, roundToBlocks(format, right, columns))).toBe(-1);
  }
  // Scale and minimum, each rounded to fp16, are at most 15 and 16 steps.
  if (kind.bits === 4 && kind.group[1] !== 16)
    expect(farInSteps(codes!, expected.get(tall!)!)).toBeLessThan(31 * 2 ** -11);
});

test.each<[string, string]>([
  ['fp8, blocks of 128', 'fp8, embedding and head bf16'],
  ['fp8, blocks that do not divide', 'bf16'],
  ['fp8, one scale', 'fp8, embedding and head bf16'],
  ['fp8 of compressed-tensors, a row', 'fp8, embedding and head bf16'],
  ['fp8 of compressed-tensors, blocks', 'fp8, embedding and head bf16'],
  ['GPTQ of 4 bits, symmetric', 'int4, embedding and head bf16'],
  ['GPTQ of 4 bits, groups of 32', 'int4-asym, embedding and head bf16'],
  ['GPTQ of 8 bits, a row', 'int8, embedding and head bf16'],
  ['AWQ, groups of 128', 'int4-asym, embedding and head bf16'],
  ['packed int4', 'int4, embedding and head bf16'],
  ['packed int4, groups of 16', 'bf16'],
  ['packed int4, zero points', 'int4-asym, embedding and head bf16'],
  ['int8, a row', 'int8, embedding and head bf16'],
])('%s runs as %s', (name, text) => {
  const directory = join(folder, 'dims', 'model');
  writeQuantised(source, directory, kinds[name]!, { only: both });
  const { dims } = readModel(directory);
  expect(formatsText(dims)).toBe(text);
  // Where there are no kernels for blocks, and where plain is asked for, they are numbers.
  expect(formatsText(settleWeights(dims, undefined, () => false))).toBe('bf16');
  expect(formatsText(settleWeights(dims, 'plain'))).toBe('bf16');
});

test.each<[string, string]>([
  ['GPTQ of 4 bits, groups of 32', 'int4-asym, embedding and head bf16'],
  ['GPTQ, version 2', 'int4-asym, embedding and head bf16'],
  ['GPTQ of 4 bits, symmetric', 'int4, embedding and head bf16'],
  ['GPTQ of 8 bits, version 2', 'bf16'],
  ['GPTQ of 8 bits, a row', 'int8, embedding and head bf16'],
])('%s with "sym": true runs as %s', async (name, text) => {
  const directory = join(folder, 'said', 'model');
  const edit: Edit = (_, { quantization_config: config }) => (config.sym = true);
  writeQuantised(source, directory, kinds[name]!, { edit });
  const { dims } = await preflight({ model: directory, target: 'cpu' }, {});
  expect(formatsText(dims)).toBe(text);
  const rounded = await preflight({ model: directory, target: 'cpu', weights: 'int4' }, {});
  expect(formatsText(rounded.dims)).toBe('int4, embedding and head int8');
});

test.each<[string, (name: string) => boolean, string]>([
  ['all of the layers', () => true, 'int4, embedding and head bf16'],
  ['those of the MLP alone', (name) => name.includes('.mlp.'), 'bf16'],
  ['all but one', (name) => name !== tall, 'bf16'],
])('packed int4 of %s, named by targets, runs as what is plain in the file needs', async (_, only, text) => {
  const directory = join(folder, 'targets', 'model');
  const edit: Edit = (_, { quantization_config: config }) => {
    config.config_groups.group_0.targets = ['re:.*mlp.*', 're:.*self_attn.*'];
    config.ignore = [];
  };
  writeQuantised(source, directory, kinds['packed int4']!, { only, edit });
  const { dims } = await preflight({ model: directory, target: 'cpu' }, {});
  expect(formatsText(dims)).toBe(text);
  const rounded = await preflight({ model: directory, target: 'cpu', weights: 'int4' }, {});
  expect(formatsText(rounded.dims)).toBe('int4, embedding and head int8');
});

/** What is told of one matrix of a kind in a slot of a format. */
function notesOf(name: string, dtype: Slot['dtype'], edit: Edit = () => {}) {
  const directory = join(folder, 'notes');
  writeQuantised(source, directory, kinds[name]!, { only: both, edit });
  const manifest = { ...fake.manifest, slots: [{ ...slots[3]!, dtype }] };
  return loadPlan(manifest, checkpointTensors(directory)).warnings.slice(1);
}

test('notes say what is rounded: scales of levels that are kept, and numbers of codes that are not', () => {
  expect(notesOf('GPTQ of 4 bits, symmetric', 'int4')).toEqual([]);
  expect(notesOf('packed int4', 'int4')).toEqual([
    'codes kept as int4, scales rounded to fp16: 1 of packed int4',
  ]);
  expect(notesOf('AWQ, groups of 128', 'int4-asym')).toEqual([
    'codes kept as int4-asym, scales and minima rounded to fp16: 1 of AWQ int4',
  ]);
  expect(notesOf('AWQ, groups of 128', 'bf16')).toEqual([
    'quantised in the file, bf16 here: 1 of AWQ int4; each number is rounded by at most 0.39 % of itself',
  ]);
  expect(notesOf('AWQ, groups of 128', 'int4')).toEqual([
    'quantised to int4 here: 1 of AWQ int4; root mean square, 32 numbers are rounded by at most 6.9 % of the largest of them',
  ]);
});

/** Its first scale is this one, of BF16 or F32. */
const withScale =
  (scale: number): Edit =>
  (tensors) => {
    const name = Object.keys(tensors).find((one) => one.startsWith(tall!) && one.includes('_scale'))!;
    const { data, dtype } = tensors[name]!;
    const bytes = new Uint8Array(Float32Array.of(scale).buffer);
    data.set(dtype === 'F32' ? bytes : bytes.subarray(2));
  };

test.each<[string, Slot['dtype'], number, string | null]>([
  ['packed int4', 'int4', 2 ** -15, null],
  // 2.5 units of the smallest numbers of fp16.
  ['packed int4', 'int4', 2.5 * 2 ** -24, 'small scales lose up to 20 % of themselves'],
  ['packed int4, zero points', 'int4-asym', 2 ** -26, 'small scales lose up to 100 % of themselves'],
  ['packed int4', 'int4', 65536, 'some scales are too large for it'],
  ['packed int4', 'int4', Number.NaN, null],
  // Blocks of fp8 keep scales 256-fold.
  ['fp8, blocks of 128', 'fp8', 2.5 * 2 ** -24, null],
  ['fp8, blocks of 128', 'fp8', 2.5 * 2 ** -32, 'small scales lose up to 20 % of themselves'],
  ['fp8, blocks of 128', 'fp8', 256, 'some scales are too large for it'],
])('%s as %s with a scale of %d', (name, dtype, scale, lost) => {
  const [note, ...others] = notesOf(name, dtype, withScale(scale));
  expect(others).toEqual([]);
  const [, ...more] = note!.split('; ');
  const numbers = 'and numbers of bf16 (--weights plain) lose at most 0.39 %';
  expect(more).toEqual(lost === null ? [] : [`${lost}, ${numbers}`]);
});
