// Which variants are timed next: a pure function of what was found so far, so that an experiment can go on where it was left.
import { type Finding, isAlive } from './findings.ts';
import { spreadOf } from './measure.ts';

export interface Strategy {
  /** grid, random: all variants, then the best once more side by side. halving: ever fewer, in ever more rounds. */
  readonly strategy: 'grid' | 'random' | 'halving';
  /** Of a variant that comes to the end. */
  readonly rounds: number;
  /** Variants of a group, the incumbent among them: 2 or more. */
  readonly together: number;
  /** The best are timed once more, side by side. */
  readonly final: boolean;
}

/** Variants to be timed in turns with the incumbent. */
export interface Group {
  readonly rung: number;
  readonly ids: readonly string[];
  readonly rounds: number;
}

/** The next group; null: all is done. @param findings the incumbent first */
export function nextGroup(findings: readonly Finding[], options: Strategy): Group | null {
  const candidates = findings.slice(1);
  const beside = options.together - 1;
  for (const rung of rungsOf(candidates, options)) {
    const alive = rung.members.filter(isAlive);
    const missing = (finding: Finding) =>
      rung.rounds - finding.rounds.filter((round) => round.rung === rung.number).length;
    const unfinished = alive.filter((finding) => missing(finding) > 0).slice(0, beside);
    if (unfinished.length > 0) {
      const ids = unfinished.map(({ variant }) => variant.id);
      return { rung: rung.number, ids, rounds: Math.max(...unfinished.map(missing)) };
    }
  }
  return null;
}

interface Rung {
  readonly number: number;
  readonly members: readonly Finding[];
  readonly rounds: number;
}

/** Rungs up to and including the first that is not finished: who is in the next is known only then. */
function* rungsOf(candidates: readonly Finding[], options: Strategy): Generator<Rung> {
  const { rounds, together, strategy, final } = options;
  const beside = together - 1;
  const sizes = sizesOf(candidates.length, beside, strategy, final);
  let members = candidates;
  for (const [number, size] of sizes.entries()) {
    if (number > 0) members = best(members.filter(isAlive), number - 1, size);
    const halvings = strategy === 'halving' ? sizes.length - 1 - number : 0;
    yield { number, members, rounds: Math.max(1, Math.round(rounds / 2 ** halvings)) };
  }
}

/** Members of each rung. */
function sizesOf(count: number, beside: number, strategy: Strategy['strategy'], final: boolean): number[] {
  const sizes = [count];
  if (strategy === 'halving') {
    while (sizes.at(-1)! > beside) sizes.push(Math.max(beside, Math.ceil(sizes.at(-1)! / 2)));
  } else if (final && count > beside) sizes.push(beside);
  return sizes;
}

/** Those of the best median in a rung. */
const best = (members: readonly Finding[], rung: number, size: number): readonly Finding[] =>
  members
    .map((finding) => ({ finding, ratio: ratioIn(finding, rung) }))
    .sort((a, b) => b.ratio - a.ratio)
    .slice(0, size)
    .map(({ finding }) => finding);

const ratioIn = ({ rounds }: Finding, rung: number): number => {
  const ratios = rounds.filter((round) => round.rung === rung).map(({ ratio }) => ratio);
  return ratios.length === 0 ? 0 : spreadOf(ratios).median;
};
