// A stream: weights arrive as one run of memory, and activations are handed over word by word.
import { commonView } from '../../emit/view.ts';
import { kibibytes } from '../../schedule/bytes-text.ts';
import { waitsPerLayer } from '../../schedule/cost.ts';
import type { Scheme } from '../scheme.ts';
import { streamCost } from './cost.ts';
import { lowerStream } from './lower.ts';
import { rowwiseHeads } from './rewrite.ts';
import {
  bulkWithoutEngine,
  fewerBlocksThanHeads,
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
import { tinyStream } from './tiny.ts';
import { uncoveredStream } from './uncovered.ts';
import { streamView } from './view.ts';

/** The facts of the header: exchanges, ring, copies, splits. */
function factsOf(schedule: StreamSchedule): string[] {
  const { ring, kernels, splitSteps } = schedule;
  const counts = new Set(splitSteps.map(({ from }) => waitsPerLayer(streamCost(schedule, from))));
  const slots = kernels.map((kernel) => kernel.slots).join(', ');
  const splits = splitSteps.map((step) => `${step.splits} from ${step.from}`).join(', ');
  return [
    `${[...counts].join(' or ')} exchanges a layer (${ring.handoff})`,
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
    bulkWithoutEngine,
    fewerBlocksThanHeads,
  ],
  budget: streamBudget,
  lower: lowerStream,
  uncovered: uncoveredStream,
  simulate: simulateTiny,
  tiny: tinyStream,
  cost: streamCost,
  view: (schedule, origin) =>
    streamView(schedule, commonView(schedule, origin, factsOf(schedule), streamCost(schedule))),
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
