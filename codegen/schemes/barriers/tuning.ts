// What the options of the machine come to on a target, and how they are told.
import { isDeepStrictEqual } from 'node:util';
import { needArguments, needTarget } from '../../given.ts';
import { type BarriersScheme, barriers, type FusionPlan, fit, stream } from '../../plan/plan.ts';
import { platformOf, type Target } from '../../schedule/target.ts';

type MachineOption =
  | 'prefetch'
  | 'prefetchBy'
  | 'loadBits'
  | 'loadsInFlight'
  | 'buffers'
  | 'barrier'
  | 'inputs'
  | 'inputBits';

/** The options of a kernel with nothing left to `fit`. */
export interface Tuning extends Pick<BarriersScheme, MachineOption> {
  /** Of a launch at most; null: one on each multiprocessor. */
  readonly mostBlocks: number | null;
  /** Of a block. */
  readonly warps: number;
  /** Those of them that only copy weights. */
  readonly producerWarps: number;
}

type Planned = Pick<FusionPlan, 'scheme'>;

/** Most tokens of a pass: the norm gives each a warp. */
export const mostTokensOf = (plan: Planned, target: Target): number => {
  const { mostTokens } = platformOf(target);
  return isTuned(target) ? Math.min(mostTokens, tuningOf(plan, target).warps) : mostTokens;
};

/** Blocks of one thread on a CPU have nothing to tune but their inputs. */
const isTuned = (target: Target): boolean => platformOf(target).warps > 1;

/** The options as a target takes them: a CPU, but for `inputBits`, and a plan of another scheme, have those of `barriers()`. */
export function tuningOf({ scheme }: Planned, target: Target): Tuning {
  const tuned = isTuned(target) && scheme.kind === 'barriers';
  const { prefetch, prefetchBy, blocks, loadBits, loadsInFlight, buffers, producers, barrier, inputs } = tuned
    ? scheme
    : barriers();
  const warps = tuned && scheme.warps !== fit ? scheme.warps : platformOf(target).warps;
  return {
    ...{ prefetch, prefetchBy, loadBits, loadsInFlight, buffers, barrier, inputs },
    inputBits: scheme.kind === 'barriers' ? scheme.inputBits : barriers().inputBits,
    mostBlocks: blocks === fit || blocks >= target.sms ? null : blocks,
    warps,
    producerWarps: (producers * warps) / 8,
  };
}

/** Loads of a lane that a buffer holds: two matrices that are interleaved have one each. */
const bufferLoads = ({ loadsInFlight }: Tuning): number => Math.max(2, loadsInFlight);

/** Shared memory that the buffers of all warps that compute take [bytes]. */
export const ringBytes = (tuning: Tuning): number =>
  tuning.buffers * (tuning.warps - tuning.producerWarps) * bufferLoads(tuning) * ((32 * tuning.loadBits) / 8);

/** Prefetches in the header of a kernel. */
export const prefetchText = ({ prefetch, prefetchBy }: Tuning): string =>
  `prefetch ${prefetch} stages ahead${prefetchBy === 'idle' ? ' by idle blocks' : ''}`;

/** What differs from `barriers()`, in a few words each. */
export function tuningFacts(tuning: Tuning, target: Target): string[] {
  if (!isTuned(target)) return tuning.inputBits === 8 ? ['inputs of blocks in 8 bits'] : [];
  const usual = tuningOf({ scheme: barriers() }, target);
  const { mostBlocks, warps, producerWarps, loadBits, loadsInFlight, buffers, barrier, inputs } = tuning;
  const copied = producerWarps > 0 ? `by ${producerWarps} warps` : 'by the warps that use them';
  return [
    ...(mostBlocks === usual.mostBlocks ? [] : [`${mostBlocks} blocks`]),
    ...(warps === usual.warps ? [] : [`${warps} warps a block`]),
    ...(loadBits === usual.loadBits ? [] : [`loads of ${loadBits} bits`]),
    ...(loadsInFlight === usual.loadsInFlight ? [] : [`${loadsInFlight} loads in flight`]),
    ...(buffers === usual.buffers ? [] : [`weights copied into ${buffers} buffers ${copied}`]),
    ...(barrier === usual.barrier ? [] : [barrier]),
    ...(inputs === usual.inputs ? [] : [`inputs in ${inputs} memory`]),
  ];
}

/** What was chosen, for `gen explain`; a CPU chooses nothing, and has its options alone. */
export function tuningLines({
  tuning,
  target,
}: {
  readonly tuning: Tuning;
  readonly target: Target;
}): string[] {
  if (!isTuned(target)) return tuningFacts(tuning, target).map((fact) => `options   ${fact}`);
  const { prefetch, prefetchBy, mostBlocks, warps, loadBits, loadsInFlight } = tuning;
  const blocks = mostBlocks ?? target.sms;
  const asks =
    prefetchBy === 'idle'
      ? `while attention runs, blocks without a head ask for the rows of the next ${prefetch} stages`
      : `before a barrier each block asks for its rows of the stage ${prefetch} ahead`;
  const usual = tuningOf({ scheme: barriers() }, target);
  // What the first line says is not said again.
  const said = { mostBlocks: usual.mostBlocks, warps: usual.warps };
  const more = tuningFacts(
    { ...tuning, ...said, loadBits: usual.loadBits, loadsInFlight: usual.loadsInFlight },
    target,
  );
  return [
    `blocks    ${blocks} of ${warps} warps; a lane has ${loadsInFlight} loads of ${loadBits} bits in flight`,
    ...(more.length > 0 ? [`options   ${more.join(', ')}`] : []),
    ...(prefetch > 0 ? [`prefetch  ${asks}`] : []),
  ];
}

/** Options that a plan sets and a target does not have: a CPU those of blocks, and of a stream, whose stages run between barriers there. */
export function optionsWithoutEffect(plan: Pick<FusionPlan, 'scheme'>, target: Target): string[] {
  needArguments('optionsWithoutEffect', plan, 'plan, target');
  needArguments('optionsWithoutEffect', plan.scheme, 'plan, target');
  needTarget(target);
  const { scheme } = plan;
  if (isTuned(target) || scheme.kind === 'tiles') return [];
  const { tokens } = scheme;
  const usual: Readonly<Record<string, unknown>> =
    scheme.kind === 'barriers'
      ? { ...barriers(), tokens, inputBits: scheme.inputBits }
      : { ...stream(), tokens };
  return Object.entries(scheme).flatMap(([key, value]) =>
    isDeepStrictEqual(value, usual[key]) ? [] : [key],
  );
}
