// Weights on their way from files to packed slots: every bit, every format, and what may go wrong.

import { mkdtempSync, rmSync, truncateSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { Slot } from '../../abi/manifest.ts';
import { notPacked } from '../../runtime/engine/arguments.ts';
import { sourceDtype, type TensorSource } from '../../runtime/engine/bindings.ts';
import { fakeEngines, randomSource, randomSources } from '../support/fake-engines.ts';
import { bytesOf, type Dtype, slots } from '../support/fake-slots.ts';
import { converter, toBytes } from '../support/number-formats.ts';
import { read } from '../support/read-reply.ts';
import { failureOf } from '../support/refusal.ts';

const { fake, emptyEngine, readyEngine } = await fakeEngines();
const folder = mkdtempSync(join(tmpdir(), 'onelaunch-host-'));
afterAll(() => rmSync(folder, { recursive: true }));

describe('loading', () => {
  const dtypes = ['bf16', 'fp16', 'fp32'] as const;
  const paths = new Map<Dtype, string>();
  const offsets = slots.map((_, i) =>
    slots.slice(0, i).reduce((sum, { shape }) => sum + shape[0] * shape[1], 0),
  );
  const header = 13; // odd, as the data of a safetensors file may be
  const stored = (dtype: Dtype) => slots.map((slot, i) => pattern(dtype, slot.shape[0] * slot.shape[1], i));

  beforeAll(() => {
    for (const dtype of dtypes) {
      const path = join(folder, `${dtype}.bin`);
      writeFileSync(
        path,
        Buffer.concat([Buffer.alloc(header), ...stored(dtype).map((data) => toBytes(data, dtype))]),
      );
      paths.set(dtype, path);
    }
  });
  const fileSources = (dtype: Dtype): TensorSource[] =>
    slots.map((_, slot) => ({
      path: paths.get(dtype)!,
      offset: header + offsets[slot]! * bytesOf[dtype],
      slot,
      dtype: sourceDtype[dtype],
      head_rows: 0,
      seed: 0,
      mean: 0,
      scale: 0,
      packing: notPacked,
    }));

  describe.each([
    ['host memory', 0, 0xee],
    ['a device', 1, 0],
  ])('into %s', (_, device, gap) => {
    it.each(dtypes)('packs %s into every format, bit by bit, and touches nothing else', async (dtype) => {
      const engine = await emptyEngine({ device });
      fake.dirty();
      await engine.load(fileSources(dtype));
      expect(firstDifference(fake.weights(), packed(stored(dtype), dtype, gap))).toBe(null);
    });

    it('makes the same random weights with any number of threads', async () => {
      const images: Uint8Array[] = [];
      for (const threads of [1, 2, 5]) {
        const engine = await emptyEngine({ device, threads });
        await engine.load(randomSources());
        images.push(fake.weights());
      }
      expect(firstDifference(images[1]!, images[0]!)).toBe(null);
      expect(firstDifference(images[2]!, images[0]!)).toBe(null);
    });

    it('tells how far it is, up to all bytes', async () => {
      const engine = await emptyEngine({ device });
      const seen: [number, number][] = [];
      await engine.load(fileSources('fp32'), { onProgress: (...bytes) => seen.push(bytes) });
      const { weightBytes } = fake.manifest;
      expect(seen.at(-1)).toEqual([weightBytes, weightBytes]);
      expect(seen.every(([done], i) => done >= (seen[i - 1]?.[0] ?? 0))).toBe(true);
    });

    it('ends with the reason of the signal, or with what onProgress throws, and then has no weights', async () => {
      const engine = await emptyEngine({ device });
      const reason = new Error('enough');
      await expect(engine.load(fileSources('bf16'), { signal: AbortSignal.abort(reason) })).rejects.toBe(
        reason,
      );
      const failing = engine.load(fileSources('bf16'), {
        onProgress: () => {
          throw reason;
        },
      });
      await expect(failing).rejects.toBe(reason);
      await engine.load(fileSources('bf16'));
      await read(engine.generate([1], { maxTokens: 1 }));
    });

    it('forgets the sequence of the weights before', async () => {
      const engine = await readyEngine({ device });
      await read(engine.generate([1, 2, 3], { maxTokens: 2 }));
      expect(engine.position).toBe(4);
      await engine.load(randomSources());
      expect(engine.position).toBe(0);
    });
  });

  it('gives random weights of the mean and deviation asked for, the same on both kinds of backend', async () => {
    const images: Uint8Array[] = [];
    for (const device of [0, 1]) {
      const engine = await emptyEngine({ device });
      await engine.load(slots.map((_, slot) => ({ ...randomSource(slot), mean: 0.5, scale: 0.02, seed: 7 })));
      images.push(fake.weights());
    }
    expect(firstDifference(images[1]!, images[0]!)).toBe(null);
    const slot = slots[bigSlot]!;
    const n = slot.shape[0] * slot.shape[1];
    const values = Array.from(rowsOf(images[0]!, slot)).flatMap((row) => [...row]);
    expect(values.length).toBe(n);
    const mean = values.reduce((sum, value) => sum + value, 0) / n;
    const deviation = Math.sqrt(values.reduce((sum, value) => sum + (value - mean) ** 2, 0) / n);
    // Five standard errors of a mean and of a deviation.
    expect(Math.abs(mean - 0.5)).toBeLessThan((5 * 0.02) / Math.sqrt(n));
    expect(Math.abs(deviation - 0.02)).toBeLessThan((5 * 0.02) / Math.sqrt(2 * n));
    // Neighbours in a row, and rows, have nothing to do with each other.
    for (const distance of [1, slot.shape[1]]) {
      const pairs = values.slice(distance).map((value, i) => (value - mean) * (values[i]! - mean));
      const correlation = pairs.reduce((sum, product) => sum + product, 0) / pairs.length / deviation ** 2;
      expect(Math.abs(correlation)).toBeLessThan(5 / Math.sqrt(n));
    }
    expect(values.slice(0, 50)).toEqual(
      Array.from({ length: 50 }, (_, i) => randomReference(7n, i, 0.5, 0.02)),
    );
  });

  it.each<[string, (sources: TensorSource[]) => TensorSource[], RegExp, string]>([
    [
      'a missing file',
      (all) => [{ ...all[0]!, path: '/nowhere/x' }, ...all.slice(1)],
      /^cannot open \/nowhere\/x \(No such file/,
      'failed',
    ],
    ['a folder', (all) => [{ ...all[0]!, path: tmpdir() }, ...all.slice(1)], /is not a file$/, 'failed'],
    ['a slot without source', (all) => all.slice(0, -1), /^slot \d+ has no source$/, 'usage'],
    ['a slot with two sources', (all) => [...all, all[0]!], /^slot 0 has two sources$/, 'usage'],
    [
      'an offset past the end',
      (all) => [{ ...all[0]!, offset: 2 ** 50 }, ...all.slice(1)],
      /is too short: slot 0 needs bytes 1125899906842624 to/,
      'failed',
    ],
  ])('fails on %s, and the engine is then without weights', async (_, change, message, kind) => {
    const engine = await readyEngine();
    const error = await failureOf(engine.load(change(fileSources('bf16'))));
    expect(error.message).toMatch(message);
    expect(error.kind).toBe(kind);
    expect((await failureOf(engine.score([1], 0))).message).toBe('no weights are loaded');
  });

  it('fails on a file that was cut short', async () => {
    const path = join(folder, 'cut.bin');
    const whole = Buffer.concat([Buffer.alloc(header), ...stored('bf16').map((one) => toBytes(one, 'bf16'))]);
    writeFileSync(path, whole);
    truncateSync(path, whole.length - 1);
    const sources = fileSources('bf16').map((source) => ({ ...source, path }));
    const engine = await emptyEngine();
    expect((await failureOf(engine.load(sources))).message).toMatch(
      /cut\.bin is too short: slot \d+ needs bytes/,
    );
    writeFileSync(path, whole);
    await engine.load(sources);
  });

  it('fails on a file that ends while it is read', async () => {
    // A file of the kernel: its size is said to be 4096 bytes, and reading ends after a few.
    const sources = randomSources();
    const slot = slots.findIndex(({ tensor }) => tensor === 'norm');
    sources[slot] = {
      ...sources[slot]!,
      path: '/sys/class/net/lo/mtu',
      offset: 1000,
      dtype: sourceDtype.bf16,
    };
    const engine = await emptyEngine();
    const error = await failureOf(engine.load(sources));
    expect(error.message).toBe('/sys/class/net/lo/mtu ended at byte 1000 while it was read');
  });
});

const bigSlot = slots.findIndex((slot) => slot.tensor === 'long');

/** n stored numbers as bits: every pattern of 16 bits in turn; for fp32 also the ties of both 16-bit formats. */
function pattern(dtype: Dtype, n: number, salt: number): Uint32Array {
  const bits = new Uint32Array(n);
  let random = salt + 1;
  for (let i = 0; i < n; i++) {
    random = Math.imul(random, 1664525) + 1013904223;
    const any = (random ^ (random >>> 16)) >>> 0;
    if (dtype !== 'fp32') bits[i] = i & 0xffff;
    // Ties and their neighbours: a bf16 or fp16 pattern, half a step, and -1, 0 or 1.
    else if (i % 4 === 0) bits[i] = ((i & 0xffff) << 16) + 0x8000 + ((i >> 2) % 3) - 1;
    else if (i % 4 === 1) bits[i] = ((0x33000000 + ((i * 0x1000) % 0x15000000)) | (any & 0x80000000)) >>> 0;
    else bits[i] = any;
  }
  return bits;
}

/** What the packed weights must be; bytes of no slot are `gap`. */
function packed(stored: readonly Uint32Array[], from: Dtype, gap: number): Uint8Array {
  const bytes = new Uint8Array(fake.manifest.weightBytes).fill(gap);
  const view = new DataView(bytes.buffer);
  for (const [index, { shape, offset, stride, dtype }] of slots.entries()) {
    const [rows, columns] = shape;
    const width = Math.min(Math.ceil(columns / 32) * 32, stride);
    const convert = converter(from, dtype);
    for (let row = 0; row < rows; row++) {
      for (let column = 0; column < width; column++) {
        let bits = 0;
        if (column < columns) bits = convert(stored[index]![row * columns + column]!);
        const at = offset + (row * stride + column) * bytesOf[dtype];
        if (dtype === 'fp32') view.setUint32(at, bits, true);
        else view.setUint16(at, bits, true);
      }
    }
  }
  return bytes;
}

function firstDifference(got: Uint8Array, expected: Uint8Array): string | null {
  if (Buffer.compare(got, expected) === 0) return null;
  const at = got.findIndex((byte, i) => byte !== expected[i]);
  const slot = slots.findLast((candidate) => candidate.offset <= at);
  return `byte ${at} (${slot?.tensor} + ${at - (slot?.offset ?? 0)}) is ${got[at]}, expected ${expected[at]}`;
}

/** The rows of an fp32 slot, without padding. */
function rowsOf(image: Uint8Array, { shape: [rows, columns], offset, stride }: Slot): Float32Array[] {
  return Array.from(
    { length: rows },
    (_, row) => new Float32Array(image.buffer, offset + row * stride * 4, columns),
  );
}

/** Element i of random weights, with bigints. */
function randomReference(seed: bigint, i: number, mean: number, scale: number): number {
  const cut = (x: bigint) => BigInt.asUintN(64, x);
  const scatter = (x: bigint) => {
    let y = cut((x ^ (x >> 30n)) * 0xbf58476d1ce4e5b9n);
    y = cut((y ^ (y >> 27n)) * 0x94d049bb133111ebn);
    return y ^ (y >> 31n);
  };
  const bits = scatter(cut(scatter(seed) + BigInt(i + 1) * 0x9e3779b97f4a7c15n));
  const sum =
    [0n, 16n, 32n, 48n].reduce((total, shift) => total + Number((bits >> shift) & 0xffffn), 0) - 131070;
  return Math.fround(
    Math.fround(mean) + sum * Math.fround(Math.fround(scale) / Math.sqrt((2 ** 32 - 1) / 3)),
  );
}
