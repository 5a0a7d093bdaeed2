// The calls of the kernel's main function: stages, prefetches, barriers.
import { isProduct, type OpName, productOf, sizes } from '../../model/ops.ts';
import type { Meeting } from '../../schedule/syncs.ts';
import type { BarrierSchedule, BarrierStage } from './schedule.ts';
import { unitsText } from './stage-view.ts';

export class CallPrinter {
  readonly #schedule: BarrierSchedule;

  constructor(schedule: BarrierSchedule) {
    this.#schedule = schedule;
  }

  of(part: BarrierStage['part'], weights: string): string[] {
    return this.#schedule.stages
      .filter((stage) => stage.part === part)
      .flatMap((stage) => {
        const sync = this.#gridSync(stage);
        return [
          `stage_${stage.name}(b, pass, ${weights});`,
          ...this.#prefetch(stage),
          ...(sync ? [barrierCall(sync)] : []),
          ...this.#blockSync(stage),
        ];
      });
  }

  #gridSync(stage: BarrierStage): Meeting | undefined {
    return this.#schedule.syncs.find((sync) => sync.scope === 'grid' && sync.after.stage === stage.name);
  }

  /** A block sync after the last phase of a stage that does not loop stands here, where no grid barrier does. */
  #blockSync(stage: BarrierStage): string[] {
    const sync = trailingBlockSync(this.#schedule, stage);
    if (!sync || this.#schedule.warps === 1 || this.#gridSync(stage)) return [];
    return [`__syncthreads();  // ${sync.reason}`];
  }

  #prefetch(stage: BarrierStage): string[] {
    const { prefetch, prefetchBy } = this.#schedule.tuning;
    if (prefetch === 0 || stage.part !== 'layer') return [];
    if (prefetchBy === 'all') return this.#gridSync(stage) ? this.#ahead(stage, prefetch, ownRows) : [];
    if (!stage.ops.includes('attend')) return [];
    const units = unitsText(stage);
    const idle = (op: OpName, from: string) => idleRows(op, from, units);
    return [
      ...Array.from({ length: prefetch }, (_, i) => this.#ahead(stage, i + 1, idle)).flat(),
      `if (layer + 1 == kLayers) ${headRows(units)}  // the first of the LM head`,
    ];
  }

  /** The product of the stage that comes so many stages later, in this layer or the next. */
  #ahead(stage: BarrierStage, ahead: number, call: (op: OpName, from: string) => string): string[] {
    const layer = this.#schedule.stages.filter((s) => s.part === 'layer');
    const index = layer.indexOf(stage) + ahead;
    const next = layer[index % layer.length]!;
    const op = next.ops.find(isProduct);
    if (!op) return [];
    if (index < layer.length) return [`${call(op, 'w')}  // for ${next.name}`];
    return [`if (layer + 1 < kLayers) ${call(op, 'layer_weights(pass, layer + 1)')}  // for ${next.name}`];
  }
}

const shapeText = (op: OpName): string => {
  const { columns, interleave } = productOf(op);
  return `${sizes[columns].constant}, ${interleave}`;
};

/** Each block asks for its own rows. */
const ownRows = (op: OpName, from: string): string => {
  const { weight, rows } = productOf(op);
  return `prefetch_rows<${shapeText(op)}>(b, ${from}.${weight}, block_range(b, ${sizes[rows].constant}));`;
};

/** Blocks from number `units` on ask for all rows. */
const idleRows = (op: OpName, from: string, units: string): string => {
  const { weight, rows } = productOf(op);
  return `prefetch_idle<${shapeText(op)}>(b, ${units}, ${from}.${weight}, ${sizes[rows].constant});`;
};

const headRows = (units: string): string => {
  const { weight } = productOf('lm_head');
  return `prefetch_idle<${shapeText('lm_head')}>(b, ${units}, model.${weight}, kHeadRowsAhead);`;
};

const barrierCall = (sync: Meeting): string => `grid_barrier(b);  // ${sync.reason}`;

function trailingBlockSync(schedule: BarrierSchedule, stage: BarrierStage): Meeting | undefined {
  return schedule.syncs.find(
    (sync): sync is Meeting =>
      sync.scope === 'block' &&
      sync.after.stage === stage.name &&
      sync.after.phase === stage.phases.length - 1,
  );
}
