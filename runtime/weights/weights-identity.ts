// Which weights a model has, told by samples of them: a finetuned model has the sizes and names of its origin, and other numbers.
import { createHash } from 'node:crypto';
import { closeSync, openSync } from 'node:fs';
import { readInto } from '../../files/plain-file.ts';
import type { Tensors } from './safetensors.ts';

/** Bytes that are read from the middle of each tensor. */
const sampleBytes = 256;

/** A hash of names, types, shapes and a sample of every tensor. */
export function weightsIdentity(tensors: Tensors): string {
  const hash = createHash('sha256');
  const opened = new Map<string, number>();
  const sample = Buffer.alloc(sampleBytes);
  try {
    for (const name of [...tensors.keys()].sort()) {
      const { file, dtype, shape, offset, bytes } = tensors.get(name)!;
      const fd = opened.get(file) ?? openSync(file, 'r');
      opened.set(file, fd);
      const wanted = Math.min(sampleBytes, bytes);
      const read = readInto(sample.subarray(0, wanted), fd, file, offset + Math.floor((bytes - wanted) / 2));
      hash.update(JSON.stringify([name, dtype, shape])).update(sample.subarray(0, read));
    }
  } finally {
    for (const fd of opened.values()) closeSync(fd);
  }
  return hash.digest('hex');
}
