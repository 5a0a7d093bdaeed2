// What a token is chosen by, in plain loops and doubles: nothing of it is shared with the sampler.

export interface Adjustments {
  readonly bias?: Readonly<Record<number, number>> | undefined;
  readonly repetition?: number | undefined;
  readonly presence?: number | undefined;
  readonly frequency?: number | undefined;
}

/** Logits with bias and penalties, for the token behind a prompt and what was said since. */
export function adjustedLogits(
  logits: ArrayLike<number>,
  { bias = {}, repetition = 1, presence = 0, frequency = 0 }: Adjustments,
  prompt: readonly number[],
  said: readonly number[],
): number[] {
  return Array.from(logits, (logit, id) => {
    let adjusted = logit + (bias[id] ?? 0);
    const times = said.filter((token) => token === id).length;
    if (times > 0 || prompt.includes(id)) {
      adjusted = adjusted < 0 ? adjusted * repetition : adjusted / repetition;
      adjusted -= presence;
      adjusted -= frequency * times;
    }
    return adjusted;
  });
}

/** Natural logs of the softmax of logits. */
export function logprobsOf(logits: ArrayLike<number>): number[] {
  const all = Array.from(logits);
  const largest = all.reduce((a, b) => Math.max(a, b));
  const total = Math.log(all.reduce((sum, logit) => sum + Math.exp(logit - largest), 0)) + largest;
  return all.map((logit) => logit - total);
}

/** How far a log probability may be from one of doubles. Roundings to float32: an exponential within five of them, its argument, sums of 16 before they
 *  are doubles, and what is told. */
export const logprobTolerance = (exact: number): number => 2 ** -24 * (5 + 1 + 15 + Math.abs(exact));
