// A stream: weights arrive as one run of memory, and activations are handed over word by word.
import { commonView } from '../../emit/view.ts';
import { kibibytes } from '../../schedule/bytes-text.ts';
import type { ScheduledStage } from '../../schedule/schedule.ts';
import type { Scheme } from '../scheme.ts';
import { streamCost } from './cost.ts';
import { lowerStream } from './lower.ts';
import { rowwiseHeads } from './rewrite.ts';
import {
  kvHeadsWithoutBlock,
  oddHead,
  queriesDoNotFit,
  slotSize,
  splitsInOrder,
  streamBudget,
  streamedTokens,
  streamStage,
  weightsNotHalf,
} from './rules.ts';
import type { StreamSchedule } from './schedule.ts';
import { simulateTiny } from './simulate.ts';
import { uncoveredStream } from './uncovered.ts';
import { streamView } from './view.ts';
import { isExchange } from './words.ts';

/** The facts of the header: exchanges, ring, copies, splits. */
function factsOf({ syncs, stages, ring, kernels, splitSteps }: StreamSchedule): string[] {
  const isLayer = (name: string) => stages.find((stage) => stage.name === name)!.part === 'layer';
  const exchanges = syncs.filter((sync) => isExchange(sync) && isLayer(sync.after.stage)).length;
  const slots = kernels.map((kernel) => kernel.slots).join(', ');
  const splits = splitSteps.map((step) => `${step.splits} from ${step.from}`).join(', ');
  return [
    `${exchanges} exchanges a layer (${ring.handoff})`,
    `${slots} slots of ${kibibytes(ring.slotBytes)} KiB`,
    `${ring.copiesInFlight} in flight (${ring.headCopiesInFlight} in the head)`,
    `splits ${splits}`,
  ];
}

export const streamScheme: Scheme<StreamSchedule> = {
  name: 'stream',
  read: (graph, plan) => ({ graph: rowwiseHeads(graph, plan), plan }),
  rules: [
    streamStage,
    streamedTokens,
    weightsNotHalf,
    oddHead,
    kvHeadsWithoutBlock,
    queriesDoNotFit,
    slotSize,
    splitsInOrder,
  ],
  budget: streamBudget,
  lower: lowerStream,
  uncovered: uncoveredStream,
  simulate: simulateTiny,
  cost: streamCost,
  view: (schedule, origin) => {
    const behind = ({ name }: ScheduledStage) =>
      schedule.syncs
        .filter((sync) => sync.after.stage === name)
        .map((sync) => {
          if (isExchange(sync)) return `exchange of ${sync.tensors.join(', ')}: ${sync.reason}`;
          return `${sync.scope === 'block' ? 'block sync' : 'cache'}: ${sync.reason}`;
        })
        .join('; ');
    return streamView(schedule, commonView(schedule, origin, factsOf(schedule), behind));
  },
  templates: () => ({
    kernel: 'cuda/stream/kernel.cu.hbs',
    model: 'cuda/stream/model.h.hbs',
    copied: [
      ['cuda/lib', 'lib/'],
      ['host', 'host/'],
      ['cuda/stream', 'stream/'],
      ['cuda/host', 'host/'],
      ['cuda/stream/host', 'host/'],
    ],
  }),
};
