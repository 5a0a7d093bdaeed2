// Sampled replies of an engine against a sort and the softmax in double, over the engine's own logits; noise as templates/host/noise.h defines it.
import type { Sampling } from '../../runtime/engine/bindings.ts';
import type { Engine } from '../../runtime/engine/engine.ts';
import { greedy } from '../../runtime/engine/options.ts';
import { read } from './read-reply.ts';

/** What sampling depends on. */
export type Drawn = Pick<Sampling, 'temperature' | 'top_k' | 'top_p' | 'min_p'> &
  Partial<Pick<Sampling, 'repetition_penalty' | 'presence_penalty' | 'frequency_penalty'>> & {
    readonly seed: number;
  };

const mask64 = (1n << 64n) - 1n;

/** Key of the noise of a position: two rounds of splitmix64. */
function noiseKey(seed: number, position: number): bigint {
  let x = BigInt(seed);
  for (let round = 0; round < 2; round++) {
    x = (x + 0x9e3779b97f4a7c15n) & mask64;
    x = ((x ^ (x >> 30n)) * 0xbf58476d1ce4e5b9n) & mask64;
    x = ((x ^ (x >> 27n)) * 0x94d049bb133111ebn) & mask64;
    x ^= x >> 31n;
    if (round === 0) x ^= (BigInt(position) << 1n) | 1n;
  }
  return x;
}

/** Gumbel noise of a token. */
function gumbel(key: bigint, token: number): number {
  let x = (token + Number(key & 0xffffffffn)) >>> 0;
  for (let round = 0; round < 2; round++) {
    x = Math.imul(x ^ (x >>> 16), 0x7feb352d) >>> 0;
    x = Math.imul(x ^ (x >>> 15), 0x846ca68b) >>> 0;
    x = (x ^ (x >>> 16)) >>> 0;
    if (round === 0) x = (x + Number(key >> 32n)) >>> 0;
  }
  const v = (x + 0.5) / 2 ** 32;
  return -Math.log(-Math.log1p(-v));
}

/** Why `chosen` is not what these logits give at this position; null: it is, or rounding may have chosen it. */
export function notDrawn(
  logits: Float32Array,
  chosen: number,
  position: number,
  asked: Drawn,
): string | null {
  const { temperature, top_k, top_p, min_p, seed } = asked;
  const z = logits.map((x) => x / Math.fround(temperature));
  const order = [...z.keys()].sort((a, b) => z[b]! - z[a]!);
  const top = z[order[0]!]!;
  const mass = (id: number) => Math.exp(z[id]! - top);
  let left = order;
  if (top_k > 0 && top_k < z.length) {
    const least = z[order[top_k - 1]!]!;
    left = order.filter((id) => z[id]! >= least);
  }
  // exp_fixed is a polynomial in float32, in 2^-40: a few of its roundings, and one unit for each token.
  const rounding = 2 ** -21;
  const total = left.reduce((sum, id) => sum + mass(id), 0);
  const unsure = total * rounding + left.length * 2 ** -40;
  let before = 0;
  let surely = -Infinity;
  let found = -Infinity;
  const key = noiseKey(seed, position);
  for (let at = 0; at < left.length; ) {
    // Equals stay together.
    let end = at;
    while (end < left.length && z[left[end]!] === z[left[at]!]) end++;
    const border = top_p < 1 ? before - top_p * total : -Infinity;
    if (border > unsure) break;
    const share = mass(left[at]!) - min_p;
    if (share < -rounding) break;
    for (const id of left.slice(at, end)) {
      const score = z[id]! + gumbel(key, id);
      if (border < -unsure && (share > rounding || min_p === 0 || at === 0)) surely = Math.max(surely, score);
      if (id === chosen) found = score;
      before += mass(id);
    }
    at = end;
  }
  if (found === -Infinity) return `${chosen} is not among what is left at position ${position}`;
  // The sum of two float32, one of them with noise of up to 23.
  const near = 2 ** -20 * (Math.abs(top) + 23);
  return found >= surely - near ? null : `${chosen} has ${found} at position ${position}, another ${surely}`;
}

