// Every string that the templates of barriers print.
import { type ConstantView, constantOf } from '../../emit/c-text.ts';
import { scratchName, strideName } from '../../emit/names.ts';
import type { CommonView } from '../../emit/view.ts';
import { docOf, type TensorName } from '../../model/graph.ts';
import { CallPrinter } from './calls.ts';
import { machineConstants } from './machine-constants.ts';
import { activationBytes, type BarrierSchedule, bufferBytes } from './schedule.ts';
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
  const machine = machineConstants(schedule);
  return {
    ...common,
    modelFields: modelFields(schedule, common),
    constants: [...machine, ...common.constants, ...constants(schedule)],
    buffers: bufferViews(schedule),
    stages: schedule.stages.map((stage) => stageView(schedule, stage)),
    stageNames: schedule.stages.map((stage) => stage.name),
    begin: calls.of('begin', 'model'),
    layer: calls.of('layer', 'w'),
    end: calls.of('end', 'model'),
  };
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
