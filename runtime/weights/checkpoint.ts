// The tensors of a checkpoint under the names that slots have, and whether its head is the embedding: what transformers settles when it loads.
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { isGgufFile, readGguf } from '../../gguf/header.ts';
import { checkpointTensorsOf } from '../../gguf/tensors.ts';
import { isRefused, quantisationSaid, readQuantisation } from '../../quantised/config.ts';
import { unpackedTensors } from '../../quantised/tensors.ts';
import { readJson } from '../json-file.ts';
import { partedTensors } from './fused.ts';
import { readTensors, sameBytes, type TensorEntry, type Tensors } from './safetensors.ts';

const embedding = 'model.embed_tokens.weight';
const head = 'lm_head.weight';

/** The tensors in a directory, or in a GGUF file; those of a model saved without its head, as embedding models are, get the prefix that they lack.
 *  Of a quantised checkpoint the codes of a matrix are its weight, and of matrices stored as one each has its name.
 *  @throws OnelaunchError of kind usage */
export function checkpointTensors(directory: string): Tensors {
  if (isGgufFile(directory)) return partedTensors(checkpointTensorsOf(readGguf(directory)));
  const tensors = new Map<string, TensorEntry>();
  const read = readTensors(directory);
  for (const [name, entry] of read) {
    const prefixed = `model.${name}`;
    const isBare = /^(layers|embed_tokens|norm)\./.test(name) && !read.has(prefixed);
    tensors.set(isBare ? prefixed : name, entry);
  }
  const quantisation = quantisationOf(directory);
  return partedTensors(quantisation === undefined ? tensors : unpackedTensors(tensors, quantisation));
}

/** What config.json says of quantised weights; nothing where it refuses them, which is told where the rest of the file is read. */
function quantisationOf(directory: string) {
  const path = join(directory, 'config.json');
  if (!existsSync(path)) return undefined;
  const config = readJson(path);
  if (typeof config !== 'object' || config === null) return undefined;
  const said = quantisationSaid(config as Record<string, unknown>);
  if (said === undefined) return undefined;
  const read = readQuantisation(said.value, said.key);
  return isRefused(read) ? undefined : read;
}

interface Head {
  readonly tiedHead: boolean;
  /** With an embedding also where only the head of tied weights is stored. */
  readonly tensors: Tensors;
  readonly notes: readonly string[];
}

/** Whether head and embedding are one matrix: as config.json says, but for a head that is there and differs. Reads both where they may
 *  be the same. Source: tie_weights of transformers 5. */
export function settleHead(tensors: Tensors, saysTied: boolean): Head {
  const stored = { embedding: tensors.get(embedding), head: tensors.get(head) };
  const same = { tiedHead: saysTied, tensors, notes: [] };
  if (!saysTied) return same;
  if (stored.head === undefined) return same;
  if (stored.embedding === undefined)
    return { ...same, tensors: new Map([...tensors, [embedding, stored.head]]) };
  if (sameBytes(stored.embedding, stored.head)) return same;
  const note = `${head} in ${stored.head.file} differs from the embedding, though config.json says "tie_word_embeddings": true: it is used, as transformers does; false would silence this`;
  return { ...same, tiedHead: false, notes: [note] };
}
