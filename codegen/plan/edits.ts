// Changes that may make a plan legal: each is a text for the user and the plans to try.

import type { Graph, Op, OpName } from '../model/graph.ts';
import { type Context, type Edit, isPure, opOf } from './finding.ts';
import {
  type BarriersScheme,
  barriers,
  changed,
  type FusionPlan,
  type Over,
  type Scheme,
  type Stage,
} from './plan.ts';

export const withStages = (plan: FusionPlan, stages: readonly Stage[]): FusionPlan =>
  changed(plan, { stages });

export const withScheme = (plan: FusionPlan, scheme: Scheme): FusionPlan => changed(plan, { scheme });

export const withTokens = (plan: FusionPlan, tokens: number | 'many'): FusionPlan =>
  withScheme(plan, { ...plan.scheme, tokens });

/** Passes of another size. */
export const ofTokens = ({ plan }: Pick<Context, 'plan'>, tokens: number | 'many'): Edit => ({
  text: `tokens: ${tokens === 'many' ? `'many'` : tokens}`,
  plans: () => [withTokens(plan, tokens)],
});

/** Other options of barriers. */
export const ofBarriers = (
  { plan }: Pick<Context, 'plan'>,
  options: Partial<Omit<BarriersScheme, 'kind'>>,
): Edit => ({
  text: Object.entries(options)
    .map(([key, value]) => `${key}: ${typeof value === 'string' ? `'${value}'` : value}`)
    .join(', '),
  plans: () => (plan.scheme.kind === 'barriers' ? [withScheme(plan, { ...plan.scheme, ...options })] : []),
});

/** The same stages at barriers. */
export const withBarriers = ({ plan }: Pick<Context, 'plan'>): Edit => ({
  text: 'barriers()',
  plans: () => [withScheme(plan, barriers())],
});

export const replace = (plan: FusionPlan, stage: Stage, ...by: readonly Stage[]): FusionPlan =>
  withStages(
    plan,
    plan.stages.flatMap((s) => (s === stage ? by.filter((one) => one.ops.length > 0) : [s])),
  );

export const noOp = (plan: FusionPlan, op: OpName): FusionPlan =>
  withStages(
    plan,
    plan.stages
      .map((stage) => ({ ...stage, ops: stage.ops.filter((name) => name !== op) }))
      .filter((stage) => stage.ops.length > 0),
  );

export const within = (recompute: readonly OpName[], ops: readonly OpName[]): OpName[] =>
  recompute.filter((op) => ops.includes(op));

/** A stage's ops, cut in two before `op`; the rest dealt in whichever way is legal. */
export function endBefore({ graph, plan }: Context, stage: Stage, op: OpName): Edit {
  const at = stage.ops.indexOf(op);
  const head = stage.ops.slice(0, at);
  return {
    text: `end stage '${stage.name}' before ${op}`,
    plans: () =>
      at === 0
        ? []
        : dealings(graph, stage, stage.ops.slice(at), freshName(plan)).map((tail) =>
            replace(plan, stage, { ...stage, ops: head, recompute: within(stage.recompute, head) }, tail),
          ),
  };
}

/** Ways to end a stage behind `first` and not later than before `second`. */
export const endBetween = (context: Context, stage: Stage, first: Op, second: Op): Edit[] =>
  stage.ops
    .slice(stage.ops.indexOf(first.name) + 1, stage.ops.indexOf(second.name) + 1)
    .map((op) => endBefore(context, stage, op));

/** An op taken out into a stage of its own. */
export function stageOfItsOwn({ graph, plan }: Context, stage: Stage, op: OpName): Edit {
  const at = stage.ops.indexOf(op);
  const [head, tail] = [stage.ops.slice(0, at), stage.ops.slice(at + 1)];
  return {
    text: `give ${op} a stage of its own`,
    plans: () =>
      head.length + tail.length === 0
        ? []
        : dealings(graph, stage, [op], freshName(plan)).map((own) =>
            replace(plan, stage, { ...stage, ops: head, recompute: within(stage.recompute, head) }, own, {
              ...stage,
              name: `${freshName(plan)}b`,
              ops: tail,
              recompute: within(stage.recompute, tail),
            }),
          ),
  };
}

