// The log probabilities of a reply as they are kept, 8 bytes for each token that is told of: by their names they would be a hundred and more.
import type { Logprob, TokenLogprobs } from './engine/options.ts';
import type { ChosenLogprob, TokenLogprob } from './reply.ts';

export class KeptLogprobs {
  readonly #bytesOf: (token: number) => Iterable<number>;
  /** Told of at each token, itself the first; the same for all tokens of a reply. */
  #each = 1;
  #tokens = 0;
  /** [tokens][each], and room for more. */
  #ids = new Int32Array();
  #values = new Float32Array();

  /** @param bytesOf the text of a token, in UTF-8 */
  constructor(bytesOf: (token: number) => Iterable<number>) {
    this.#bytesOf = bytesOf;
  }

  /** Those of the next tokens. */
  push(told: readonly TokenLogprobs[]): void {
    this.#each = 1 + (told[0]?.top.length ?? this.#each - 1);
    this.#reserve((this.#tokens + told.length) * this.#each);
    for (const one of told) {
      const at = this.#tokens++ * this.#each;
      for (const [i, { token, logprob }] of [one, ...one.top].entries()) {
        this.#ids[at + i] = token;
        this.#values[at + i] = logprob;
      }
    }
  }

  /** Those of tokens from `begin` to before `end`, as far as they were told. */
  named(begin: number, end: number): ChosenLogprob[] {
    const last = Math.min(end, this.#tokens);
    return Array.from({ length: Math.max(0, last - begin) }, (_, i) => {
      const [chosen, ...top] = this.#row(begin + i);
      return { ...chosen!, top };
    });
  }

  #row(token: number): TokenLogprob[] {
    const at = token * this.#each;
    return Array.from({ length: this.#each }, (_, i) =>
      this.#name({ token: this.#ids[at + i]!, logprob: this.#values[at + i]! }),
    );
  }

  #name({ token, logprob }: Logprob): TokenLogprob {
    const bytes = [...this.#bytesOf(token)];
    return { token, text: Buffer.from(bytes).toString(), bytes, logprob };
  }

  #reserve(length: number): void {
    if (length <= this.#ids.length) return;
    const [ids, values] = [this.#ids, this.#values];
    this.#ids = new Int32Array(2 * length);
    this.#values = new Float32Array(2 * length);
    this.#ids.set(ids);
    this.#values.set(values);
  }
}
