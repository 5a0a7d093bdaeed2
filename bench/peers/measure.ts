// Two peers in turns, A B B A: what drifts falls on both, and the ratio is taken within a round.
import { spreadOf } from '../../lab/measure.ts';
import type { Clock } from '../../lab/together.ts';
import type { Answer, Request } from './peer-process.ts';

/** What is asked of both. */
export type Work =
  | { readonly kind: 'decode'; readonly position: number; readonly tokens: number }
  | {
      readonly kind: 'batch';
      readonly position: number;
      readonly tokens: number;
      readonly sequences: number;
    }
  | { readonly kind: 'prefill'; readonly tokens: number };

export interface Rate {
  readonly median: number;
  readonly least: number;
  readonly most: number;
}

export interface Row {
  readonly peer: string;
  readonly variant: string | null;
  readonly version: string | null;
  /** Tokens in the cache when decoding is timed, or those of a prompt. */
  readonly position?: number;
  readonly prefill?: number;
  /** That decode at once; the figure is of all together. */
  readonly sequences?: number;
  readonly tokensPerSecond: Rate | null;
  /** Ours divided by theirs, round by round. */
  readonly ratio?: Rate;
  /** Why there is no figure, or no ratio. */
  readonly why?: string;
}

/** Anything that answers requests. */
export interface Asked {
  readonly name: string;
  readonly variant: string;
  readonly version: string;
  readonly ask: (request: Request) => Promise<Answer>;
}

/** Tokens a second of both, one each a visit; or why one of them has none. */
export type Turns =
  | { readonly ours: readonly number[]; readonly theirs: readonly number[] }
  | { readonly failed: 'ours' | 'theirs'; readonly why: string };

/** One visit each that is thrown away, then rounds of A B B A. */
export async function inTurns(
  ours: Asked,
  theirs: Asked,
  work: Work,
  rounds: number,
  idOf: (index: number) => number,
  clock: Clock = 'wall',
): Promise<Turns> {
  const rates = { ours: [] as number[], theirs: [] as number[] };
  const order = ['ours', 'theirs', 'theirs', 'ours'] as const;
  for (let round = -1; round < rounds; round++) {
    for (const who of round < 0 ? (['ours', 'theirs'] as const) : order) {
      const rate = await visit(who === 'ours' ? ours : theirs, work, idOf, clock);
      if (typeof rate === 'string') return { failed: who, why: rate };
      if (round >= 0) rates[who].push(rate);
    }
  }
  return rates;
}

/** The same visits of one that nobody takes turns with. @returns tokens a second, or why there are none */
export async function alone(
  asked: Asked,
  work: Work,
  rounds: number,
  idOf: (index: number) => number,
  clock: Clock = 'wall',
): Promise<readonly number[] | string> {
  const rates: number[] = [];
  for (let time = -1; time < 2 * rounds; time++) {
    const rate = await visit(asked, work, idOf, clock);
    if (typeof rate === 'string') return rate;
    if (time >= 0) rates.push(rate);
  }
  return rates;
}

/** Tokens a second, or why there are none. */
async function visit(
  asked: Asked,
  work: Work,
  idOf: (index: number) => number,
  clock: Clock,
): Promise<number | string> {
  const answer = await asked.ask(requestOf(asked.variant, work, idOf, clock));
  if ('error' in answer) return answer.error;
  const timed = work.tokens * (work.kind === 'batch' ? work.sequences : 1);
  const wanted = work.kind === 'prefill' ? 1 : timed;
  return answer.ids.length === wanted
    ? timed / answer.seconds
    : `${answer.ids.length} tokens came, not ${wanted}`;
}

function requestOf(variant: string, work: Work, idOf: (index: number) => number, clock: Clock): Request {
  const length = work.kind === 'prefill' ? work.tokens : work.position;
  const prompt = Array.from({ length }, (_, index) => idOf(index));
  const asking = { variant, prompt, ...(clock === 'wall' ? {} : { clock }) };
  if (work.kind === 'prefill') return { op: 'prefill', ...asking };
  if (work.kind === 'decode') return { op: 'decode', tokens: work.tokens, ...asking };
  return { op: 'batch', tokens: work.tokens, sequences: work.sequences, ...asking };
}

export function rateOf(values: readonly number[]): Rate {
  const { median, least, most } = spreadOf(values);
  return { median, least, most };
}

/** Of a peer in one piece of work. */
export function rowOf({ name, variant, version }: Asked, work: Work, turns: Turns): Row {
  const what = { peer: name, variant, version, ...whereOf(work) };
  if ('failed' in turns) return { ...what, tokensPerSecond: null, why: turns.why };
  const { ours, theirs } = turns;
  // A round is two visits of each.
  const rounds = Array.from({ length: ours.length / 2 }, (_, i) => [2 * i, 2 * i + 1] as const);
  const ratios = rounds.map(([a, b]) => (ours[a]! + ours[b]!) / (theirs[a]! + theirs[b]!));
  return { ...what, tokensPerSecond: rateOf(theirs), ratio: rateOf(ratios) };
}

export function whereOf(work: Work): Pick<Row, 'position' | 'prefill' | 'sequences'> {
  if (work.kind === 'prefill') return { prefill: work.tokens };
  return { position: work.position, ...(work.kind === 'batch' ? { sequences: work.sequences } : {}) };
}
