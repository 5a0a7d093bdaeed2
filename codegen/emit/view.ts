// Every string that a template prints. All decisions end here: a template only puts them in place.

import { type TensorName, tensorDocs } from '../model/graph.ts';
import type { Field } from '../model/packing.ts';
import { inverseFrequencies } from '../model/rope.ts';
import { megabytes } from '../schedule/bytes-text.ts';
import { markedOps, type Schedule, type ScheduledStage } from '../schedule/schedule.ts';
import type { Sync } from '../schedule/syncs.ts';
import { warpsPerBlock } from '../schedule/target.ts';
import { type StageView, stageView } from '../schemes/barriers/stage-view.ts';
import { type StreamView, streamView } from '../schemes/stream/view.ts';
import { type ConstantView, cFloat, comment, constantOf } from './c-text.ts';
import { matmuls, scratchName, strideName } from './names.ts';

interface FieldView {
  readonly name: string;
  readonly type: string;
  readonly shape: string;
  readonly offset: string;
}

export interface KernelView {
  readonly command: string;
  readonly model: string;
  readonly modelLine: string;
  readonly planLine: string;
  readonly targetLine: string;
  readonly table: readonly string[];
  readonly typesHeader: string;
  readonly function: string;
  readonly weightType: string;
  readonly constants: readonly ConstantView[];
  readonly layerFields: readonly FieldView[];
  readonly modelFields: readonly FieldView[];
  readonly ops: readonly string[];
}

/** What only plans with barriers print. */
interface BarrierView {
  readonly buffers: readonly { name: string; stride: string; doc: string; offset: string }[];
  readonly stages: readonly StageView[];
  readonly begin: readonly string[];
  readonly layer: readonly string[];
  readonly end: readonly string[];
}

export interface SlotsView {
  readonly command: string;
  readonly hash: string;
  readonly slots: readonly {
    rows: number;
    cols: number;
    offset: number;
    stride: number;
    dtype: number;
    tensor: string;
  }[];
  readonly invFreq: readonly string[];
}

/** The view of a schedule; `opText` are the pointwise ops, printed from their TypeScript source. */
export function kernelView(
  schedule: Schedule,
  command: string,
  opText: readonly string[],
): KernelView & (BarrierView | StreamView) {
  const common = commonView(schedule, command, opText);
  if (schedule.stream) {
    const view = streamView(schedule);
    return { ...common, ...view, constants: [...common.constants, ...view.constants] };
  }
  const calls = new CallPrinter(schedule);
  return {
    ...common,
    buffers: bufferViews(schedule),
    stages: schedule.stages.map((stage) => stageView(schedule, stage)),
    begin: calls.of('begin', 'model'),
    layer: calls.of('layer', 'w'),
    end: calls.of('end', 'model'),
  };
}

function commonView(schedule: Schedule, command: string, opText: readonly string[]): KernelView {
  const { dims, target, plan } = schedule;
  const isCuda = target.kind === 'cuda';
  return {
    command,
    model: dims.name,
    modelLine:
      `${dims.layers} layers, hidden ${dims.hidden}, ffn ${dims.ffn}, ${dims.qHeads} q heads over ${dims.kvHeads} kv heads ` +
      `of ${dims.headDim}, vocab ${dims.vocab}, ${dims.dtype}`,
    planLine: `${plan.name}: ${layerSyncs(schedule)} a layer, up to ${schedule.passTokens} tokens a pass`,
    targetLine: isCuda ? `${target.name}: ${target.arch}, ${target.sms} SMs` : 'cpu: one block a thread',
    table: stageTable(schedule),
    typesHeader: isCuda ? 'lib/types.cuh' : 'lib/types.h',
    function: isCuda ? '__host__ __device__ inline' : 'static inline',
    weightType: { bf16: 'bf16', fp16: 'fp16', fp32: 'float' }[dims.dtype],
    constants: constants(schedule),
    layerFields: schedule.packing.layer.map((field) => fieldView(field)),
    modelFields: modelFields(schedule),
    ops: opText,
  };
}

