// gen quantize: what it writes is read back with the codes and numbers that --weights makes, and nothing half is ever left.
import {
  cpSync,
  existsSync,
  lstatSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import type { Slot } from '../../abi/manifest.ts';
import { memoryIo } from '../../cli/io.ts';
import { run } from '../../cli/run.ts';
import { readModel } from '../../codegen/model/read-config.ts';
import { formatsText } from '../../codegen/model/weights.ts';
import { toFp8, writtenFormats } from '../../quantised/layout.ts';
import { chatTemplate } from '../../runtime/chat/chat-template.ts';
import { readPooling } from '../../runtime/embedding.ts';
import { readReferenceModel } from '../../runtime/reference/weights.ts';
import { checkpointTensors } from '../../runtime/weights/checkpoint.ts';
import { loadPlan } from '../../runtime/weights/load-plan.ts';
import { readBytes, readTensors, writeSafetensors } from '../../runtime/weights/safetensors.ts';
import { bytesOfNumber } from '../support/blocks.ts';
import { fakeEngines } from '../support/fake-engines.ts';

const source = join(import.meta.dirname, '../fixtures/qwen3-micro');
const folder = mkdtempSync(join(tmpdir(), 'onelaunch-quantise-'));
afterAll(() => rmSync(folder, { recursive: true }));
const at = (format: string) => join(folder, 'written', format);

async function gen(argv: readonly string[], signal?: AbortSignal) {
  const { io, written } = memoryIo(signal ? { signal } : {});
  return { code: await run(['quantize', ...argv], io), ...written };
}
beforeAll(async () => {
  for (const format of writtenFormats) {
    const { code, out } = await gen([source, '--weights', format, '--out', at(format)]);
    expect({ code, out }).toEqual({ code: 0, out: `${at(format)}\n` });
  }
});

const [wide, tall] = ['mlp.down_proj', 'self_attn.q_proj'].map((name) => `model.layers.1.${name}.weight`);
const slots: Slot[] = [
  { tensor: wide!, shape: [128, 384], offset: 0, stride: 384, dtype: 'int8' },
  { tensor: tall!, shape: [256, 128], offset: 100_352, stride: 128, dtype: 'int4' },
];
const { fake, emptyEngine } = await fakeEngines(slots);

/** The packed bytes of a slot, out of the checkpoint in a folder. */
async function packed(directory: string, slot: number): Promise<Buffer> {
  const engine = await emptyEngine();
  await engine.load([...loadPlan({ ...fake.manifest, slots }, checkpointTensors(directory)).sources]);
  const { offset, shape, dtype } = slots[slot]!;
  const bytes = shape[0] * shape[1] * bytesOfNumber(dtype);
  return Buffer.from(fake.weights().slice(offset, offset + bytes));
}

test.each([
  ['int8', 0],
  ['int4', 1],
] as const)('%s is loaded with the blocks that the loader rounds the model to', async (format, slot) => {
  const [read, rounded] = [await packed(at(format), slot), await packed(source, slot)];
  expect(read.equals(rounded)).toBe(true);
  expect(new Set(read).size).toBeGreaterThan(100);
});

test.each(['int8', 'int4'] as const)('%s has the numbers of the rounded model, for the oracle', (format) => {
  const formats = { layers: format, embedding: 'bf16', head: 'bf16' };
  const [written, rounded] = [at(format), source].map((dir) => readReferenceModel(dir, formats).tensors);
  for (const name of readTensors(source).keys()) {
    const [ours, right] = [written!(name), rounded!(name)];
    expect(
      ours.findIndex((x, i) => x !== right[i]),
      name,
    ).toBe(-1);
  }
});

test('fp8 has the nearest numbers by a scale that makes the largest of a row 448', () => {
  const numbers = Array.from({ length: 127 }, (_, bits) =>
    bits < 8 ? bits * 2 ** -9 : (8 + (bits % 8)) * 2 ** ((bits >> 3) - 10),
  );
  const nearest = (x: number) =>
    numbers.reduce((best, y, bits) => (Math.abs(y - x) < Math.abs(numbers[best]! - x) ? bits : best), 0);
  for (let x = 2 ** -11; x < 500; x *= 1.013) {
    expect(toFp8(x), String(x)).toBe(nearest(x));
    expect(toFp8(-x)).toBe(nearest(x) + 128);
  }
  // Ties are to the even fraction; what is larger than all is the largest.
  expect([2 ** -10, 3 * 2 ** -10, 17, 19, 1e6, 0].map(toFp8)).toEqual([0, 2, 88, 90, 126, 0]);
  const tensors = checkpointTensors(at('fp8'));
  const codes = tensors.get(tall!)!;
  const bytes = readBytes(codes, 0, codes.bytes);
  for (let row = 0; row < 256; row++)
    expect(Math.max(...bytes.subarray(row * 128, row * 128 + 128).map((code) => code & 127))).toBeGreaterThan(
      125,
    );
  const [read, plain] = [at('fp8'), source].map((dir) => readReferenceModel(dir).tensors(tall!));
  // Three bits of fraction: half an eighth, and as much as bf16 rounds.
  const far = read!.findIndex(
    (x, i) => Math.abs(x - plain![i]!) > Math.abs(plain![i]!) * (2 ** -4 + 2 ** -8) + 2 ** -12,
  );
  expect(far).toBe(-1);
});

describe('what is no matrix of a layer', () => {
  test('is as it was, config.json but for quantization_config too', () => {
    const before = readTensors(source);
    for (const format of writtenFormats) {
      const after = readTensors(at(format));
      for (const [name, entry] of before) {
        if (name.endsWith('_proj.weight')) continue;
        const [a, b] = [entry, after.get(name)!].map((one) => readBytes(one, 0, one.bytes));
        expect(Buffer.from(b!).equals(Buffer.from(a!)), name).toBe(true);
      }
      const config = (dir: string) => JSON.parse(readFileSync(join(dir, 'config.json'), 'utf8'));
      const { quantization_config: said, ...rest } = config(at(format));
      expect(rest).toEqual(config(source));
      expect(said.quant_method).toBe('compressed-tensors');
      expect(readdirSync(at(format)).sort()).toEqual(
        ['config.json', 'generation_config.json', 'model.safetensors'].sort(),
      );
    }
  });

  test('runs as the formats of the file', () => {
    const texts = writtenFormats.map((format) => formatsText(readModel(at(format)).dims));
    expect(texts).toEqual(['int8', 'int4', 'fp8'].map((format) => `${format}, embedding and head bf16`));
  });
});

/** A model whose matrices are changed. */
function changed(name: string, change: (data: Uint8Array, shape: number[]) => number[]): string {
  const directory = join(folder, name);
  mkdirSync(directory);
  cpSync(join(source, 'config.json'), join(directory, 'config.json'));
  const tensors = [...readTensors(source)].map(([tensor, entry]) => {
    const data = readBytes(entry, 0, entry.bytes);
    const isLast = tensor === 'model.layers.1.mlp.up_proj.weight';
    return [
      tensor,
      { dtype: entry.dtype, data, shape: isLast ? change(data, [...entry.shape]) : [...entry.shape] },
    ] as const;
  });
  writeSafetensors(join(directory, 'model.safetensors'), Object.fromEntries(tensors));
  return directory;
}

describe('refused, with nothing left', () => {
  const taken = join(folder, 'taken');
  mkdirSync(taken);
  writeFileSync(join(taken, 'a'), '');
  const infinite = () =>
    changed('infinite', (data, shape) => {
      new DataView(data.buffer).setUint16(0, 0x7f80, true);
      return shape;
    });
  const incomplete = () => {
    const directory = changed('incomplete', (_, shape) => shape);
    const kept = [...readTensors(directory)].filter(([name]) => name !== 'model.norm.weight');
    const tensors = kept.map(([name, entry]) => {
      const { dtype, shape, bytes } = entry;
      return [name, { dtype, shape, data: readBytes(entry, 0, bytes) }] as const;
    });
    writeSafetensors(join(directory, 'model.safetensors'), Object.fromEntries(tensors));
    return directory;
  };
  const odd = () => changed('odd', (_, [rows, columns]) => [(rows! * columns!) / 16, 16]);
  test.each<[string, () => readonly string[], RegExp]>([
    [
      'a folder that is not empty',
      () => [source, '--weights', 'int4', '--out', taken],
      /is there, and not empty/,
    ],
    ['a file', () => [source, '--weights', 'int4', '--out', join(taken, 'a')], /is there, and is no folder/],
    ['no --out', () => [source, '--weights', 'int4'], /no --out given/],
    ['no --weights', () => [source, '--out', join(folder, 'new')], /no --weights given/],
    ['plain', () => [source, '--weights', 'plain', '--out', 'x'], /must be int8, int4, fp8/],
    [
      'a quantised model',
      () => [at('int4'), '--weights', 'int4', '--out', join(folder, 'new')],
      /is quantised already/,
    ],
    [
      'no weights',
      () => ['qwen3-8b', '--weights', 'int4', '--out', join(folder, 'new')],
      /no weights of qwen3-8b here/,
    ],
    [
      'an infinite number',
      () => [infinite(), '--weights', 'int4', '--out', join(folder, 'new')],
      /up_proj.weight with a number that is not finite/,
    ],
    [
      'a tensor that is missing',
      () => [incomplete(), '--weights', 'int4', '--out', join(folder, 'new')],
      /model\.safetensors lacks model\.norm\.weight$/m,
    ],
    [
      'columns of half a group',
      () => [odd(), '--weights', 'int8', '--out', join(folder, 'new')],
      /16 columns, which are not whole groups of 32/,
    ],
  ])('%s', async (_, argv, text) => {
    const { code, out, err } = await gen(argv());
    expect({ code, out }).toEqual({ code: 2, out: '' });
    expect(err).toMatch(text);
    expect(err).toMatch(/^hint: /m);
    expect(readdirSync(folder).filter((name) => name.startsWith('.') || name === 'new')).toEqual([]);
  });

  test('a folder that cannot be made is an error of the machine', async () => {
    const { code, err } = await gen([source, '--weights', 'int4', '--out', '/proc/onelaunch/new']);
    expect({ code, err: err.includes('cannot write in /proc/onelaunch/new: it cannot be made') }).toEqual({
      code: 3,
      err: true,
    });
    expect(err).toContain('hint: give a folder in one that can be written: --out DIR');
  });
});

test('Ctrl-C leaves nothing, and an empty folder as it was', async () => {
  const empty = join(folder, 'empty');
  mkdirSync(empty);
  const stop = new AbortController();
  setImmediate(() => stop.abort(new DOMException('interrupted', 'AbortError')));
  const { code } = await gen([source, '--weights', 'int4', '--out', empty], stop.signal);
  expect(code).toBe(130);
  expect(readdirSync(empty)).toEqual([]);
  expect(readdirSync(folder).filter((name) => name.startsWith('.'))).toEqual([]);
  expect((await gen([source, '--weights', 'int4', '--out', empty])).code).toBe(0);
  expect(existsSync(join(empty, 'model.safetensors'))).toBe(true);
});

test('what says how a model of embeddings is pooled goes with it, and so do templates in a folder', async () => {
  const [model, out] = [join(folder, 'mean'), join(folder, 'mean-int4')];
  cpSync(source, model, { recursive: true });
  mkdirSync(join(model, '1_Pooling'));
  writeFileSync(join(model, '1_Pooling', 'config.json'), '{"pooling_mode_mean_tokens": true}');
  mkdirSync(join(model, 'additional_chat_templates'));
  writeFileSync(join(model, 'additional_chat_templates', 'tool_use.jinja'), 'tools');
  writeFileSync(join(model, 'modules.json'), '[]');
  const { code, err } = await gen([model, '--weights', 'int4', '--out', out]);
  expect(code, err).toBe(0);
  expect(readPooling(out)).toBe('mean');
  expect(existsSync(join(out, 'modules.json'))).toBe(true);
  expect(chatTemplate(out)([], { tools: [{}] })).toBe('tools');
});

test('an empty folder that is there stays the same folder, and a link to one a link', async () => {
  const [kept, link] = [join(folder, 'kept'), join(folder, 'link')];
  mkdirSync(kept);
  symlinkSync(kept, link);
  const { ino } = statSync(kept);
  const { code, err } = await gen([source, '--weights', 'int4', '--out', link]);
  expect(code, err).toBe(0);
  expect({ ino: statSync(kept).ino, isLink: lstatSync(link).isSymbolicLink() }).toEqual({
    ino,
    isLink: true,
  });
  expect(readdirSync(kept).sort()).toEqual(readdirSync(at('int4')).sort());
});
