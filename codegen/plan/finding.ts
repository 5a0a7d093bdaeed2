// What a rule about plans finds, and the plan as the rules see it.
import type { Graph, Op, OpName } from '../model/graph.ts';
import { opTable } from '../model/ops.ts';
import type { Target } from '../schedule/target.ts';
import type { Issue } from './issue.ts';
import type { FusionPlan, Stage } from './plan.ts';

export interface Context {
  readonly graph: Graph;
  readonly plan: FusionPlan;
  readonly target: Target;
}

/** A change that may make the plan legal: any one of its variants will do. */
export interface Edit {
  readonly text: string;
  readonly plans: () => readonly FusionPlan[];
}

export interface Finding extends Omit<Issue, 'legal'> {
  readonly stage: Stage | null;
  readonly edits: readonly Edit[];
}

export type Rule = (context: Context) => Finding[];

export const opOf = (graph: Graph, name: OpName): Op | undefined => graph.ops.find((op) => op.name === name);

/** The ops of a stage that this model has. */
export const opsOf = (graph: Graph, stage: Stage): Op[] =>
  stage.ops.map((name) => opOf(graph, name)).filter((op) => op !== undefined);

export const isRecomputed = (stage: Stage, op: Op): boolean => stage.recompute.includes(op.name);

/** Ops whose result is cheap to make again and stays in the block. */
export const isPure = (op: Op | undefined): boolean => op !== undefined && opTable[op.name].pure === true;

export const atStage = (stage: Stage, argument: Issue['argument'], token: string, nth = 0) => ({
  stage,
  at: stage.at,
  call: stage.name,
  argument,
  token,
  nth,
});

export const atPlan = (plan: FusionPlan, argument: Issue['argument'], token: string) => ({
  stage: null,
  at: plan.at,
  call: plan.name,
  argument,
  token,
  nth: 0,
});
