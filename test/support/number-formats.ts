// Numbers as weights are stored, and from one format to another, computed from the definitions of the formats.
import type { Dtype } from './fake-slots.ts';

export function toBytes(bits: Uint32Array, dtype: Dtype): Uint8Array {
  return new Uint8Array((dtype === 'fp32' ? bits : Uint16Array.from(bits)).buffer);
}

/** The number that bits stand for, computed from the definition of the format. */
export function decode(bits: number, dtype: Dtype): number {
  const [exponentBits, fractionBits] = { bf16: [8, 7], fp16: [5, 10], fp32: [8, 23] }[dtype] as [
    number,
    number,
  ];
  const fraction = bits % 2 ** fractionBits;
  const exponent = Math.floor(bits / 2 ** fractionBits) % 2 ** exponentBits;
  const sign = bits >= 2 ** (exponentBits + fractionBits) ? -1 : 1;
  const bias = 2 ** (exponentBits - 1) - 1;
  if (exponent === 2 ** exponentBits - 1) return fraction === 0 ? sign * Infinity : Number.NaN;
  if (exponent === 0) return sign * fraction * 2 ** (1 - bias - fractionBits);
  return sign * (1 + fraction / 2 ** fractionBits) * 2 ** (exponent - bias);
}

/** The nearest number of the format, ties to the even fraction, in exact arithmetic of doubles. */
export function round(value: number, dtype: Dtype): number {
  if (dtype === 'fp32') return Math.fround(value);
  if (!Number.isFinite(value) || value === 0) return value;
  const [least, fractionBits, largest] = dtype === 'bf16' ? [-126, 7, 2 ** 128] : [-14, 10, 2 ** 16];
  const exponent = Math.max(least, Math.floor(Math.log2(Math.abs(value))));
  const step = 2 ** (exponent - fractionBits);
  const steps = Math.abs(value) / step;
  const below = Math.floor(steps);
  const up = steps - below > 0.5 || (steps - below === 0.5 && below % 2 === 1);
  const rounded = (up ? below + 1 : below) * step;
  return Math.sign(value) * (rounded >= largest ? Infinity : rounded);
}

const scratch = new DataView(new ArrayBuffer(4));
/** Bits of a number that the format holds exactly. */
export function encode(value: number, dtype: Dtype): number {
  scratch.setFloat32(0, value);
  if (dtype === 'fp32') return scratch.getUint32(0);
  if (dtype === 'bf16') return scratch.getUint16(0);
  const sign = Object.is(value, -0) || value < 0 ? 0x8000 : 0;
  const size = Math.abs(value);
  if (size === Infinity) return sign | 0x7c00;
  if (size < 2 ** -14) return sign | (size * 2 ** 24);
  const exponent = Math.floor(Math.log2(size));
  return sign | ((exponent + 15) << 10) | ((size / 2 ** exponent - 1) * 1024);
}

/** Bits of one format to bits of another. */
export function converter(from: Dtype, to: Dtype): (bits: number) => number {
  if (from === to) return (bits) => bits;
  const convert = (bits: number) => {
    const value = decode(bits, from);
    return Number.isNaN(value) ? notANumber(bits, from, to) : encode(round(value, to), to);
  };
  if (from === 'fp32') return convert;
  const table = Uint32Array.from({ length: 2 ** 16 }, (_, bits) => convert(bits));
  return (bits) => table[bits]!;
}

/** Not-a-number keeps its sign and the upper bits of its fraction; where the fraction is cut, it becomes quiet. */
function notANumber(bits: number, from: Dtype, to: Dtype): number {
  const wide = from === 'bf16' ? bits * 2 ** 16 : bits;
  const sign = from === 'fp32' ? bits >>> 31 : bits >>> 15;
  const fraction = from === 'fp16' ? (bits & 0x3ff) << 13 : wide & 0x7fffff;
  if (to === 'fp32') return ((sign << 31) | 0x7f800000 | fraction) >>> 0;
  if (to === 'bf16') return (sign << 15) | 0x7fc0 | (fraction >>> 16);
  return (sign << 15) | 0x7e00 | (fraction >>> 13);
}
