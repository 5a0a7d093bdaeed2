// What a scheme is: one value that answers every question about it. Nobody else asks which scheme a plan has.
import type { CommonView, Origin } from '../emit/view.ts';
import type { ModelDims } from '../model/dims.ts';
import type { Graph } from '../model/graph.ts';
import type { Rule } from '../plan/finding.ts';
import type { FusionPlan } from '../plan/plan.ts';
import type { Cost } from '../schedule/cost.ts';
import type { CommonSchedule } from '../schedule/schedule.ts';
import type { Target } from '../schedule/target.ts';
import type { Uncovered } from '../schedule/uncovered.ts';

/** The files of a kernel, under templates/. */
interface SchemeTemplates {
  /** Printed: the kernel, and the header of the model. */
  readonly kernel: string;
  readonly model: string;
  /** Hole-free folders that are copied, and where to in the generated folder. */
  readonly copied: readonly (readonly [folder: string, into: string])[];
}

/**
 * race: two accesses, one a write, neither before the other. stale: a read that sees another value than it would if all stages ran one
 * after the other. unwritten: a read of what nobody wrote. overwritten: a write over what somebody has yet to read. deadlock: workers wait
 * for others that never come.
 */
export interface Fault {
  readonly kind: 'race' | 'unwritten' | 'stale' | 'overwritten' | 'deadlock';
  readonly text: string;
}

/** A tiny run of a schedule, for the simulator. */
export interface TinyRun {
  readonly blocks: number;
  readonly warps: number;
  readonly tokens: number;
  readonly position: number;
  /** Positions of tokens that belong to sequences of their own, where a scheme has such passes. */
  readonly rows?: readonly number[];
  /** Each of them is whole, in a block of its own of a head; otherwise all are dealt in equal shares. */
  readonly wholeRows?: boolean;
  readonly seed: number;
}

/** A schedule whose every interleaving can be run, and the machines that suit it. */
export interface Tiny<S> {
  readonly schedule: S;
  readonly machines: readonly Omit<TinyRun, 'seed'>[];
}

export interface Scheme<S extends CommonSchedule> {
  readonly name: S['scheme'];
  /** Graph and plan as the scheme takes them: what the rules see, and what is lowered. */
  readonly read: (graph: Graph, plan: FusionPlan) => { readonly graph: Graph; readonly plan: FusionPlan };
  /** Legality beyond the common rules. */
  readonly rules: readonly Rule[];
  /** Asked last: only a plan that is legal otherwise has sizes. */
  readonly budget: Rule;
  readonly lower: (graph: Graph, plan: FusionPlan, target: Target) => S;
  /** Conflicts that no sync orders, looked for on addresses and words: empty for a correct schedule. */
  readonly uncovered: (schedule: S) => Uncovered[];
  /** What goes wrong in one interleaving of a tiny run. */
  readonly simulate: (schedule: S, run: TinyRun) => Fault[];
  /** A legal plan for a model scaled down, such that every sync of it is needed. */
  readonly tiny: (dims: ModelDims, plan: FusionPlan, target: Target) => Tiny<S>;
  /**
   * @param tokens of a launch of its own. @default one token of a reply; where launches have many, as many as there may be
   * @param makesToken whether the head is asked too, where a launch of its own may do without
   */
  readonly cost: (schedule: S, position?: number, tokens?: number, makesToken?: boolean) => Cost;
  readonly view: (schedule: S, origin: Origin) => CommonView;
  readonly templates: (target: Target) => SchemeTemplates;
}
