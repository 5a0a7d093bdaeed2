// The edits of a plan that a flag can name: an op or a stage, and what becomes of it.
import type { Graph, OpName } from '../codegen/model/graph.ts';
import {
  dealt,
  type FusionPlan,
  into,
  type Over,
  own,
  type PlanEdit,
  type Stage,
} from '../codegen/plan/plan.ts';

/** One value of an axis: what is done to an op or a stage. */
export interface NamedEdit {
  /** As it is typed, and stands in a label: `own`, `own:kv_heads`, `into:STAGE`, `recompute:STAGE`, `rows`, `kv_heads:split`. */
  readonly text: string;
  readonly edit: PlanEdit;
}

const overs: readonly Over[] = ['rows', 'q_heads', 'kv_heads', 'tokens', 'once'];

/** All edits of an op or a stage, legal or not; empty where the plan has no such thing. */
export function editsOf(graph: Graph, plan: FusionPlan, key: string): readonly NamedEdit[] {
  const op = graph.ops.find(({ name }) => name === key)?.name;
  const stage = plan.stages.find(({ name }) => name === key);
  return [...(op ? editsOfOp(graph, plan, op) : []), ...(stage ? editsOfStage(stage) : [])];
}

/** What can be a key of --vary besides options. */
export const editable = (graph: Graph, plan: FusionPlan): string[] => [
  ...new Set([...graph.ops.map(({ name }) => name), ...plan.stages.map(({ name }) => name)]),
];

function editsOfOp(graph: Graph, plan: FusionPlan, op: OpName): NamedEdit[] {
  return [
    ...overs.map((over) => ({ text: `own:${over}`, edit: own({ over }) })),
    ...neighbours(graph, plan, op).flatMap((name) => [
      { text: `into:${name}`, edit: into(name) },
      { text: `recompute:${name}`, edit: into(name, { recompute: true }) },
    ]),
  ];
}

/** The stages of the nearest ops of the same part before and after it: not one that it has for itself. */
function neighbours({ ops }: Graph, plan: FusionPlan, op: OpName): string[] {
  const at = ops.findIndex(({ name }) => name === op);
  const beside = [ops[at - 1], ops[at + 1]].filter((other) => other?.part === ops[at]!.part);
  const stages = beside.map((other) =>
    plan.stages.find((stage) => other && stage.ops.includes(other.name) && !isAlone(stage.ops, op)),
  );
  return [...new Set(stages.flatMap((stage) => stage?.name ?? []))];
}

const isAlone = (ops: readonly OpName[], op: OpName): boolean => ops.length === 1 && ops[0] === op;

function editsOfStage(stage: Stage): NamedEdit[] {
  const splits = stage.ops.includes('attend') ? (['none', 'positions'] as const) : (['none'] as const);
  return overs.flatMap((over) =>
    splits.map((split) => ({
      text: split === 'none' ? over : `${over}:split`,
      edit: dealt({ over, split }),
    })),
  );
}
