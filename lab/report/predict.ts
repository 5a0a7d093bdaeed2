// What today's cost model says of kernels that were measured.
import { estimate, type ModelDims, makeSchedule } from '../../codegen/index.ts';
import { checkDims } from '../../codegen/model/check-dims.ts';
import { resolvePlan, resolveTarget } from '../../configs/resolve.ts';
import type { Experiment, KernelFigures, Range } from './input.ts';

/** A figure beside its prediction [tok/s]. */
export interface Predicted {
  readonly name: string;
  readonly position: number;
  readonly predicted: number;
  readonly measured: Range;
}

/** Of kernels whose plan and target are known here and whose target's costs have been measured. */
export async function predictionsOf(kernels: readonly KernelFigures[]): Promise<Predicted[]> {
  const found: Predicted[] = [];
  for (const { kernel, dims, plan, target, bench } of kernels) {
    if (!bench) continue;
    const costAt = await costOf({ dims, plan, target });
    for (const { position, tokensPerSecond } of bench.decode) {
      // The middle of the timed tokens.
      const predicted = costAt?.(position + (bench.tokens >> 1)) ?? null;
      if (predicted !== null) found.push({ name: kernel, position, predicted, measured: tokensPerSecond });
    }
  }
  return found;
}

async function costOf({ dims, plan, target }: Pick<KernelFigures, 'dims' | 'plan' | 'target'>) {
  try {
    const schedule = makeSchedule(
      checkDims(dims as unknown as ModelDims),
      await resolvePlan(plan),
      resolveTarget(target),
    );
    return (position: number) => estimate(schedule, position).tokensPerSecond;
  } catch {
    // A plan of a file, or a target of the user's: the figure stands without a prediction.
    return null;
  }
}

/** Variants of experiments: what their journals predicted, beside the middle of what was timed. */
export const predictionsIn = (experiments: readonly Experiment[]): Predicted[] =>
  experiments.flatMap(({ header, rows }) =>
    rows.flatMap(({ label, rates, predicted }) =>
      header.positions.flatMap((position, i) => {
        const [rate, said] = [rates[i] ?? null, predicted[i] ?? null];
        if (rate === null || said === null) return [];
        return [
          { name: label, position, predicted: said, measured: { median: rate, least: rate, most: rate } },
        ];
      }),
    ),
  );

/** How far a prediction is from what was measured, as a share of that. */
export const offBy = ({ predicted, measured }: Predicted): number =>
  Math.abs(predicted / measured.median - 1);

/** Of the predictions, how many are so near to what was measured. */
export const within = (list: readonly Predicted[], share: number): number =>
  list.filter((one) => offBy(one) <= share).length;