/** Logits after the penalties of tokens that occurred, in float32 as the sampler has them. */
function penalised(
  logits: Float32Array,
  prompt: readonly number[],
  reply: readonly number[],
  {
    repetition_penalty: repetition = 1,
    presence_penalty: presence = 0,
    frequency_penalty: frequency = 0,
  }: Drawn,
): Float32Array {
  const less = Float32Array.from(logits);
  for (const id of new Set([...prompt, ...reply])) {
    const x = less[id]!;
    const times = reply.filter((other) => other === id).length;
    less[id] =
      (x < 0 ? x * Math.fround(repetition) : x / Math.fround(repetition)) -
      (Math.fround(presence) + times * Math.fround(frequency));
  }
  return less;
}

/** What is wrong with the tokens of a reply; empty: nothing. */
export async function wrongDraws(
  engine: Pick<Engine, 'generate' | 'reset' | 'score' | 'vocab'>,
  prompt: readonly number[],
  maxTokens: number,
  asked: Drawn,
): Promise<string[]> {
  engine.reset(0);
  const { ids } = await read(
    engine.generate(prompt, { maxTokens, sampling: { ...greedy(engine.vocab), ...asked } }),
  );
  engine.reset(0);
  const problems: string[] = [];
  for (const [i, id] of ids.entries()) {
    const row = await (i === 0 ? engine.score(prompt, prompt.length - 1) : engine.score([ids[i - 1]!], 0));
    const competing = penalised(row, prompt, ids.slice(0, i), asked);
    const problem = notDrawn(competing, id, prompt.length + i, asked);
    if (problem) problems.push(problem);
  }
  return problems;
}

/** Few and many candidates, peaked and flat. */
export const draws: readonly Drawn[] = [
  { temperature: 1, top_k: 0, top_p: 1, min_p: 0 },
  { temperature: 0.6, top_k: 20, top_p: 0.95, min_p: 0 },
  { temperature: 0.7, top_k: 1, top_p: 1, min_p: 0 },
  { temperature: 1.5, top_k: 64, top_p: 0.5, min_p: 0.1 },
  { temperature: 5, top_k: 700, top_p: 0.9, min_p: 0 },
  { temperature: 50, top_k: 5000, top_p: 1, min_p: 0 },
  { temperature: 0.6, top_k: 0, top_p: 0.9, min_p: 0 },
  { temperature: 2, top_k: 0, top_p: 0.99, min_p: 0.001 },
  { temperature: 100, top_k: 0, top_p: 0.999, min_p: 0 },
  { temperature: 0.8, top_k: 5, top_p: 0.9, min_p: 0.05 },
  { temperature: 1, top_k: 0, top_p: 1, min_p: 0.2 },
  { temperature: 0.7, top_k: 4, top_p: 0.8, min_p: 0, repetition_penalty: 1.3, frequency_penalty: 0.5 },
  { temperature: 1.5, top_k: 0, top_p: 1, min_p: 0, repetition_penalty: 1.3, presence_penalty: 0.5 },
].map((one, seed) => ({ ...one, seed }));

/** More candidates than are listed, where 256 are; and more than are compared, where 64 are. */
export const drawsOfMany: readonly Drawn[] = [
  { temperature: 100, top_k: 0, top_p: 0.9, min_p: 0 },
  { temperature: 100, top_k: 0, top_p: 0.01, min_p: 0 },
  { temperature: 50, top_k: 300, top_p: 1, min_p: 0 },
  { temperature: 50, top_k: 300, top_p: 0.5, min_p: 0 },
  { temperature: 50, top_k: 0, top_p: 0.8, min_p: 0.97 },
  { temperature: 50, top_k: 0, top_p: 1, min_p: 0.97 },
  { temperature: 20, top_k: 0, top_p: 0.7, min_p: 0, repetition_penalty: 1.3, frequency_penalty: 2 },
  { temperature: 400, top_k: 0, top_p: 1, min_p: 0.9 },
  { temperature: 50, top_k: 100, top_p: 1, min_p: 0 },
  { temperature: 50, top_k: 100, top_p: 0.5, min_p: 0 },
].map((one, seed) => ({ ...one, seed: seed + 50 }));
