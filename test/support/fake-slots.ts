// The weight slots of the fake model.
import type { Slot } from '../../abi/manifest.ts';

export type Dtype = 'bf16' | 'fp16' | 'fp32';
/** A slot of plain numbers. */
export type PlainSlot = Slot & { readonly dtype: Dtype };
export const bytesOf: Readonly<Record<Dtype, number>> = { bf16: 2, fp16: 2, fp32: 4 };

export const slots = layOut();

/** Slots of all formats and odd shapes, as packWeights may place them: 256-byte alignment, rows padded to 32 elements. */
function layOut(): PlainSlot[] {
  const placed: PlainSlot[] = [];
  let end = 0;
  const add = (tensor: string, shape: [number, number], dtype: Dtype, stride: number, offset?: number) => {
    const start = offset ?? Math.ceil(end / 256) * 256;
    placed.push({ tensor, shape, offset: start, stride, dtype });
    const width = Math.min(Math.ceil(shape[1] / 32) * 32, stride);
    end = Math.max(end, start + ((shape[0] - 1) * stride + width) * bytesOf[dtype]);
    return start;
  };
  // All 65,535 finite and other patterns of 16 bits fit into 257 x 255.
  for (const dtype of ['bf16', 'fp16', 'fp32'] as const) add(`odd-${dtype}`, [257, 255], dtype, 256);
  const gate = add('gate', [7, 33], 'bf16', 128);
  add('up', [7, 33], 'bf16', 128, gate + 64 * 2);
  const q = add('q-bias', [1, 45], 'fp32', 45);
  const k = add('k-bias', [1, 19], 'fp32', 19, q + 45 * 4);
  add('v-bias', [1, 19], 'fp32', 19, k + 19 * 4);
  add('norm', [1, 37], 'fp32', 37);
  add('one', [1, 1], 'fp16', 1);
  const reserved = Math.ceil(end / 256) * 256;
  end = reserved + 256;
  // Larger than a chunk of 4 MiB, and rows lie across its border.
  add('long', [900, 999], 'fp32', 1024);
  add('flat', [300, 2048], 'bf16', 2048);
  // Rows longer than the window that a file is read through.
  const a = add('wide-a', [2, 140_001], 'fp16', 2 * 140_032);
  add('wide-b', [2, 140_001], 'fp16', 2 * 140_032, a + 140_032 * 2);
  // Unpadded, and at the end of the file but not of the packed weights: reading on for its padding would be seen.
  add('last', [1, 5], 'fp32', 5, reserved);
  return placed;
}
