// What the stages of a plan at barriers do beside reading their weights.
import { meanCached } from '../../model/kinds.ts';
import { columnsOf } from '../../model/ops.ts';
import type { ScheduledStage } from '../../schedule/schedule.ts';
import { platformOf } from '../../schedule/target.ts';
import type { Work } from '../../schedule/terms.ts';
import type { BarrierSchedule, Phase } from './schedule.ts';
import { ringBytes } from './tuning.ts';

/** Warps of a block by which `positions` is counted. */
const usualWarps = 16;

const meanTurns = ({ blocks }: BarrierSchedule, { units }: ScheduledStage): number =>
  blocks === 0 || units === 0 ? 1 : units / blocks;

/** Units of the busiest block. */
const turnsOf = (schedule: BarrierSchedule, stage: ScheduledStage): number =>
  Math.ceil(meanTurns(schedule, stage));

/** By how much reading the weights of a stage takes longer than their bytes at the target's bandwidth would. */
export const slowdownOf = (schedule: BarrierSchedule, stage: ScheduledStage): number =>
  (turnsOf(schedule, stage) / meanTurns(schedule, stage)) * fetchedShare(schedule, stage);

/** The stage while which idle blocks bring the next ones' weights into L2, and those blocks; null: none do. */
function fetching({ stages, tuning, blocks }: BarrierSchedule) {
  const at = stages.findIndex(({ ops }) => ops.includes('attend'));
  const idle = blocks - stages[at]!.units;
  if (tuning.prefetchBy !== 'idle' || tuning.prefetch === 0 || idle <= 0) return null;
  const layer = stages.filter(({ part }) => part === 'layer');
  const from = layer.indexOf(stages[at]!) + 1;
  const next = [...layer.slice(from), ...layer.slice(0, from)];
  return { at, idle, ahead: next.slice(0, tuning.prefetch) };
}

/** Below 1 where blocks that attention leaves idle have brought the weights into L2. */
function fetchedShare(schedule: BarrierSchedule, { name }: ScheduledStage): number {
  const { bandwidth, cacheBandwidth = bandwidth } = schedule.target;
  const isFetched = fetching(schedule)?.ahead.some((stage) => stage.name === name);
  return isFetched && bandwidth !== null ? bandwidth / cacheBandwidth! : 1;
}

/** What an idle block asks for while attention runs. */
function fetchWork(schedule: BarrierSchedule, stage: ScheduledStage): Work[] {
  const found = fetching(schedule);
  if (!found || schedule.stages[found.at]!.name !== stage.name) return [];
  const bytes = found.ahead.reduce((sum, { weightBytes }) => sum + weightBytes, 0);
  return [{ term: 'fetch', amount: bytes / found.idle / 2 ** 20 }];
}

/** What one run of a stage does for a token at a position. */
export function stageWork(schedule: BarrierSchedule, { name }: ScheduledStage, position: number): Work[] {
  const stage = schedule.stages.find((one) => one.name === name)!;
  return [
    { term: 'stage', amount: 1 },
    ...fetchWork(schedule, stage),
    ...stage.phases.flatMap((phase) => phaseWork(schedule, stage, phase, position)),
  ];
}

const thousands = (values: number): number => values / 1024;

/** What a phase does of which term. */
function phaseWork(schedule: BarrierSchedule, stage: ScheduledStage, phase: Phase, position: number): Work[] {
  const { dims, splits, warps } = schedule;
  const turns = turnsOf(schedule, stage);
  switch (phase.kind) {
    case 'gather_input':
      return [{ term: 'input', amount: thousands(columnsOf(phase.ops[0]!, dims)) }];
    case 'norm_input':
      return [
        { term: 'input', amount: thousands(dims.hidden) },
        { term: 'norm', amount: thousands(dims.hidden) },
      ];
    case 'merge_input':
      return [{ term: 'merge', amount: thousands(splits * dims.qHeads * dims.headDim) }];
    case 'matmul':
    case 'matmul_from':
      return [{ term: 'product', amount: 1 }, ...weightWork(schedule, stage, phase)];
    case 'norm':
      return [
        { term: 'rowwise', amount: 1 },
        { term: 'norm', amount: thousands(dims.hidden) },
      ];
    case 'attn_merge':
      return [
        { term: 'rowwise', amount: 1 },
        { term: 'merge', amount: thousands(splits * dims.headDim * turns) },
      ];
    case 'attend': {
      const cached = meanCached(dims, position) / (stage.split ? splits : 1);
      const queries = stage.over === 'kv_heads' ? dims.qHeads / dims.kvHeads : 1;
      // A position is read once, and scored by each query.
      const share = ((1 + queries) / 2) * (warps === 1 ? 1 : usualWarps / warps);
      return [
        { term: 'attend', amount: turns },
        { term: 'positions', amount: (turns * cached * share) / 100 },
      ];
    }
    case 'sample':
      return [{ term: 'choose', amount: dims.vocab / 1e5 }];
    case 'embed':
      return [{ term: 'token', amount: 1 }];
    case 'pointwise':
    case 'qk_norm':
    case 'rope':
    case 'kv_append':
      return [{ term: 'rowwise', amount: 1 }];
    default:
      return phase.kind satisfies never;
  }
}

/** How the weights of a product come to those that multiply them. */
function weightWork(schedule: BarrierSchedule, stage: ScheduledStage, { kind }: Phase): Work[] {
  const { blocks, warps, tuning, target } = schedule;
  const isOneThread = platformOf(target).warps === 1;
  // A CPU has no loads to count: megabytes.
  if (isOneThread) return [{ term: 'multiply', amount: stage.weightBytes / 1e6 }];
  const { loadBits, loadsInFlight, buffers, producerWarps } = tuning;
  const blockBytes = (stage.weightBytes / blocks) * (turnsOf(schedule, stage) / meanTurns(schedule, stage));
  const computing = warps - producerWarps;
  const ring = ringBytes(tuning);
  const underWay = buffers > 0 ? ring : warps * 32 * (loadBits / 8) * loadsInFlight;
  const filled = buffers > 0 ? blockBytes / (ring / buffers) : 0;
  return [
    { term: 'loads', amount: blockBytes / underWay },
    { term: 'multiply', amount: ((blockBytes / 1024 / computing) * 128) / loadBits / 10 },
    ...(buffers > 0 ? [{ term: 'copies', amount: filled } as const] : []),
    ...(producerWarps > 0 ? [{ term: 'handed', amount: filled } as const] : []),
    ...(kind === 'matmul_from'
      ? [{ term: 'farInputs', amount: blockBytes / 1024 / computing / 10 } as const]
      : []),
  ];
}