export const dealOver = ({ plan }: Context, stage: Stage): Edit[] =>
  overs
    .filter((over) => over !== stage.over)
    .map((over) => ({
      text: `deal the stage over '${over}'`,
      plans: () => [replace(plan, stage, { ...stage, over })],
    }));

export const recomputeToo = ({ plan }: Context, stage: Stage, ops: readonly OpName[]): Edit => ({
  text: `recompute: [${[...stage.recompute, ...ops].map((op) => `'${op}'`).join(', ')}]`,
  plans: () => [replace(plan, stage, { ...stage, recompute: [...stage.recompute, ...ops] })],
});

export const doNotRecompute = ({ plan }: Context, stage: Stage, op: OpName): Edit => ({
  text: `leave ${op} out of recompute`,
  plans: () => [replace(plan, stage, { ...stage, recompute: stage.recompute.filter((name) => name !== op) })],
});

export const doNotSplit = ({ plan }: Context, stage: Stage): Edit => ({
  text: `leave out split`,
  plans: () => [replace(plan, stage, { ...stage, split: 'none' })],
});

/** An op put where it belongs, in a plan that does not have it: into the stage of the op before it or after it, or between them. */
export function places({ graph, plan }: Context, op: OpName): Edit[] {
  const order = graph.ops.map((o) => o.name);
  const [before, after] = [order[order.indexOf(op) - 1], order[order.indexOf(op) + 1]];
  const [left, right] = [before, after].map((name) => plan.stages.find((s) => name && s.ops.includes(name)));
  const edits: Edit[] = [];
  if (left && before) {
    const text = `put it after ${before} in stage '${left.name}'`;
    const ops = left.ops.flatMap((name) => (name === before ? [name, op] : [name]));
    edits.push({ text, plans: () => [replace(plan, left, { ...left, ops })] });
  }
  if (right && after && right !== left) {
    const text = `put it before ${after} in stage '${right.name}'`;
    const ops = right.ops.flatMap((name) => (name === after ? [op, name] : [name]));
    const recompute = isPure(opOf(graph, op)) ? [...right.recompute, op] : right.recompute;
    edits.push({ text, plans: () => [replace(plan, right, { ...right, ops })] });
    edits.push({
      text: `${text} and recompute it there`,
      plans: () => (isPure(opOf(graph, op)) ? [replace(plan, right, { ...right, ops, recompute })] : []),
    });
  }
  const beside = left ?? right;
  if (beside) {
    const name = plan.stages.some((s) => s.name === op) ? freshName(plan) : op;
    for (const over of overs) {
      const own: Stage = { name, ops: [op], over, recompute: [], split: 'none', at: plan.at };
      edits.push({
        text: `add stage('${name}', ['${op}'], { over: '${over}' }) ${left ? 'after' : 'before'} stage '${beside.name}'`,
        plans: () => [replace(plan, beside, ...(left ? [beside, own] : [own, beside]))],
      });
    }
  }
  return edits;
}

/** The stage moved behind the one that makes its input. */
export function swaps({ plan }: Context, stage: Stage, maker: OpName): Edit[] {
  const others = plan.stages.filter((s) => s !== stage);
  const at = others.findIndex((s) => s.ops.includes(maker));
  if (at === -1) return [];
  const stages = [...others.slice(0, at + 1), stage, ...others.slice(at + 1)];
  return [
    {
      text: `move stage '${stage.name}' after stage '${others[at]!.name}'`,
      plans: () => [withStages(plan, stages)],
    },
  ];
}

const overs: readonly Over[] = ['rows', 'q_heads', 'kv_heads', 'tokens', 'once'];

/** Every way to deal some ops as one stage: as `like` deals first. */
function dealings(graph: Graph, like: Stage, ops: readonly OpName[], name: string): Stage[] {
  const pure = ops.filter((op) => isPure(opOf(graph, op)));
  const kept = like.recompute.filter((op) => ops.includes(op));
  return [like.over, ...overs.filter((over) => over !== like.over)].flatMap((over) =>
    [kept, [], pure].flatMap((recompute) =>
      (['none', 'positions'] as const).map((split) => ({ name, ops, over, recompute, split, at: like.at })),
    ),
  );
}

const freshName = (plan: FusionPlan): string => {
  let n = 2;
  while (plan.stages.some((stage) => stage.name === `rest${n}`)) n++;
  return `rest${n}`;
};
