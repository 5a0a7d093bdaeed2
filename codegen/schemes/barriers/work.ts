// What the stages of a plan at barriers do beside reading their weights.
import { meanCached } from '../../model/kinds.ts';
import { columnsOf, isProduct, productOf } from '../../model/ops.ts';
import type { ScheduledStage } from '../../schedule/schedule.ts';
import { platformOf } from '../../schedule/target.ts';
import type { Work } from '../../schedule/terms.ts';
import { rowCutOf, turnsFor } from './row-cut.ts';
import type { BarrierSchedule, Phase } from './schedule.ts';

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
      return [{ term: 'product', amount: 1 }, ...cpuWork(schedule, stage)];
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

/** A CPU has no loads to count: megabytes. */
const cpuWork = ({ target }: BarrierSchedule, { weightBytes }: ScheduledStage): Work[] =>
  platformOf(target).warps === 1 ? [{ term: 'multiply', amount: weightBytes / 1e6 }] : [];

/** How the weights of a stage's product come to those that multiply them, beside the reads: of the busiest warp on a GPU. */
export function productChains(schedule: BarrierSchedule, { name }: ScheduledStage): readonly Work[][] {
  const { dims, blocks, warps, tuning, target } = schedule;
  const stage = schedule.stages.find((one) => one.name === name)!;
  const phase = stage.phases.find(({ kind }) => kind === 'matmul' || kind === 'matmul_from');
  if (!phase || platformOf(target).warps === 1) return [];
  const op = phase.ops.find(isProduct)!;
  const { interleave: parts } = productOf(op);
  const { loadBits, buffers, producerWarps } = tuning;
  const computing = warps - producerWarps;
  const cut = rowCutOf(op, dims, schedule.tuning);
  const rows = Math.ceil(stage.units / blocks);
  const turns = turnsFor(cut, rows);
  const waves = turns * cut.waves;
  const kibibytes = (Math.ceil(rows / cut.groups) * parts * cut.slice * 32 * loadBits) / 8 / 1024;
  const wait: Work = { term: 'loads', amount: waves };
  const copies = (waves * parts * cut.rows * cut.wave) / 8;
  const work: Work[] = [
    { term: 'sums', amount: turns },
    { term: 'multiply', amount: kibibytes / 10 },
    ...(phase.kind === 'matmul_from' ? [{ term: 'farInputs', amount: kibibytes / 10 } as const] : []),
  ];
  if (buffers === 0) return [[wait, ...work]];
  if (producerWarps > 0) {
    const copying: Work[] = [{ term: 'copies', amount: (copies * computing) / producerWarps }];
    return [
      [
        { ...wait, amount: waves / buffers },
        { term: 'handed', amount: waves },
      ],
      work,
      copying,
    ];
  }
  const own: Work[] = [...work, { term: 'copies', amount: copies }];
  return buffers === 1 ? [[wait, ...own]] : [[{ ...wait, amount: waves / (buffers - 1) }], own];
}
