// Poll delays by coordinate descent: one stage at a time, its delay is moved while tokens become faster.
import type { OpName } from '../../codegen/model/graph.ts';
import { isProduct } from '../../codegen/model/ops.ts';
import type { Schedule } from '../../codegen/schemes/index.ts';

/** Cycles by which a delay is moved, one after the other. */
const steps = [400, 200] as const;
const most = 3000;
/** A change that wins less is within the spread of a run. */
const leastGain = 1.004;

/** Rate of a kernel with these delays, by stage in the order of the plan [cycles]; larger is better. */
export type RateOf = (cycles: readonly number[]) => Promise<number>;

export interface Delays {
  readonly cycles: Readonly<Partial<Record<OpName, number>>>;
  /** Rate with them over the rate with those it began with. */
  readonly gain: number;
  readonly tried: number;
}

/** The op that stands for a stage, where delays are by op: its product, or its merge. */
const opOf = ({ ops }: Schedule['stages'][number]): OpName | undefined =>
  ops.find(isProduct) ?? ops.find((op) => op === 'attn_merge');

/** @param onTry told of each set that is measured */
export async function descendDelays(
  { stages, target }: Pick<Schedule, 'stages' | 'target'>,
  rateOf: RateOf,
  onTry: (cycles: readonly number[], rate: number) => void = () => {},
): Promise<Delays> {
  const ops = stages.map((stage) => (stage.part === 'layer' ? opOf(stage) : undefined));
  let best = ops.map((op) => (op && target.pollCycles?.[op]) ?? 0);
  let tried = 0;
  const measure = async (cycles: readonly number[]) => {
    const rate = await rateOf(cycles);
    tried++;
    onTry(cycles, rate);
    return rate;
  };
  const start = await measure(best);
  let rate = start;
  for (const step of steps) {
    for (const [at, op] of ops.entries()) {
      if (!op) continue;
      for (const change of [step, -step]) {
        let isBetter = true;
        while (isBetter) {
          const cycles = best.with(at, Math.min(most, Math.max(0, best[at]! + change)));
          if (cycles[at] === best[at]) break;
          const now = await measure(cycles);
          isBetter = now > rate * leastGain;
          if (isBetter) [best, rate] = [cycles, now];
        }
      }
    }
  }
  const cycles = Object.fromEntries(ops.flatMap((op, at) => (op && best[at]! > 0 ? [[op, best[at]!]] : [])));
  return { cycles, gain: rate / start, tried };
}
