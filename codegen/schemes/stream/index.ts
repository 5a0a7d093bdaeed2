// A stream: weights arrive as one run of memory, and activations are handed over word by word.
import { commonView } from '../../emit/view.ts';
import { kibibytes } from '../../schedule/bytes-text.ts';
import type { ScheduledStage } from '../../schedule/schedule.ts';
import type { Scheme } from '../scheme.ts';
import { isNeeded, streamCost, whenText } from './cost.ts';
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
function factsOf(schedule: StreamSchedule): string[] {
  const { syncs, stages, ring, kernels, splitSteps } = schedule;
  const layer = stages.filter((stage) => stage.part === 'layer');
  const waits = (splits: number) =>
    layer.filter(({ name }) =>
      syncs.some((sync) => isExchange(sync) && sync.after.stage === name && isNeeded(schedule, sync, splits)),
    ).length;
  const counts = [...new Set(splitSteps.map(({ splits }) => waits(splits)))];
  const slots = kernels.map((kernel) => kernel.slots).join(', ');
  const splits = splitSteps.map((step) => `${step.splits} from ${step.from}`).join(', ');
  return [
    `${counts.join(' or ')} exchanges a layer (${ring.handoff})`,
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
    const syncsAfter = ({ name }: ScheduledStage) =>
      schedule.syncs
        .filter((sync) => sync.after.stage === name)
        .map((sync) => {
          if (isExchange(sync)) {
            const when = whenText(schedule, sync);
            return `${when && `${when}: `}exchange of ${sync.tensors.join(', ')}: ${sync.reason}`;
          }
          return `${sync.scope === 'block' ? 'block sync' : 'cache'}: ${sync.reason}`;
        })
        .join('; ');
    return streamView(schedule, commonView(schedule, origin, factsOf(schedule), syncsAfter));
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
