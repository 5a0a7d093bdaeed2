// What today's cost model says of kernels that were measured.
import {
  type Cost,
  estimate,
  type ModelDims,
  makeSchedule,
  parsePlan,
  type Schedule,
} from '../../codegen/index.ts';
import { checkDims } from '../../codegen/model/check-dims.ts';
import { decoderGraph } from '../../codegen/model/graph.ts';
import { bandwidthOf } from '../../codegen/schedule/target.ts';
import { microsByTerm } from '../../codegen/schedule/terms.ts';
import { schemeFor } from '../../codegen/schemes/index.ts';
import { settleCache } from '../../codegen/settle-cache.ts';
import { settleWeights } from '../../codegen/settle-weights.ts';
import { resolveModel, resolvePlan, targetOfFigures } from '../../configs/resolve.ts';
import { breathe } from '../breathe.ts';
import type { Experiment, KernelFigures, Range, VariantRow } from './input.ts';

/** A figure beside its prediction [tok/s]. */
export interface Predicted {
  readonly name: string;
  /** Null: the plan is not known here, and the prediction is that of the journal. */
  readonly scheme: Schedule['scheme'] | null;
  readonly position: number;
  readonly predicted: number;
  readonly measured: Range;
  /** Registers that the compiler kept in memory, which no term counts. */
  readonly spillBytes: number;
  /** Where the prediction parts most from that of the incumbent, in words. */
  readonly parting: string | null;
}

/** Of kernels whose plan and target are known here and whose target's costs have been measured. @throws the reason of the signal */
export async function predictionsOf(
  kernels: readonly KernelFigures[],
  signal?: AbortSignal,
): Promise<Predicted[]> {
  const found: Predicted[] = [];
  for (const { kernel, dims, plan, planFile, target, ownTarget, bench } of kernels) {
    // A plan of a file may be called as one that ships.
    if (!bench || planFile !== null) continue;
    await breathe(signal);
    const schedule = await scheduleOfKernel({ dims, plan, target, ownTarget });
    for (const { position, tokensPerSecond } of schedule ? bench.decode : []) {
      const predicted = estimate(schedule!, middle(position, bench.tokens)).tokensPerSecond;
      if (predicted === null) continue;
      found.push({
        ...{ name: kernel, scheme: schedule!.scheme, position, predicted, measured: tokensPerSecond },
        ...{ spillBytes: 0, parting: null },
      });
    }
  }
  return found;
}

/** Of the timed tokens. */
const middle = (position: number, tokens: number): number => position + (tokens >> 1);

async function scheduleOfKernel({
  dims,
  plan,
  ...of
}: Pick<KernelFigures, 'dims' | 'plan' | 'target' | 'ownTarget'>) {
  try {
    return makeSchedule(
      checkDims(dims as unknown as ModelDims),
      await resolvePlan(plan),
      targetOfFigures(of.target, of.ownTarget),
    );
  } catch {
    // A plan or a target of an older version: the figure stands without a prediction.
    return null;
  }
}

/** What is said today of a variant at the positions of its experiment. */
export interface VariantCosts {
  readonly scheme: Schedule['scheme'];
  readonly costs: readonly Cost[];
}

/** Of the variants that were timed, those whose model, plan and target are known here, and what that costs. @throws the reason of the signal */
export async function costsIn(
  experiments: readonly Experiment[],
  signal?: AbortSignal,
): Promise<ReadonlyMap<VariantRow, VariantCosts>> {
  const found = new Map<VariantRow, VariantCosts>();
  for (const { header, rows } of experiments) {
    for (const row of rows.filter(({ rates }) => rates.some((rate) => rate !== null))) {
      await breathe(signal);
      const schedule = scheduleOfVariant(header, row);
      if (schedule === null) continue;
      const costs = header.positions.map((position) => estimate(schedule, middle(position, header.tokens)));
      // Nobody has measured the target of this name; the one of the journal was a file.
      if (costs.some(({ tokensPerSecond }) => tokensPerSecond === null)) continue;
      found.set(row, { scheme: schedule.scheme, costs });
    }
  }
  return found;
}

/** Checked when it was timed. */
function scheduleOfVariant(
  { model, formats, target: name, ownTarget }: Experiment['header'],
  row: VariantRow,
): Schedule | null {
  try {
    const [target, plan] = [targetOfFigures(name, ownTarget), parsePlan(row.plan)];
    const dims = settleWeights(settleCache(resolveModel(model).dims, formats?.cache), formats?.weights);
    return schemeFor(plan, target).lower(decoderGraph(dims), plan, target);
  } catch {
    return null;
  }
}

/** Variants of experiments: what is said of them today, or what their journal said, beside the middle of what was timed. */
export const predictionsIn = (
  experiments: readonly Experiment[],
  costs: ReadonlyMap<VariantRow, VariantCosts>,
): Predicted[] =>
  experiments.flatMap(({ header, rows }) => {
    const base = rows.find(({ isBase }) => isBase);
    const ofBase = base && costs.get(base);
    return rows.flatMap((row) =>
      header.positions.flatMap((position, i): Predicted[] => {
        const known = costs.get(row);
        const [rate, cost] = [row.rates[i] ?? null, known?.costs[i]];
        const predicted = cost?.tokensPerSecond ?? row.predicted[i] ?? null;
        if (rate === null || predicted === null) return [];
        const parting = cost && ofBase && !row.isBase ? partingOf(cost, ofBase.costs[i]!, header) : null;
        return [
          {
            ...{ name: row.label, scheme: known?.scheme ?? null, position, predicted, parting },
            measured: { median: rate, least: rate, most: rate },
            spillBytes: row.decodeSpillBytes,
          },
        ];
      }),
    );
  });

/** The term that adds or saves most beside the incumbent. */
function partingOf(cost: Cost, base: Cost, header: Experiment['header']): string {
  const target = targetOfFigures(header.target, header.ownTarget);
  const microsOf = ({ parts, bytes }: Cost) =>
    microsByTerm(parts, target.terms ?? {}, bandwidthOf(target, bytes.weights) ?? Number.POSITIVE_INFINITY);
  const [own, other] = [microsOf(cost), microsOf(base)];
  const changes = [...new Set([...own.keys(), ...other.keys()])].map(
    (term) => [term, (own.get(term) ?? 0) - (other.get(term) ?? 0)] as const,
  );
  const [term, change] = changes.reduce((most, one) => (Math.abs(one[1]) > Math.abs(most[1]) ? one : most));
  return `${term} ${change < 0 ? '−' : '+'}${Math.abs(change).toFixed(0)} us`;
}

/** How far a prediction is from what was measured, as a share of that. */
export const offBy = ({ predicted, measured }: Predicted): number =>
  Math.abs(predicted / measured.median - 1);

/** Of the predictions, how many are so near to what was measured. */
export const within = (list: readonly Predicted[], share: number): number =>
  list.filter((one) => offBy(one) <= share).length;

/** What a prediction should hold within. */
export const wanted = 0.15;
