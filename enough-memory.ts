// Whether this machine has the memory that models take, before anything is compiled or loaded; and what would fit where it has not.
import { makeSchedule } from './codegen/index.ts';
import { type EngineBytes, engineBytes, type PassSizes, passSizes, type Room } from './codegen/memory.ts';
import type { ModelDims } from './codegen/model/dims.ts';
import { weightsName } from './codegen/model/weights.ts';
import type { FusionPlan } from './codegen/plan/plan.ts';
import type { Target } from './codegen/schedule/target.ts';
import type { Schedule } from './codegen/schemes/index.ts';
import { settleCache } from './codegen/settle-cache.ts';
import { settleWeights } from './codegen/settle-weights.ts';
import { InsufficientMemoryError } from './errors.ts';
import { type FreeMemory, freeMemory } from './free-memory.ts';

/** A model in an engine of its own. */
export interface Opened extends Room {
  readonly dims: ModelDims;
  readonly passes: PassSizes;
  /** A GPU has no pages that are taken later: all of it must be free at once. */
  readonly onGpu: boolean;
}

/** A model that was checked; for a GPU only weights, cache and tables are counted, which take nearly all. @param room threads: 0 where nobody says, since it is the library that counts cores */
export const opened = (
  { dims, plan, target }: { readonly dims: ModelDims; readonly plan: FusionPlan; readonly target: Target },
  room: Room,
): Opened => {
  const onGpu = target.kind === 'cuda';
  const passes = onGpu ? { passes: 0, scratch: 0 } : passSizes(makeSchedule(dims, plan, target));
  return { dims, passes, onGpu, ...room };
};

/** This part of all memory, beyond what is free, may be had yet: what the kernel counts as available leaves out what it keeps back for itself, and
 *  other programs give some back. */
const slack = 0.05;

/** Refuses what would end by the system's hand while weights are read, or could not hold its context if it had the machine for itself. The KV cache
 *  takes memory as positions are filled, and may wait for other programs to end: only what is written at once must be free now.
 *  @param engines the model, and one that drafts for it, both on one device
 *  @param memory of that device
 *  @throws InsufficientMemoryError */
export function checkMemory(engines: readonly Opened[], memory: FreeMemory): void {
  const why = shortage(engines, memory);
  if (why === null) return;
  const each = engines.map(bytesOf);
  const [{ dims, context, sequences, onGpu }, draft] = engines as [Opened, Opened?];
  const needed = total(each, 'weights', 'cache', 'tables', 'passes');
  const cached = `${sequences > 1 ? `${sequences} x ` : ''}${context.toLocaleString('en')} positions`;
  const parts = [
    `weights ${gigabytes(total(each, 'weights'))}`,
    `KV cache of ${cached} ${gigabytes(total(each, 'cache'))}`,
    `${onGpu ? '' : 'activations and '}tables ${gigabytes(total(each, 'passes', 'tables'))}`,
  ];
  const who = draft ? `${dims.name} and ${draft.dims.name}, which drafts, take` : `${dims.name} takes`;
  const kind = onGpu ? 'GPU memory' : 'memory';
  const fits = fitting(engines, memory);
  throw new InsufficientMemoryError(
    `${who} ${gigabytes(needed)} of ${kind} (${parts.join(', ')}), and ${why.text}`,
    {
      ...{ neededBytes: needed, freeBytes: why.freeBytes, fittingContext: fits.context },
      hint: fits.hint,
    },
  );
}

/** Why an engine could not be opened: for want of memory with what was there, and the longest context that fits. Other errors as they are. */
export function withWhatFits(
  error: unknown,
  { dims, cachedBytes, target }: Pick<Schedule, 'dims' | 'cachedBytes' | 'target'>,
  { context, sequences }: Room,
): unknown {
  if (!(error instanceof InsufficientMemoryError) || error.neededBytes === undefined) return error;
  const { neededBytes, message, cause } = error;
  const freeBytes = error.freeBytes ?? (target.kind === 'cpu' ? mostOf(freeMemory()) : undefined);
  const position = sequences * dims.layers * dims.kvHeads * cachedBytes + 4 * dims.headDim;
  const lacking = freeBytes === undefined ? Number.NaN : neededBytes + rounding - freeBytes;
  const left = Math.floor((context - lacking / position) / leastContext) * leastContext;
  const fittingContext = left >= leastContext && left < context ? left : undefined;
  const hint =
    fittingContext === undefined
      ? 'End other programs, or take a shorter context, fewer sequences, or weights int8 or int4.'
      : `A context of ${fittingContext} would fit.`;
  return new InsufficientMemoryError(message, { neededBytes, freeBytes, fittingContext, hint, cause });
}

