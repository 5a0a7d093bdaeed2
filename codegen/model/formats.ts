// Formats of matrices: plain numbers, or blocks of numbers of a few bits that share a scale.

/** Plain numbers, and bytes of one. */
export const dtypeBytes = { bf16: 2, fp16: 2, fp32: 4 } as const;
/** A format of plain numbers. */
export type Dtype = keyof typeof dtypeBytes;

interface BlockLayout {
  /** Of one number. */
  readonly bits: number;
  /** Numbers that share a scale; they follow each other in a row. */
  readonly group: number;
  readonly scale: 'fp16';
  /** Of a block: its scale, in some formats its minimum, then its numbers. */
  readonly bytes: number;
  /** The loader's code of the format: that of blocks of GGUF files that are the same, byte for byte, if there are any. */
  readonly stored: 'q8_0' | 'q4_0' | 'q4_1' | 'f8_block';
  /** In templates/cpu/lib/types.h. */
  readonly type: string;
  /** Its numbers are whole ones, which a CPU can multiply by inputs of 8 bits. */
  readonly isWhole: boolean;
}

const scaled = { group: 32, scale: 'fp16' } as const;

/** Formats in blocks. A matrix of another type is rounded to them while it is loaded. */
export const blockFormats = {
  int8: { ...scaled, bits: 8, bytes: 34, stored: 'q8_0', type: 'int8_block', isWhole: true },
  int4: { ...scaled, bits: 4, bytes: 18, stored: 'q4_0', type: 'int4_block', isWhole: true },
  'int4-asym': { ...scaled, bits: 4, bytes: 20, stored: 'q4_1', type: 'int4_asym_block', isWhole: true },
  fp8: { ...scaled, bits: 8, bytes: 34, stored: 'f8_block', type: 'fp8_block', isWhole: false },
} as const satisfies Record<string, BlockLayout>;
/** A format of matrices in blocks. */
export type BlockFormat = keyof typeof blockFormats;
export const blockNames = Object.keys(blockFormats) as readonly BlockFormat[];
/** What numbers of a matrix are stored as. */
export type Format = Dtype | BlockFormat;

/** Formats of the KV cache whose numbers share a scale, one for each key and each value of a head: bytes of a number and of the scale, and their
 *  C++ type, as templates/cpu/lib/types.h has rows of it; in a stream its rows are those of templates/cuda/stream/cached.cuh. */
export const cacheFormats = {
  int8: { bytes: 1, scaleBytes: 4, type: 'int8_t' },
} as const satisfies Record<string, { bytes: number; scaleBytes: number; type: string }>;
export type CacheFormat = keyof typeof cacheFormats;

/** What --cache takes: `plain`, numbers of the model's dtype. */
export const cacheNames = ['plain', ...(Object.keys(cacheFormats) as CacheFormat[])] as const;
export type CacheName = (typeof cacheNames)[number];

/** What --weights takes: `plain`, numbers of the model's dtype; `mixed`, int4 but for query, key and value, which are int8. */
export const weightNames = ['plain', ...blockNames, 'mixed'] as const;
export type WeightName = (typeof weightNames)[number];

/** Which matrices have which format. */
export interface MatrixFormats {
  readonly layers: Format;
  /** Of query, key and value, where theirs is another. */
  readonly qkv?: Format;
  /** Of the last product of a layer, where its is another. */
  readonly down?: Format;
  readonly embedding: Format;
  /** That of the embedding where they are one matrix. */
  readonly head: Format;
}

export const isBlocks = (format: Format): format is BlockFormat => Object.hasOwn(blockFormats, format);

/** Bytes of so many numbers, whole blocks where the format has blocks. */
export const formatBytes = (format: Format, elements: number): number =>
  isBlocks(format)
    ? Math.ceil(elements / blockFormats[format].group) * blockFormats[format].bytes
    : elements * dtypeBytes[format];

/** C++ type of a stored number, or block. */
export const formatType = (format: Format): string =>
  isBlocks(format) ? blockFormats[format].type : { bf16: 'bf16', fp16: 'fp16', fp32: 'float' }[format];