/** The view of slots.h: the packed layout, tensor by tensor. */
export function slotsView(schedule: Schedule, command: string, hash: string): SlotsView {
  return {
    command,
    hash,
    slots: schedule.slots.map((slot) => ({
      rows: slot.shape[0],
      cols: slot.shape[1],
      offset: slot.offset,
      stride: slot.stride,
      dtype: { bf16: 0, fp16: 1, fp32: 2 }[slot.dtype],
      tensor: slot.tensor,
    })),
    invFreq: inverseFrequencies(schedule.dims).map(cFloat),
  };
}

function layerSyncs(schedule: Schedule): string {
  const inLayer = ({ after }: Sync) => schedule.stages.find((s) => s.name === after.stage)!.part === 'layer';
  const count = schedule.syncs.filter((sync) => sync.scope !== 'block' && inLayer(sync)).length;
  return schedule.stream ? `${count} exchanges` : `${count} grid barriers`;
}

function stageTable(schedule: Schedule): string[] {
  const rows = schedule.stages.map((stage) => {
    const sync = schedule.syncs.find((s) => s.scope !== 'block' && s.after.stage === stage.name);
    return [
      stage.name,
      markedOps(stage).join(' '),
      stage.over + (stage.split ? ` x ${schedule.splits}` : ''),
      stage.weightBytes ? `${megabytes(stage.weightBytes)} MB` : '',
      sync ? `${syncText(sync)}: ${sync.reason}` : '',
    ];
  });
  const widths = [0, 1, 2, 3].map((c) => Math.max(...rows.map((row) => row[c]!.length)));
  return rows.map((row) =>
    row
      .map((cell, c) => (c === 3 ? cell.padStart(widths[c]!) : c < 4 ? cell.padEnd(widths[c]!) : cell))
      .join('  ')
      .trimEnd(),
  );
}

const syncText = ({ scope, tensors }: Sync): string =>
  scope === 'exchange' ? `exchange of ${tensors!.join(', ')}` : 'grid barrier';

/** Threads of a block on a GPU; a stream has its own. */
const threads = ({ stream, target }: Schedule, int: ReturnType<typeof constantOf>) =>
  stream || target.kind === 'cpu'
    ? []
    : [
        int('kThreads', 32 * warpsPerBlock, 'of a block'),
        int('kWarps', 'kThreads / 32'),
        int('kProducerThreads', 0, 'of a block: all compute'),
      ];

function constants(schedule: Schedule): ConstantView[] {
  const { dims } = schedule;
  const [int, long] = [constantOf('int'), constantOf('int64_t')];
  const placed = Object.entries(schedule.tensors).flatMap(([tensor, place]) =>
    place.space === 'scratch'
      ? [
          int(
            scratchName(tensor as TensorName),
            place.offset,
            `${tensorDocs[tensor as TensorName]}, in scratch`,
          ),
        ]
      : [],
  );
  return [
    ...threads(schedule, int),
    int('kLayers', dims.layers),
    int('kHidden', dims.hidden, 'width of the residual stream'),
    int('kFfn', dims.ffn, 'width of the feed-forward part'),
    int('kQHeads', dims.qHeads),
    int('kKvHeads', dims.kvHeads),
    int('kHeadDim', dims.headDim),
    int('kVocab', dims.vocab, 'rows of the LM head'),
    int('kGroup', 'kQHeads / kKvHeads', 'q heads that share a kv head'),
    int('kQDim', 'kQHeads * kHeadDim'),
    int('kKvDim', 'kKvHeads * kHeadDim'),
    int('kQkvRows', 'kQDim + 2 * kKvDim'),
    int('kPassTokens', schedule.passTokens, 'most tokens of a pass'),
    int('kSplits', schedule.splits, 'parts that attention cuts the positions into'),
    int(
      'kPartialFloats',
      'kQHeads * kSplits * (kHeadDim + 2)',
      'weighted values, maximum and sum of every part',
    ),
    { type: 'float', name: 'kNormEps', value: cFloat(dims.normEps), doc: '' },
    {
      type: 'float',
      name: 'kAttnScale',
      value: cFloat(1 / Math.sqrt(dims.headDim)),
      doc: comment('1 / sqrt(kHeadDim)'),
    },
    long('kLayerBytes', schedule.packing.layerBytes, 'packed weights of a layer'),
    long('kWeightBytes', schedule.packing.bytes, 'packed weights in all'),
    ...(schedule.stream
      ? []
      : [
          long('kActivationBytes', activationBytes(schedule), 'buffers of a pass, logits apart'),
          int('kScratchFloats', schedule.scratchFloats, 'scratch of a block'),
          ...placed,
        ]),
  ];
}

