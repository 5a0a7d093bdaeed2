// What the tokens of a model add to a text, in memory that threads share.
import { setImmediate } from 'node:timers/promises';
import type { Tokenizer } from '../tokenizer/tokenizer.ts';

/** What grammars ask of a tokenizer. */
export type TokenTexts = Pick<Tokenizer, 'bytes' | 'specialIds'>;

export interface SharedTokens {
  /** Of all tokens, one after the other. */
  readonly bytes: Uint8Array;
  /** Where each ends. */
  readonly ends: Uint32Array;
  readonly specialIds: ReadonlySet<number>;
}

/** So many are asked for at a time: of some decoders one takes 10 us. */
const atATime = 500;

/** @param size tokens: ids below it */
export async function shareTokens({ bytes, specialIds }: TokenTexts, size: number): Promise<SharedTokens> {
  const all: Uint8Array[] = [];
  const ends = new Uint32Array(new SharedArrayBuffer(4 * size));
  let length = 0;
  for (let id = 0; id < size; id++) {
    if (id % atATime === 0) await setImmediate();
    const one = bytes(id);
    all.push(one);
    length += one.length;
    ends[id] = length;
  }
  const joined = new Uint8Array(new SharedArrayBuffer(length));
  for (const [id, one] of all.entries()) joined.set(one, ends[id]! - one.length);
  return { bytes: joined, ends, specialIds };
}

export const textsOf = ({ bytes, ends, specialIds }: SharedTokens): TokenTexts => ({
  specialIds,
  bytes: (id) => bytes.subarray(id === 0 ? 0 : ends[id - 1], ends[id]),
});
