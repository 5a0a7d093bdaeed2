// Files of llama.cpp's own quantiser: the oracle makes of every block what ggml makes of it, bit by bit.
import { createHash } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { expandGguf } from '../../runtime/reference/gguf.ts';
import { fixture } from '../support/changed-models.ts';

const folder = fixture('llama-cpp');
const digests: Record<string, Record<string, string>> = JSON.parse(
  readFileSync(join(folder, 'float32.json'), 'utf8'),
);
const digestOf = (values: Float32Array) => createHash('sha256').update(values).digest('hex');

describe.each(Object.keys(digests))('%s', (name) => {
  it('has the numbers of ggml in every tensor', () => {
    const tensors = [...expandGguf(join(folder, `${name}.gguf`))];
    expect(Object.fromEntries(tensors.map(([tensor, values]) => [tensor, digestOf(values)]))).toEqual(
      digests[name],
    );
  });
});

it('files of other types have other numbers', () => {
  const of = (tensor: string) => Object.values(digests).map((tensors) => tensors[tensor]);
  expect(new Set(of('blk.0.ffn_up.weight')).size).toBe(Object.keys(digests).length);
  expect(new Set(of('blk.0.ffn_norm.weight')).size).toBe(1); // norms are no blocks
});
