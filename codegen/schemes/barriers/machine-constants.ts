// Constants of a kernel at barriers that its plan's options of the machine make.
import { type ConstantView, constantOf } from '../../emit/c-text.ts';
import { dtypeBytes } from '../../model/formats.ts';
import { columnsOf } from '../../model/ops.ts';
import { padded } from '../../model/packing.ts';
import type { BarrierSchedule } from './schedule.ts';
import { ringBytes } from './tuning.ts';

export function machineConstants(schedule: BarrierSchedule): ConstantView[] {
  const { tuning } = schedule;
  if (tuning.warps === 1)
    return [constantOf('int')('kInputBits', tuning.inputBits, 'of inputs of rows in blocks')];
  const [int, bool] = [constantOf('int'), constantOf('bool')];
  return [
    int('kThreads', 32 * tuning.warps, 'of a block'),
    int('kWarps', 'kThreads / 32'),
    int('kProducerThreads', 0, 'of a block: all compute'),
    int('kMostBlocks', tuning.mostBlocks ?? 0, 'of a launch; 0: one on each multiprocessor'),
    int('kLoadBits', tuning.loadBits, 'of weights that a lane loads at once'),
    int('kInFlight', tuning.loadsInFlight, 'loads that a lane has under way'),
    int('kBuffers', tuning.buffers, 'that weights are copied into; 0: they go straight to registers'),
    int('kProducerWarps', tuning.producerWarps, 'of a block: they copy weights for the others'),
    int('kRingBytes', ringBytes(tuning), 'the buffers of a block'),
    bool(
      'kGridSync',
      String(tuning.barrier === 'grid.sync'),
      "cooperative groups' grid barrier, without a watchdog",
    ),
    ...headRowsAhead(schedule),
  ];
}

/** Rows of the LM head that idle blocks ask for: they may have a quarter of L2. */
function headRowsAhead({ tuning, target, dims }: BarrierSchedule): ConstantView[] {
  if (tuning.prefetch === 0 || tuning.prefetchBy !== 'idle') return [];
  const rowBytes = padded(columnsOf('lm_head', dims)) * dtypeBytes[dims.dtype];
  const rows = Math.min(dims.vocab, Math.floor(target.l2Bytes / 4 / rowBytes));
  return [
    constantOf('int')('kHeadRowsAhead', rows, 'of the LM head that idle blocks ask for: a quarter of L2'),
  ];
}
