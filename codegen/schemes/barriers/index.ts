// Barriers: blocks meet between stages, and warps load their own weights.
import { commonView } from '../../emit/view.ts';
import { waitsPerLayer } from '../../schedule/cost.ts';
import { platformOf } from '../../schedule/target.ts';
import type { Scheme } from '../scheme.ts';
import { barrierBudget, tokensOutOfRange } from './budget.ts';
import { barrierCost } from './cost.ts';
import { atBarriers } from './form.ts';
import { lowerBarriers } from './lower.ts';
import {
  blocksAtBarriers,
  bytesWithoutBlocks,
  partOfAWarp,
  producersWithoutBuffers,
  scalesAtBarriers,
  warpsWithoutColumns,
} from './rules.ts';
import type { BarrierSchedule } from './schedule.ts';
import { simulate } from './simulate.ts';
import { tinyBarriers } from './tiny.ts';
import { prefetchText, tuningFacts } from './tuning.ts';
import { uncoveredBarriers } from './uncovered.ts';
import { barrierView } from './view.ts';

/** What runs the kernel on each kind of target. */
const hosts = {
  cpu: [['cpu', '']],
  cuda: [
    ['cuda/host', 'host/'],
    ['cuda/barriers/host', 'host/'],
  ],
} as const;

export const barriersScheme: Scheme<BarrierSchedule> = {
  name: 'barriers',
  read: (graph, plan) => ({ graph, plan: atBarriers(plan) }),
  rules: [
    blocksAtBarriers,
    scalesAtBarriers,
    bytesWithoutBlocks,
    producersWithoutBuffers,
    partOfAWarp,
    warpsWithoutColumns,
    tokensOutOfRange,
  ],
  budget: barrierBudget,
  lower: (graph, plan, target) => lowerBarriers(graph, atBarriers(plan), target),
  uncovered: uncoveredBarriers,
  simulate: (schedule, run) => simulate(schedule, run),
  tiny: (dims, plan, target) => tinyBarriers(dims, atBarriers(plan), target),
  cost: barrierCost,
  view: (schedule, origin) => {
    const { tuning, target } = schedule;
    const cost = barrierCost(schedule);
    const facts = [
      `${waitsPerLayer(cost)} grid barriers a layer`,
      ...(tuning.prefetch > 0 ? [prefetchText(tuning)] : []),
      ...tuningFacts(tuning, target),
    ];
    return barrierView(schedule, commonView(schedule, origin, facts, cost));
  },
  templates: (target) => {
    const { kind, kernelFile } = platformOf(target);
    return {
      kernel: `${kind}/${kernelFile}.hbs`,
      model: 'model.h.hbs',
      copied: [[`${kind}/lib`, 'lib/'], ['host', 'host/'], ...hosts[kind]],
    };
  },
};
