// The rules of a legal plan. Each is a pure function; every issue says where, why, and which changes, tried out, would be legal.

import type { Graph } from '../model/graph.ts';
import type { Target } from '../schedule/target.ts';
import { schemeFor } from '../schemes/index.ts';
import type { Context, Finding, Rule } from './finding.ts';
import type { Issue } from './issue.ts';
import type { FusionPlan } from './plan.ts';
import { cannotDeal, splitWithoutAttend, storedBySeveralWorkers } from './rules/dealing.ts';
import { emptyPlan, missingOp, opTwice, stageName, unknownOp } from './rules/naming.ts';
import { beforeItsInput, mixedParts } from './rules/order.ts';
import { recomputeOfAWriter, rowsDiffer, syncInsideStage, twoMatmuls } from './rules/stage.ts';
import { shapeIssues } from './shape.ts';

/**
 * Every issue of a plan for this model and target, in source order, one per op. Ops that the model lacks (qk_norm) are passed over.
 * An empty list means that the plan's scheme can lower the plan.
 */
export function checkPlan(graph: Graph, plan: FusionPlan, target: Target): Issue[] {
  const misshapen = shapeIssues(plan);
  if (misshapen.length > 0) return misshapen;
  const context = contextOf(graph, plan, target);
  const findings = findAll(context);
  const first = new Map<string, Finding>();
  for (const finding of findings) {
    const { line, column } = finding.at;
    const key = [line, column, finding.stage?.name ?? '', finding.token].join();
    if (!first.has(key)) first.set(key, finding);
  }
  const issues = [...first.values()]
    .sort((a, b) => bySource(plan, a, b))
    .map((finding) => toIssue(finding, (tried) => helps(graph, tried, target, findings, finding)));
  if (issues.length > 0) return issues;
  const overBudget = schemeFor(plan, target).budget(context);
  return overBudget.map((finding) => toIssue(finding, (tried) => isLegal(graph, tried, target)));
}

/** True if `checkPlan` finds nothing; cheaper, since no alternatives are tried. */
export function isLegal(graph: Graph, plan: FusionPlan, target: Target): boolean {
  const context = contextOf(graph, plan, target);
  return findAll(context).length === 0 && schemeFor(plan, target).budget(context).length === 0;
}

/** The first thing that is wrong, without what would be legal in its place: cheap. */
export function firstIssue(
  graph: Graph,
  plan: FusionPlan,
  target: Target,
): Pick<Issue, 'rule' | 'why'> | undefined {
  const [misshapen] = shapeIssues(plan);
  if (misshapen) return misshapen;
  const context = contextOf(graph, plan, target);
  return findAll(context)[0] ?? schemeFor(plan, target).budget(context)[0];
}

/** What the rules see: the plan and the graph as its scheme takes them. */
const contextOf = (graph: Graph, plan: FusionPlan, target: Target): Context => {
  const scheme = schemeFor(plan, target);
  return { ...scheme.read(graph, plan), target };
};

/** Of several issues of one op the first rule's is shown. */
const rules: readonly Rule[] = [
  emptyPlan,
  unknownOp,
  opTwice,
  missingOp,
  mixedParts,
  beforeItsInput,
  recomputeOfAWriter,
  syncInsideStage,
  twoMatmuls,
  rowsDiffer,
  cannotDeal,
  storedBySeveralWorkers,
  splitWithoutAttend,
  stageName,
];

const findAll = (context: Context): Finding[] =>
  [...rules, ...schemeFor(context.plan, context.target).rules].flatMap((rule) => rule(context));

/** Of the edits those stay that help. */
function toIssue(finding: Finding, isGood: (plan: FusionPlan) => boolean): Issue {
  const { rule, at, call, token, argument, nth, why } = finding;
  const legal = finding.edits.filter((edit) => edit.plans().some(isGood)).map((edit) => edit.text);
  return { rule, at, call, token, argument, nth, why, legal };
}

/** True if the rules find nothing new in a changed plan, and nothing more at this token. */
function helps(
  written: Graph,
  plan: FusionPlan,
  target: Target,
  before: readonly Finding[],
  finding: Finding,
): boolean {
  const keyOf = (f: Finding) => `${f.rule} ${f.token}`;
  const known = new Set(before.map(keyOf));
  const left = findAll(contextOf(written, plan, target));
  return left.length < before.length && left.every((f) => known.has(keyOf(f)) && f.token !== finding.token);
}

const argumentOrder: readonly Issue['argument'][] = [
  'name',
  'ops',
  'over',
  'recompute',
  'split',
  'scheme',
  'tokens',
  'key',
  'value',
];

function bySource({ stages }: FusionPlan, a: Finding, b: Finding): number {
  const inPlan = ({ stage }: Finding) => (stage ? stages.indexOf(stage) : -1);
  const inCall = ({ argument, token, stage }: Finding) => {
    const ops: readonly string[] = stage?.ops ?? [];
    return 100 * argumentOrder.indexOf(argument) + ops.indexOf(token);
  };
  const byLine = a.at.line - b.at.line || a.at.column - b.at.column;
  return byLine || inPlan(a) - inPlan(b) || inCall(a) - inCall(b);
}
