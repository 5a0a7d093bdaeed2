// Barriers: blocks meet between stages, and warps load their own weights.
import { commonView } from '../../emit/view.ts';
import { platformOf } from '../../schedule/target.ts';
import type { Scheme } from '../scheme.ts';
import { barrierBudget, tokensOutOfRange } from './budget.ts';
import { barrierCost } from './cost.ts';
import { atBarriers } from './form.ts';
import { lowerBarriers } from './lower.ts';
import type { BarrierSchedule } from './schedule.ts';
import { simulate } from './simulate.ts';
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
  rules: [tokensOutOfRange],
  budget: barrierBudget,
  lower: (graph, plan, target) => lowerBarriers(graph, atBarriers(plan), target),
  uncovered: uncoveredBarriers,
  simulate: (schedule, run) => simulate(schedule, run),
  cost: barrierCost,
  view: (schedule, origin) => {
    const { stages, syncs, prefetch } = schedule;
    const isLayer = (name: string) => stages.find((stage) => stage.name === name)!.part === 'layer';
    const grid = syncs.filter((sync) => sync.scope === 'grid');
    const perLayer = grid.filter((sync) => isLayer(sync.after.stage)).length;
    const facts = [
      `${perLayer} grid barriers a layer`,
      ...(prefetch > 0 ? [`prefetch ${prefetch} stages ahead`] : []),
    ];
    const behind = ({ name }: { readonly name: string }) => {
      const sync = grid.find(({ after }) => after.stage === name);
      return sync ? `grid barrier: ${sync.reason}` : '';
    };
    return barrierView(schedule, commonView(schedule, origin, facts, behind));
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