/** The same of a model that drafts, which is opened behind the one it drafts for: what is free then is what that has left. Other errors as they are. */
export function ofDraft(error: unknown, name: string): unknown {
  if (!(error instanceof InsufficientMemoryError)) return error;
  const { message, hint, neededBytes, freeBytes, fittingContext, cause } = error;
  return new InsufficientMemoryError(`for ${name}, which drafts: ${message}`, {
    ...{ neededBytes, freeBytes, fittingContext, cause },
    hint: [hint, 'Without the draft model there is enough.'].filter(Boolean).join(' '),
  });
}

/** Of what libraries say of a GPU's memory, two figures together [bytes]. */
const rounding = 2 ** 30 / 100;

const mostOf = ({ now, mappable }: FreeMemory): number | undefined =>
  now === null ? (mappable ?? undefined) : Math.min(now, mappable ?? now);

/** These parts of all engines together [bytes]. */
const total = (each: readonly EngineBytes[], ...parts: readonly (keyof EngineBytes)[]): number =>
  each.reduce((all, one) => all + parts.reduce((sum, part) => sum + one[part], 0), 0);

const bytesOf = ({ dims, passes, onGpu: _, ...room }: Opened): EngineBytes => engineBytes(dims, passes, room);

interface Shortage {
  readonly text: string;
  readonly freeBytes: number;
}

function shortage(engines: readonly Opened[], { now, ever }: FreeMemory): Shortage | null {
  const each = engines.map(bytesOf);
  const onGpu = engines.some((one) => one.onGpu);
  const written = total(each, 'weights', 'tables', ...(onGpu ? (['cache', 'passes'] as const) : []));
  if (now !== null && written > now + (onGpu ? 0 : slack * (ever ?? now)))
    return {
      text: `${gigabytes(now)}${onGpu && ever !== null ? ` of ${gigabytes(ever)}` : ''} are free`,
      freeBytes: now,
    };
  if (ever !== null && total(each, 'weights', 'cache', 'tables', 'passes') > ever)
    return {
      text: `there are ${gigabytes(ever)} in all`,
      freeBytes: now === null ? ever : Math.min(now, ever),
    };
  return null;
}

/** No text is short enough for less [positions]. */
const leastContext = 256;

/** Each change that alone makes it fit. */
function fitting([model, ...others]: readonly Opened[], memory: FreeMemory) {
  const fits = (changed: Partial<Opened>) =>
    shortage([{ ...model!, ...changed }, ...others], memory) === null;
  const { dims, sequences } = model!;
  const context = longest(model!.context, (one) => fits({ context: one }));
  const some = longest(sequences, (one) => fits({ sequences: one }));
  const rounded = dims.weights === undefined ? 'plain' : weightsName(dims.weights);
  const formats = (['int8', 'int4'] as const).filter((name) => name !== rounded && rounded !== 'int4');
  const weights = formats.find((name) => fits({ dims: settleWeights(dims, name) }));
  const ways = [
    ...(context >= leastContext ? [`a context of ${context}`] : []),
    ...(some > 0 ? [`${some} at a time in the place of ${sequences}`] : []),
    ...(dims.cache !== 'int8' && fits({ dims: settleCache(dims, 'int8') }) ? ['cache int8'] : []),
    ...(weights ? [`weights ${weights}`] : []),
    ...(others.length > 0 && shortage([model!], memory) === null
      ? ['the model without one that drafts']
      : []),
  ];
  const hint =
    ways.length > 0
      ? `This would fit: ${ways.join('; or ')}.`
      : 'End other programs, or take a smaller model, also in int4 and with a shorter context.';
  return { hint, context: context >= leastContext ? context : undefined };
}

/** The most below `most` that fits, a multiple of 256 where it is as much; 0: none does. */
function longest(most: number, fits: (count: number) => boolean): number {
  let [low, high] = [0, most];
  while (high - low > 1) {
    const middle = Math.floor((low + high) / 2);
    if (fits(middle)) low = middle;
    else high = middle;
  }
  return low < leastContext ? low : low - (low % leastContext);
}

const gigabytes = (bytes: number): string =>
  bytes < 1e8 ? `${(bytes / 1e6).toFixed(1)} MB` : `${(bytes / 1e9).toFixed(2)} GB`;
