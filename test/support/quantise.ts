// Blocks of GGUF files, made from numbers: the simplest way that gives valid blocks, each field in use. Not what llama.cpp would choose.

export type Quantised = 'Q8_0' | 'Q4_0' | 'Q4_1' | 'Q5_0' | 'Q5_1' | 'Q4_K' | 'Q5_K' | 'Q6_K';

/** The blocks of these numbers; their count is a multiple of a block's. */
export function quantise(type: Quantised, values: Float32Array): Buffer {
  const size = type.endsWith('_K') ? 256 : 32;
  const blocks: Buffer[] = [];
  for (let at = 0; at < values.length; at += size) blocks.push(makers[type](values.subarray(at, at + size)));
  return Buffer.concat(blocks);
}

const makers: Readonly<Record<Quantised, (values: Float32Array) => Buffer>> = {
  Q8_0: (values) => {
    const d = asHalf(mostOf(values) / 127);
    return Buffer.concat([halfBytes(d), Buffer.from(Int8Array.from(values, (x) => level(x / d, -127, 127)))]);
  },
  Q4_0: (values) => around(values, 4),
  Q5_0: (values) => around(values, 5),
  Q4_1: (values) => fromLeast(values, 4),
  Q5_1: (values) => fromLeast(values, 5),
  Q4_K: (values) => inParts(values, 4),
  Q5_K: (values) => inParts(values, 5),
  Q6_K: sixBits,
};

function around(values: Float32Array, bits: 4 | 5): Buffer {
  const middle = 1 << (bits - 1);
  const d = asHalf(mostOf(values) / (middle - 1));
  const q = Array.from(values, (x) => level(x / d, -middle, middle - 1) + middle);
  return Buffer.concat([halfBytes(d), ...fifths(q, bits), nibbles(q)]);
}

function fromLeast(values: Float32Array, bits: 4 | 5): Buffer {
  const most = (1 << bits) - 1;
  const least = asHalf(Math.min(...values));
  const d = asHalf((Math.max(...values) - least) / most);
  const q = Array.from(values, (x) => level((x - least) / d, 0, most));
  return Buffer.concat([halfBytes(d), halfBytes(least), ...fifths(q, bits), nibbles(q)]);
}

/** Eight parts of 32, each with a scale and a minimum of six bits. */
function inParts(values: Float32Array, bits: 4 | 5): Buffer {
  const most = (1 << bits) - 1;
  const parts = Array.from({ length: 8 }, (_, part) => values.subarray(part * 32, part * 32 + 32));
  const least = parts.map((part) => Math.max(0, -Math.min(...part)));
  const steps = parts.map((part, i) => (Math.max(...part) + least[i]!) / most);
  const d = asHalf(Math.max(...steps) / 63);
  const dLeast = asHalf(Math.max(...least) / 63);
  const scales = steps.map((step) => level(step / d, 1, 63));
  const minima = least.map((one) => level(one / dLeast, 0, 63));
  const q = Array.from(values, (x, i) => {
    const part = i >> 5;
    return level((x + dLeast * minima[part]!) / (d * scales[part]!), 0, most);
  });
  const packed = Buffer.alloc(12);
  for (let i = 0; i < 4; i++) {
    packed[i] = scales[i]! | ((scales[i + 4]! >> 4) << 6);
    packed[i + 4] = minima[i]! | ((minima[i + 4]! >> 4) << 6);
    packed[i + 8] = (scales[i + 4]! & 15) | ((minima[i + 4]! & 15) << 4);
  }
  const fifth = Buffer.alloc(bits === 5 ? 32 : 0);
  const low = Buffer.alloc(128);
  for (const [i, value] of q.entries()) {
    if (bits === 5) fifth[i % 32]! |= (value >> 4) << (i >> 5);
    low[(i >> 6) * 32 + (i % 32)]! |= (value & 15) << (i % 64 < 32 ? 0 : 4);
  }
  return Buffer.concat([halfBytes(d), halfBytes(dLeast), packed, fifth, low]);
}

/** Sixteen parts of 16, each with a signed scale of eight bits. */
function sixBits(values: Float32Array): Buffer {
  const parts = Array.from({ length: 16 }, (_, part) => values.subarray(part * 16, part * 16 + 16));
  const d = asHalf(mostOf(values) / 32 / 127);
  // Signed: those of odd parts are negative here.
  const scales = parts.map((part, i) => level(mostOf(part) / 32 / d, 1, 127) * (i % 2 === 0 ? 1 : -1));
  const q = Array.from(values, (x, i) => level(x / (d * scales[i >> 4]!), -32, 31) + 32);
  const [low, high] = [Buffer.alloc(128), Buffer.alloc(64)];
  for (const [i, value] of q.entries()) {
    const [upper, quarter, l] = [i >> 7, (i >> 5) & 3, i % 32];
    low[upper * 64 + (quarter & 1) * 32 + l]! |= (value & 15) << (quarter < 2 ? 0 : 4);
    high[upper * 32 + l]! |= (value >> 4) << (2 * quarter);
  }
  return Buffer.concat([low, high, Buffer.from(Int8Array.from(scales)), halfBytes(d)]);
}

const mostOf = (values: Float32Array) => Math.max(...values.map(Math.abs));
const level = (x: number, least: number, most: number) =>
  Math.min(most, Math.max(least, Number.isFinite(x) ? Math.round(x) : 0));

/** Element i in the low half of byte i, i + 16 in the high one. */
const nibbles = (q: readonly number[]) =>
  Buffer.from(Uint8Array.from({ length: 16 }, (_, i) => (q[i]! & 15) | ((q[i + 16]! & 15) << 4)));

function fifths(q: readonly number[], bits: 4 | 5): Buffer[] {
  if (bits === 4) return [];
  const bytes = Buffer.alloc(4);
  for (const [i, value] of q.entries()) bytes[i >> 3]! |= (value >> 4) << (i & 7);
  return [bytes];
}

/** The float16 next to x towards zero. */
const asHalf = (x: number) => fromHalf(halfBits(x));

function halfBytes(x: number): Buffer {
  const bytes = Buffer.alloc(2);
  bytes.writeUInt16LE(halfBits(x));
  return bytes;
}

export function halfBits(x: number): number {
  const size = Math.abs(x);
  const sign = x < 0 ? 0x8000 : 0;
  if (size < 2 ** -14) return sign | Math.floor(size * 2 ** 24);
  const exponent = Math.floor(Math.log2(size));
  return sign | ((exponent + 15) << 10) | Math.floor((size / 2 ** exponent - 1) * 1024);
}

function fromHalf(bits: number): number {
  const [exponent, fraction] = [(bits >> 10) & 31, bits & 1023];
  const size = exponent === 0 ? fraction * 2 ** -24 : (1024 + fraction) * 2 ** (exponent - 25);
  return bits & 0x8000 ? -size : size;
}
