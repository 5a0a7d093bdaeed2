// Tokens of a calibration: the kernels of some plans, built side by side, then timed one after the other on random weights.
import { availableParallelism } from 'node:os';
import type { ModelDims } from '../../codegen/model/dims.ts';
import { decoderGraph } from '../../codegen/model/graph.ts';
import { isLegal } from '../../codegen/plan/check.ts';
import type { FusionPlan } from '../../codegen/plan/plan.ts';
import type { Target } from '../../codegen/schedule/target.ts';
import stream from '../../configs/plans/stream.ts';
import { type BuiltKernel, openEngine } from '../../load.ts';
import type { Engine } from '../../runtime/engine/engine.ts';
import { buildPlan } from '../build-plan.ts';
import { decoderOf, wholeReply } from '../decode.ts';
import { promptOf, spreadOf } from '../measure.ts';
import { sideBySide } from '../side-by-side.ts';
import type { PromptRow } from './plans.ts';
import type { TimedPoint, TimedPrompt } from './record.ts';

export interface KernelWork {
  readonly positions: readonly number[];
  /** Timed tokens of a reply. */
  readonly tokens: number;
  readonly replies: number;
  readonly device: number;
  readonly threads: number | undefined;
  readonly signal: AbortSignal;
  readonly onProgress: (share: number | null, detail: string) => void;
}

/** Kernels of the plans that are legal for a model; each only once, where two print the same. */
export async function buildPlans(
  dims: ModelDims,
  plans: readonly FusionPlan[],
  target: Target,
  work: BuildWork,
): Promise<BuiltKernel[]> {
  const rows = plans.map((plan) => ({ plan }));
  const made = await buildLegal(dims, rows, target, work, ({ plan }, signal) =>
    buildPlan(plan, { dims, target }, { signal }),
  );
  const byHash = new Map(made.map(({ built }) => [built.kernel.hash, built]));
  return [...byHash.values()].sort((a, b) => (a.kernel.name < b.kernel.name ? -1 : 1));
}

type BuildWork = Pick<KernelWork, 'signal' | 'onProgress'>;

/** Builds for the rows whose plan is legal for a model, side by side; what came of them is in their order. */
async function buildLegal<Row extends { readonly plan: FusionPlan }>(
  dims: ModelDims,
  rows: readonly Row[],
  target: Target,
  { signal, onProgress }: BuildWork,
  build: (row: Row, signal: AbortSignal) => Promise<BuiltKernel>,
): Promise<{ row: Row; built: BuiltKernel }[]> {
  const graph = decoderGraph(dims);
  const legal = rows.filter(({ plan }) => isLegal(graph, plan, target));
  const built = new Map<Row, BuiltKernel>();
  await sideBySide(legal, availableParallelism(), async (row) => {
    signal.throwIfAborted();
    onProgress(built.size / legal.length, `building ${row.plan.name} of ${dims.name}`);
    built.set(row, await build(row, signal));
  });
  return legal.map((row) => ({ row, built: built.get(row)! }));
}

/** @param context positions that the engine holds */
export async function openKernel(
  built: BuiltKernel,
  context: number,
  { device, threads, signal }: Pick<KernelWork, 'device' | 'threads' | 'signal'>,
): Promise<Engine> {
  const { engine } = await openEngine(built, {
    context,
    device,
    threads,
    signal,
    randomWeights: { seed: 0 },
  });
  return engine;
}

/** Positions that a model has room behind for `tokens`; in the place of those that it has not, its last one. */
export const positionsWithin = (
  { maxPositions }: Pick<ModelDims, 'maxPositions'>,
  positions: readonly number[],
  tokens: number,
): number[] => [
  ...new Set(positions.map((position) => Math.max(1, Math.min(position, maxPositions - tokens - 1)))),
];

/** In each of which all kernels are opened, and their weights made. */
const mostTurns = 5;

/**
 * Times kernels at each position that their model has. Others use a CPU, and for seconds: there the kernels take turns, so that a slow moment has
 * a reply of each and not all of one.
 * @returns each kernel with its points, as soon as it has had its last turn
 */
export async function* timeKernels(
  kernels: readonly BuiltKernel[],
  work: KernelWork,
): AsyncGenerator<{ plan: string; points: Omit<TimedPoint, 'model'>[] }> {
  const turns = kernels[0]?.target.kind === 'cpu' ? Math.min(work.replies, mostTurns) : 1;
  const before = (turn: number) => Math.floor((turn * work.replies) / turns);
  const rates = kernels.map(() => new Map<number, number[]>());
  for (let turn = 0; turn < turns; turn++) {
    for (const [i, built] of kernels.entries()) {
      work.signal.throwIfAborted();
      const plan = built.kernel.schedule.plan.name;
      work.onProgress((turn + i / kernels.length) / turns, `timing ${plan} of ${built.dims.name}`);
      await timeKernel(built, { ...work, replies: before(turn + 1) - before(turn) }, rates[i]!);
      if (turn < turns - 1) continue;
      const points = [...rates[i]!].map(([position, all]) => ({
        plan,
        position,
        tokensPerSecond: spreadOf(all),
      }));
      yield { plan, points };
    }
  }
}

/** Adds the rates of a kernel's replies [tokens/s] to those at each position. */
async function timeKernel(built: BuiltKernel, work: KernelWork, rates: Map<number, number[]>): Promise<void> {
  const { tokens, replies, signal } = work;
  const positions = positionsWithin(built.dims, work.positions, tokens);
  const engine = await openKernel(built, Math.max(...positions) + tokens + 1, work);
  try {
    const decoder = decoderOf(engine, tokens, signal);
    for (const position of positions) {
      await decoder.fillTo(position);
      const all = rates.get(position) ?? [];
      for (let i = 0; i < replies; i++) all.push((await decoder.reply()).tokensPerSecond);
      rates.set(position, all);
    }
  } finally {
    engine.close();
  }
}

/** Builds what takes prompts in, in the order of the rows; rows whose plan is not legal for a model are left out. */
export const buildPrompts = (
  dims: ModelDims,
  rows: readonly PromptRow[],
  target: Target,
  work: BuildWork,
): Promise<{ row: PromptRow; built: BuiltKernel }[]> =>
  buildLegal(dims, rows, target, work, ({ plan: promptPlan }, signal) =>
    buildPlan(stream, { dims, target, promptPlan }, { signal }),
  );

/** Times prompts, each on an empty cache, as many as the model has positions for. */
export async function timePrompts(
  { row, built }: { readonly row: PromptRow; readonly built: BuiltKernel },
  work: KernelWork,
): Promise<Omit<TimedPrompt, 'model'>[]> {
  const lengths = row.tokens.filter((tokens) => tokens < built.dims.maxPositions);
  const engine = await openKernel(built, Math.max(...lengths) + 1, work);
  try {
    const points: Omit<TimedPrompt, 'model'>[] = [];
    for (const tokens of lengths) {
      const ids = promptOf(tokens, engine.vocab);
      const reply = async () => {
        engine.reset(0);
        return (await wholeReply(engine, ids, 1, work.signal)).prefillMs;
      };
      await reply();
      const millis: number[] = [];
      for (let i = 0; i < promptReplies * work.replies; i++) millis.push(await reply());
      points.push({ plan: row.plan.name, tokens, millis: spreadOf(millis) });
    }
    return points;
  } finally {
    engine.close();
  }
}

/** They take milliseconds, so that each is timed so many times as often as a reply. */
const promptReplies = 5;
