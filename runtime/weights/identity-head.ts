// A head that makes logits of what it is given: with the identity in its place, an engine of any target tells the last hidden state of each token.
import { closeSync, ftruncateSync, openSync, writeSync } from 'node:fs';
import { join } from 'node:path';
import { OnelaunchError } from '../../errors.ts';
import { duringFolder, writingTemporary } from '../../files/temporary-folder.ts';
import type { TensorEntry, Tensors } from './safetensors.ts';

interface HeadDims {
  readonly name: string;
  readonly vocab: number;
  readonly hidden: number;
}

const head = 'lm_head.weight';
/** 1 in bf16. */
const one = Uint8Array.of(0x80, 0x3f);

/** Tensors with that head in the place of theirs. @param file where it is, or will be
 *  @throws OnelaunchError of kind usage: there are fewer logits than numbers of a hidden state */
export function withIdentityHead(tensors: Tensors, { name, vocab, hidden }: HeadDims, file = ''): Tensors {
  if (vocab < hidden) {
    throw new OnelaunchError(
      'usage',
      `${name} has ${vocab} tokens, fewer than the ${hidden} numbers of its embeddings`,
      {
        hint: 'Embeddings need as many logits as a hidden state has numbers.',
      },
    );
  }
  const entry: TensorEntry = {
    file,
    dtype: 'BF16',
    shape: [vocab, hidden],
    offset: 0,
    bytes: vocab * hidden * 2,
  };
  return new Map([...tensors, [head, entry]]);
}

/** Writes the head [vocab, hidden] of bf16, 1 at (i, i) of its first rows, for as long as `read` takes. The file is sparse.
 *  @throws OnelaunchError of kind environment where it cannot be written; what `read` throws */
export function duringIdentityHead<T>(dims: HeadDims, read: (file: string) => Promise<T>): Promise<T> {
  return duringFolder('head', (folder) => {
    const file = join(folder, 'head.bin');
    writingTemporary(() => write(file, dims));
    return read(file);
  });
}

function write(file: string, { vocab, hidden }: HeadDims): void {
  const handle = openSync(file, 'w', 0o600);
  try {
    ftruncateSync(handle, vocab * hidden * 2);
    for (let i = 0; i < hidden; i++) writeSync(handle, one, 0, 2, (i * hidden + i) * 2);
  } finally {
    closeSync(handle);
  }
}
