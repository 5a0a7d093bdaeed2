// A model with numbers in its weights that are none.
import { closeSync, cpSync, openSync, readFileSync, writeSync } from 'node:fs';
import { join } from 'node:path';

/** The bits of each such number in bf16. */
export const strange = { nan: 0x7fc0, 'nan of all ones': 0xffff, inf: 0x7f80, '-inf': 0xff80 } as const;

/** Copies a directory whose weights are bf16, and writes one element of a tensor anew. */
export function poison(from: string, to: string, tensor: string, element: number, bits: number): void {
  cpSync(from, to, { recursive: true });
  const path = join(to, 'model.safetensors');
  const bytes = readFileSync(path);
  const length = Number(bytes.readBigUInt64LE(0));
  const header = JSON.parse(bytes.subarray(8, 8 + length).toString());
  const { dtype, data_offsets } = header[tensor];
  if (dtype !== 'BF16') throw new Error(`${tensor} is ${dtype}, not BF16`);
  const at = 8 + length + data_offsets[0] + element * 2;
  const file = openSync(path, 'r+');
  writeSync(file, Uint8Array.of(bits & 0xff, bits >> 8), 0, 2, at);
  closeSync(file);
}
