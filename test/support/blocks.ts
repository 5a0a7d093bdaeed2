// Blocks of the formats of matrices, from their layouts alone: bytes of one, the loader's code, and the numbers that they stand for.
import type { Slot } from '../../abi/manifest.ts';
import { type BlockFormat, dtypeBytes, isBlocks } from '../../codegen/model/formats.ts';
import { expandBlocks } from '../../runtime/reference/gguf.ts';
import { decode } from './number-formats.ts';

interface Layout {
  readonly bytes: number;
  /** Of a slot. */
  readonly code: number;
  readonly expand: (blocks: Buffer) => Float32Array;
}

export const blockLayouts: Readonly<Record<BlockFormat, Layout>> = {
  int8: { bytes: 34, code: 4, expand: (blocks) => expandBlocks(8, blocks) },
  int4: { bytes: 18, code: 5, expand: (blocks) => expandBlocks(2, blocks) },
  'int4-asym': { bytes: 20, code: 6, expand: (blocks) => expandBlocks(3, blocks) },
  fp8: { bytes: 34, code: 19, expand: expandFp8 },
};

/** Bytes of a number in a slot, its share of the scale included. */
export const bytesOfNumber = (dtype: Slot['dtype']): number =>
  isBlocks(dtype) ? blockLayouts[dtype].bytes / 32 : dtypeBytes[dtype];

/** A scale in fp16, then 32 numbers of e4m3, of which it multiplies a 256th. */
function expandFp8(blocks: Buffer): Float32Array {
  const out = new Float32Array((blocks.length / 34) * 32);
  return out.map((_, i) => {
    const at = Math.floor(i / 32) * 34;
    return (decode(blocks.readUInt16LE(at), 'fp16') * e4m3(blocks[at + 2 + (i % 32)]!)) / 256;
  });
}

/** Blocks never hold the bits of NaN: they go by their scale. */
export function e4m3(bits: number): number {
  const sign = bits & 128 ? -1 : 1;
  const [exponent, fraction] = [(bits >> 3) & 15, bits & 7];
  return sign * (exponent === 0 ? fraction * 2 ** -9 : (8 + fraction) * 2 ** (exponent - 10));
}
