// Every string that the templates of barriers print.
import { type ConstantView, constantOf } from '../../emit/c-text.ts';
import { scratchName, strideName } from '../../emit/names.ts';
import type { CommonView } from '../../emit/view.ts';
import { docOf, type TensorName } from '../../model/graph.ts';
import { isProduct, productOf, sizes } from '../../model/ops.ts';
import type { Meeting } from '../../schedule/syncs.ts';
import { platformOf } from '../../schedule/target.ts';
import type { BarrierSchedule, BarrierStage } from './schedule.ts';
import { type StageView, stageView } from './stage-view.ts';

export interface BarrierView {
  readonly buffers: readonly { name: string; stride: string; doc: string; offset: string }[];
  readonly stages: readonly StageView[];
  readonly stageNames: readonly string[];
  readonly begin: readonly string[];
  readonly layer: readonly string[];
  readonly end: readonly string[];
}

export function barrierView(schedule: BarrierSchedule, common: CommonView): CommonView & BarrierView {
  const calls = new CallPrinter(schedule);
  const threads = constantsOfThreads(schedule);
  return {
    ...common,
    modelFields: modelFields(schedule, common),
    constants: [...threads, ...common.constants, ...constants(schedule)],
    buffers: bufferViews(schedule),
    stages: schedule.stages.map((stage) => stageView(schedule, stage)),
    stageNames: schedule.stages.map((stage) => stage.name),
    begin: calls.of('begin', 'model'),
    layer: calls.of('layer', 'w'),
    end: calls.of('end', 'model'),
  };
}

/** Threads of a block, where a block has several. */
function constantsOfThreads({ target }: BarrierSchedule): ConstantView[] {
  const { warps } = platformOf(target);
  if (warps === 1) return [];
  const int = constantOf('int');
  return [
    int('kThreads', 32 * warps, 'of a block'),
    int('kWarps', 'kThreads / 32'),
    int('kProducerThreads', 0, 'of a block: all compute'),
  ];
}

function constants(schedule: BarrierSchedule): ConstantView[] {
  const [int, long] = [constantOf('int'), constantOf('int64_t')];
  const placed = Object.entries(schedule.tensors).flatMap(([tensor, place]) =>
    place.space === 'scratch'
      ? [int(scratchName(tensor as TensorName), place.offset, `${docOf(tensor as TensorName)}, in scratch`)]
      : [],
  );
  return [
    int(
      'kPartialFloats',
      'kQHeads * kSplits * (kHeadDim + 2)',
      'weighted values, maximum and sum of every split',
    ),
    long('kActivationBytes', activationBytes(schedule), 'buffers of a pass, logits apart'),
    int('kScratchFloats', schedule.scratchFloats, 'scratch of a block'),
    ...placed,
  ];
}

const alignBytes = (bytes: number): number => Math.ceil(bytes / 256) * 256;
const bufferBytes = (schedule: BarrierSchedule, stride: number): number =>
  alignBytes(4 * schedule.passTokens * stride);
const activationBytes = (schedule: BarrierSchedule): number =>
  schedule.buffers.reduce((sum, buffer) => sum + bufferBytes(schedule, buffer.stride), 0);

function bufferViews(schedule: BarrierSchedule) {
  let offset = 0;
  return schedule.buffers.map((buffer) => {
    const at = offset;
    offset += bufferBytes(schedule, buffer.stride);
    return {
      name: buffer.name,
      stride: strideName(buffer.name),
      doc: buffer.tensors.map((tensor) => docOf(tensor)).join(', '),
      offset: String(at),
    };
  });
}

/** A tied head is the embedding under a second name. */
function modelFields(
  { dims }: BarrierSchedule,
  { modelFields: fields }: CommonView,
): CommonView['modelFields'] {
  const embedding = fields.find((field) => field.name === 'embedding')!;
  return dims.tiedHead ? [...fields, { ...embedding, name: 'head' }] : fields;
}

/** Prints the calls of the kernel's main function: stages, prefetches, grid barriers. */
class CallPrinter {
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
    if (!sync || platformOf(this.#schedule.target).warps === 1 || this.#gridSync(stage)) return [];
    return [`__syncthreads();  // ${sync.reason}`];
  }

  /** Before a grid barrier: this block's rows of the stage that comes `prefetch` stages later. */
  #prefetch(stage: BarrierStage): string[] {
    const ahead = this.#schedule.prefetch;
    const layer = this.#schedule.stages.filter((s) => s.part === 'layer');
    const index = layer.indexOf(stage);
    if (ahead === 0 || index === -1 || !this.#gridSync(stage)) return [];
    const next = layer[(index + ahead) % layer.length]!;
    const op = next.ops.find(isProduct);
    if (!op) return [];
    const { columns, interleave, weight, rows } = productOf(op);
    const call = (from: string) =>
      `prefetch_rows<${sizes[columns].constant}, ${interleave}>(b, ${from}.${weight}, block_range(b, ${sizes[rows].constant}));`;
    if (index + ahead < layer.length) return [`${call('w')}  // for ${next.name}`];
    return [`if (layer + 1 < kLayers) ${call('layer_weights(pass, layer + 1)')}  // for ${next.name}`];
  }
}

const barrierCall = (sync: Meeting): string => `grid_barrier(b);  // ${sync.reason}`;

function trailingBlockSync(schedule: BarrierSchedule, stage: BarrierStage): Meeting | undefined {
  return schedule.syncs.find(
    (sync): sync is Meeting =>
      sync.scope === 'block' &&
      sync.after.stage === stage.name &&
      sync.after.phase === stage.phases.length - 1,
  );
}