const alignBytes = (bytes: number): number => Math.ceil(bytes / 256) * 256;
const bufferBytes = (schedule: Schedule, stride: number): number =>
  alignBytes(4 * schedule.passTokens * stride);
const activationBytes = (schedule: Schedule): number =>
  schedule.buffers.reduce((sum, buffer) => sum + bufferBytes(schedule, buffer.stride), 0);

function bufferViews(schedule: Schedule) {
  let offset = 0;
  return schedule.buffers.map((buffer) => {
    const at = offset;
    offset += bufferBytes(schedule, buffer.stride);
    return {
      name: buffer.name,
      stride: strideName(buffer.name),
      doc: buffer.tensors.map((tensor) => tensorDocs[tensor]).join(', '),
      offset: String(at),
    };
  });
}

function fieldView(field: Field): FieldView {
  const isVector = field.rows === 1;
  return {
    name: field.name,
    type: isVector && field.dtype === 'fp32' ? 'float' : 'Weight',
    shape: isVector ? `[${field.columns}]` : `[${field.rows}][padded(${field.columns})]`,
    offset: String(field.offset),
  };
}

/** Fields outside the layers; a tied head is the embedding under a second name. */
function modelFields(schedule: Schedule): FieldView[] {
  const fields = schedule.packing.model.map(fieldView);
  const embedding = fields.find((field) => field.name === 'embedding')!;
  const isTied = schedule.dims.tiedHead && !schedule.stream;
  return isTied ? [...fields, { ...embedding, name: 'head' }] : fields;
}

/** Prints the calls of the kernel's main function: stages, prefetches, grid barriers. */
class CallPrinter {
  readonly #schedule: Schedule;

  constructor(schedule: Schedule) {
    this.#schedule = schedule;
  }

  of(part: ScheduledStage['part'], weights: string): string[] {
    return this.#schedule.stages
      .filter((stage) => stage.part === part)
      .flatMap((stage) => {
        const sync = this.#gridSync(stage);
        return [
          `${stage.name}(b, pass, ${weights});`,
          ...this.#prefetch(stage),
          ...(sync ? [barrierCall(sync)] : []),
          ...this.#blockSync(stage),
        ];
      });
  }

  #gridSync(stage: ScheduledStage): Sync | undefined {
    return this.#schedule.syncs.find((sync) => sync.scope === 'grid' && sync.after.stage === stage.name);
  }

  /** A block sync after the last phase of a stage that does not loop stands here, where no grid barrier does. */
  #blockSync(stage: ScheduledStage): string[] {
    const sync = trailingBlockSync(this.#schedule, stage);
    if (!sync || this.#schedule.target.kind === 'cpu' || this.#gridSync(stage)) return [];
    return [`__syncthreads();  // ${sync.reason}`];
  }

  /** Before a grid barrier: this block's rows of the stage that comes `prefetch` stages later. */
  #prefetch(stage: ScheduledStage): string[] {
    const ahead = this.#schedule.plan.prefetch;
    const layer = this.#schedule.stages.filter((s) => s.part === 'layer');
    const index = layer.indexOf(stage);
    if (ahead === 0 || index === -1 || !this.#gridSync(stage)) return [];
    const next = layer[(index + ahead) % layer.length]!;
    const op = next.ops.find((name) => matmuls[name]);
    if (!op) return [];
    const { columns, parts, weight, rows } = matmuls[op]!;
    const call = (from: string) =>
      `prefetch_rows<${columns}, ${parts}>(b, ${from}.${weight}, block_range(b, ${rows}));`;
    if (index + ahead < layer.length) return [`${call('w')}  // for ${next.name}`];
    return [`if (layer + 1 < kLayers) ${call('layer_weights(pass, layer + 1)')}  // for ${next.name}`];
  }
}

const barrierCall = (sync: Sync): string => `grid_barrier(b);  // ${sync.reason}`;

function trailingBlockSync(schedule: Schedule, stage: ScheduledStage): Sync | undefined {
  return schedule.syncs.find(
    (sync) =>
      sync.scope === 'block' &&
      sync.after.stage === stage.name &&
      sync.after.phase === stage.phases.length - 1,
  );
}
