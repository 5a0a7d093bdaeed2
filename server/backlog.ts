// What a client has not read yet, deflated: events of an answer say much the same, one after the other.
import { deflateRawSync, inflateRawSync } from 'node:zlib';

/** Deflated at a time. */
const blockBytes = 2 ** 16;

export class Backlog {
  readonly #blocks: Uint8Array[] = [];
  /** Behind the blocks, fewer bytes than one has. */
  #rest: Uint8Array[] = [];
  #restBytes = 0;
  #blocksBytes = 0;

  /** As it is held. */
  get bytes(): number {
    return this.#blocksBytes + this.#restBytes;
  }

  add(bytes: Uint8Array): void {
    this.#rest.push(bytes);
    this.#restBytes += bytes.length;
    if (this.#restBytes < blockBytes) return;
    const all = this.#takeRest();
    for (let at = 0; at < all.length; at += blockBytes) {
      const deflated = deflateRawSync(all.subarray(at, at + blockBytes), { level: 1 });
      // What zlib gives is part of a buffer of more than twice its size.
      const block = Uint8Array.from(deflated);
      this.#blocks.push(block);
      this.#blocksBytes += block.length;
    }
  }

  /** The first of them, one or more. */
  take(): Uint8Array {
    const block = this.#blocks.shift();
    if (block === undefined) return this.#takeRest();
    this.#blocksBytes -= block.length;
    return inflateRawSync(block);
  }

  #takeRest(): Uint8Array {
    const all = Buffer.concat(this.#rest);
    this.#rest = [];
    this.#restBytes = 0;
    return all;
  }
}
