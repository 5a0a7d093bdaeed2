// The rules of a legal plan. Each is a pure function; every issue says where, why, and which changes, tried out, would be legal.
import { z } from 'zod';
import { OnelaunchError } from '../errors.ts';
import { didYouMean } from './did-you-mean.ts';
import { type Extent, type Graph, type Op, type OpName, opNames, width } from './graph.ts';
import { ownedExtent, scopeOf } from './hazards.ts';
import type { Issue } from './issue.ts';
import { libraryScratch } from './library-scratch.ts';
import type { FusionPlan, Over, Site, Stage } from './plan.ts';
import { assignWork, rowsOf } from './schedule.ts';
import type { Target } from './target.ts';

/**
 * Every issue of a plan for this model and target, in source order, one per op. Ops that the model lacks (qk_norm) are passed over.
 * An empty list means that `assignWork` accepts the plan.
 */
export function checkPlan(graph: Graph, plan: FusionPlan, target: Target): Issue[] {
  const context: Context = { graph, plan, target };
  const findings = findAll(context);
  const first = new Map<string, Finding>();
  for (const finding of findings) {
    const { line, column } = finding.at;
    const key = [line, column, finding.stage?.name ?? '', finding.token].join();
    if (!first.has(key)) first.set(key, finding);
  }
  const issues = [...first.values()]
    .sort((a, b) => bySource(plan, a, b))
    .map((finding) => toIssue(context, findings, finding));
  return issues.length > 0 ? issues : overBudget(context);
}

const argumentOrder: readonly Issue['argument'][] = ['name', 'ops', 'over', 'recompute', 'split', 'tokens'];

function bySource({ stages }: FusionPlan, a: Finding, b: Finding): number {
  const inPlan = ({ stage }: Finding) => (stage ? stages.indexOf(stage) : -1);
  const inCall = ({ argument, token, stage }: Finding) => {
    const ops: readonly string[] = stage?.ops ?? [];
    return 100 * argumentOrder.indexOf(argument) + ops.indexOf(token);
  };
  const byLine = a.at.line - b.at.line || a.at.column - b.at.column;
  return byLine || inPlan(a) - inPlan(b) || inCall(a) - inCall(b);
}

/** True if `checkPlan` finds nothing; cheaper, since no alternatives are tried. */
export function isLegal(graph: Graph, plan: FusionPlan, target: Target): boolean {
  const context: Context = { graph, plan, target };
  return findAll(context).length === 0 && overBudget(context).length === 0;
}

interface Context {
  readonly graph: Graph;
  readonly plan: FusionPlan;
  readonly target: Target;
}

/** A change that may make the plan legal: any one of its variants will do. */
interface Edit {
  readonly text: string;
  readonly plans: () => readonly FusionPlan[];
}

interface Finding extends Omit<Issue, 'legal'> {
  readonly stage: Stage | null;
  readonly edits: readonly Edit[];
}

type Rule = (context: Context) => Finding[];

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
  tokensOutOfRange,
];

const findAll = (context: Context): Finding[] => rules.flatMap((rule) => rule(context));

/** Keeps the edits after which the rules find nothing new and nothing more at this token. */
function toIssue(context: Context, before: readonly Finding[], finding: Finding): Issue {
  const keyOf = (f: Finding) => `${f.rule} ${f.token}`;
  const known = new Set(before.map(keyOf));
  const helps = (plan: FusionPlan) => {
    const left = findAll({ ...context, plan });
    return left.length < before.length && left.every((f) => known.has(keyOf(f)) && f.token !== finding.token);
  };
  const legal = finding.edits.filter((edit) => edit.plans().some(helps)).map((edit) => edit.text);
  const { rule, at, call, token, argument, nth, why } = finding;
  return { rule, at, call, token, argument, nth, why, legal };
}

// The plan as the rules see it.

const opOf = (graph: Graph, name: OpName): Op | undefined => graph.ops.find((op) => op.name === name);

/** The ops of a stage that this model has. */
const opsOf = (graph: Graph, stage: Stage): Op[] =>
  stage.ops.map((name) => opOf(graph, name)).filter((op) => op !== undefined);

const isRecomputed = (stage: Stage, op: Op): boolean => stage.recompute.includes(op.name);

const atStage = (stage: Stage, argument: Issue['argument'], token: string, nth = 0) => ({
  stage,
  at: stage.at,
  call: stage.name,
  argument,
  token,
  nth,
});

const atPlan = (plan: FusionPlan, argument: Issue['argument'], token: string) => ({
  stage: null,
  at: plan.at,
  call: plan.name,
  argument,
  token,
  nth: 0,
});

// Edits.

const withStages = (plan: FusionPlan, stages: readonly Stage[]): FusionPlan => ({ ...plan, stages });

const replace = (plan: FusionPlan, stage: Stage, ...by: readonly Stage[]): FusionPlan =>
  withStages(
    plan,
    plan.stages.flatMap((s) => (s === stage ? by.filter((one) => one.ops.length > 0) : [s])),
  );

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

/** A stage's ops, cut in two before `op`; the rest dealt in whichever way is legal. */
function endBefore({ graph, plan }: Context, stage: Stage, op: OpName): Edit {
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

const within = (recompute: readonly OpName[], ops: readonly OpName[]): OpName[] =>
  recompute.filter((op) => ops.includes(op));

const freshName = (plan: FusionPlan): string => {
  let n = 2;
  while (plan.stages.some((stage) => stage.name === `rest${n}`)) n++;
  return `rest${n}`;
};

/** An op taken out into a stage of its own. */
function stageOfItsOwn({ graph, plan }: Context, stage: Stage, op: OpName): Edit {
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

const dealOver = ({ plan }: Context, stage: Stage): Edit[] =>
  overs
    .filter((over) => over !== stage.over)
    .map((over) => ({
      text: `deal the stage over '${over}'`,
      plans: () => [replace(plan, stage, { ...stage, over })],
    }));

const recomputeToo = ({ plan }: Context, stage: Stage, ops: readonly OpName[]): Edit => ({
  text: `recompute: [${[...stage.recompute, ...ops].map((op) => `'${op}'`).join(', ')}]`,
  plans: () => [replace(plan, stage, { ...stage, recompute: [...stage.recompute, ...ops] })],
});

const doNotRecompute = ({ plan }: Context, stage: Stage, op: OpName): Edit => ({
  text: `leave ${op} out of recompute`,
  plans: () => [replace(plan, stage, { ...stage, recompute: stage.recompute.filter((name) => name !== op) })],
});

const doNotSplit = ({ plan }: Context, stage: Stage): Edit => ({
  text: `leave out split`,
  plans: () => [replace(plan, stage, { ...stage, split: 'none' })],
});

const noOp = (plan: FusionPlan, op: OpName): FusionPlan =>
  withStages(
    plan,
    plan.stages
      .map((stage) => ({ ...stage, ops: stage.ops.filter((name) => name !== op) }))
      .filter((stage) => stage.ops.length > 0),
  );

/** An op put where it belongs, in a plan that does not have it: into the stage of the op before it or after it, or between them. */
function places({ graph, plan }: Context, op: OpName): Edit[] {
  const order = graph.ops.map((o) => o.name);
  const [before, after] = [order[order.indexOf(op) - 1], order[order.indexOf(op) + 1]];
  const [left, right] = [before, after].map((name) => plan.stages.find((s) => name && s.ops.includes(name)));
  const edits: Edit[] = [];
  if (left && before) {
    const text = `put it behind ${before} in stage '${left.name}'`;
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
        text: `add stage('${name}', ['${op}'], { over: '${over}' }) ${left ? 'behind' : 'before'} stage '${beside.name}'`,
        plans: () => [replace(plan, beside, ...(left ? [beside, own] : [own, beside]))],
      });
    }
  }
  return edits;
}

// Rules about which ops a plan names.

function emptyPlan({ plan }: Context): Finding[] {
  if (plan.stages.length === 0) {
    const why = `plan '${plan.name}' has no stages`;
    return [{ rule: 'empty-plan', ...atPlan(plan, 'name', plan.name), why, edits: [] }];
  }
  return plan.stages
    .filter((stage) => stage.ops.length === 0)
    .map((stage) => ({
      rule: 'empty-plan',
      ...atStage(stage, 'name', stage.name),
      why: `stage '${stage.name}' has no ops`,
      edits: [
        {
          text: 'leave it out',
          plans: () => [
            withStages(
              plan,
              plan.stages.filter((s) => s !== stage),
            ),
          ],
        },
      ],
    }));
}

/** The known op that a misspelt one is nearest to. */
const nearest = (name: string): OpName | undefined => {
  const hint = didYouMean(name, opNames);
  return opNames.find((op) => hint.includes(`'${op}'`));
};

function unknownOp({ plan }: Context): Finding[] {
  return plan.stages.flatMap((stage) =>
    (['ops', 'recompute'] as const).flatMap((argument) =>
      stage[argument]
        .filter((name) => !opNames.includes(name))
        .map((name) => {
          const near = nearest(name);
          const renamed = stage[argument].map((op) => (op === name && near ? near : op));
          return {
            rule: 'op-unknown',
            ...atStage(stage, argument, name),
            why: `there is no op '${name}'${near ? '' : `; there are ${opNames.join(', ')}`}`,
            edits: near
              ? [
                  {
                    text: `'${near}'`,
                    plans: () => [replace(plan, stage, { ...stage, [argument]: renamed })],
                  },
                ]
              : [],
          };
        }),
    ),
  );
}

function missingOp(context: Context): Finding[] {
  const { graph, plan } = context;
  if (plan.stages.length === 0) return [];
  const named = new Set(plan.stages.flatMap((stage) => stage.ops));
  const meant = new Set([...named].filter((name) => !opNames.includes(name)).map(nearest));
  return graph.ops
    .filter((op) => !named.has(op.name) && !meant.has(op.name))
    .map((op) => {
      const rest = graph.ops.slice(graph.ops.indexOf(op) + 1);
      const reader = rest.find((o) => o.reads.some((r) => r.tensor === op.writes[0]?.tensor));
      const loss = reader ? `, and ${reader.name} needs its ${op.writes[0]!.tensor}` : '';
      return {
        rule: 'op-missing',
        ...atPlan(plan, 'name', plan.name),
        token: op.name,
        why: `plan '${plan.name}' never runs ${op.name}${loss}`,
        edits: places(context, op.name),
      };
    });
}

function opTwice({ plan }: Context): Finding[] {
  const seen = new Map<OpName, Stage>();
  const findings: Finding[] = [];
  for (const stage of plan.stages) {
    for (const [i, op] of stage.ops.entries()) {
      const other = seen.get(op);
      if (other) {
        const ops = stage.ops.filter((_, j) => j !== i);
        const recompute = within(stage.recompute, ops);
        findings.push({
          rule: 'op-twice',
          ...atStage(stage, 'ops', op, stage.ops.slice(0, i).filter((o) => o === op).length),
          why: `${op} already runs in stage '${other.name}'`,
          edits: [
            { text: 'leave it out here', plans: () => [replace(plan, stage, { ...stage, ops, recompute })] },
          ],
        });
      } else seen.set(op, stage);
    }
  }
  return findings;
}

// Rules about order.

const partText = { begin: 'before the layers', layer: 'in every layer', end: 'behind the layers' } as const;
const partOrder = ['begin', 'layer', 'end'] as const;

function mixedParts(context: Context): Finding[] {
  const { graph, plan } = context;
  const findings: Finding[] = [];
  let latest: { stage: Stage; part: Op['part'] } | null = null;
  for (const stage of plan.stages) {
    const ops = opsOf(graph, stage);
    const first = ops[0];
    if (!first) continue;
    const stranger = ops.find((op) => op.part !== first.part);
    if (stranger) {
      findings.push({
        rule: 'mixed-parts',
        ...atStage(stage, 'ops', stranger.name),
        why: `${stranger.name} runs ${partText[stranger.part]}, but ${first.name} of stage '${stage.name}' runs ${partText[first.part]}`,
        edits: [endBefore(context, stage, stranger.name)],
      });
    }
    if (latest && partOrder.indexOf(first.part) < partOrder.indexOf(latest.part)) {
      const behind = latest;
      const others = plan.stages.filter((s) => s !== stage);
      const to = others.findIndex(
        (s) => partOrder.indexOf(opsOf(graph, s)[0]?.part ?? 'begin') > partOrder.indexOf(first.part),
      );
      findings.push({
        rule: 'mixed-parts',
        ...atStage(stage, 'name', stage.name),
        why: `stage '${stage.name}' runs ${partText[first.part]}, but stands behind stage '${behind.stage.name}', which runs ${partText[behind.part]}`,
        edits: [
          {
            text: `move it before stage '${others[to]?.name}'`,
            plans: () => [withStages(plan, [...others.slice(0, to), stage, ...others.slice(to)])],
          },
        ],
      });
    } else latest = { stage, part: first.part };
  }
  return findings;
}

/** Pairs of ops of one part whose order matters, since one writes what the other touches: as the graph has them. */
function beforeItsInput(context: Context): Finding[] {
  const { graph, plan } = context;
  const flat = plan.stages.flatMap((stage) => opsOf(graph, stage).map((op) => ({ stage, op })));
  return flat.flatMap(({ stage, op }, i): Finding[] => {
    const late = flat
      .slice(i + 1)
      .filter((later) => later.op.part === op.part && graph.ops.indexOf(later.op) < graph.ops.indexOf(op))
      .map((later) => ({ ...later, tensor: sharedTensor(later.op, op) }))
      .findLast((later) => later.tensor !== undefined);
    if (!late) return [];
    const writes = late.op.writes.some((access) => access.tensor === late.tensor);
    const why = writes
      ? `${op.name} needs ${late.tensor}, which ${late.op.name} makes later, in stage '${late.stage.name}'`
      : `${op.name} overwrites ${late.tensor}, which ${late.op.name} reads later, in stage '${late.stage.name}'`;
    const bare = { ...context, plan: noOp(plan, op.name) };
    const moves = places(bare, op.name).map(({ text, plans }) => ({
      text: text.replace('put', 'move'),
      plans,
    }));
    return [
      {
        rule: 'op-before-its-input',
        ...atStage(stage, 'ops', op.name),
        why,
        edits: moves
          .filter(({ text }) => text.startsWith('move'))
          .concat(swaps(context, stage, late.op.name)),
      },
    ];
  });
}

/** The stage moved behind the one that makes its input. */
function swaps({ plan }: Context, stage: Stage, maker: OpName): Edit[] {
  const others = plan.stages.filter((s) => s !== stage);
  const at = others.findIndex((s) => s.ops.includes(maker));
  if (at === -1) return [];
  const stages = [...others.slice(0, at + 1), stage, ...others.slice(at + 1)];
  return [
    {
      text: `move stage '${stage.name}' behind stage '${others[at]!.name}'`,
      plans: () => [withStages(plan, stages)],
    },
  ];
}

function sharedTensor(first: Op, second: Op): string | undefined {
  const meets = (a: Op['reads'], b: Op['reads']) =>
    a.find((x) => b.some((y) => x.tensor === y.tensor))?.tensor;
  return (
    meets(first.writes, second.reads) ??
    meets(first.reads, second.writes) ??
    meets(first.writes, second.writes)
  );
}

// Rules about what a stage can hold.

/** Ops whose result is cheap to make again and stays in the block. */
const isPure = (op: Op | undefined): boolean =>
  op !== undefined &&
  (op.kind === 'norm' || op.kind === 'merge' || op.name === 'qk_norm' || op.name === 'rope');

function recomputeOfAWriter(context: Context): Finding[] {
  const { graph, plan } = context;
  return plan.stages.flatMap((stage) =>
    stage.recompute.flatMap((name): Finding[] => {
      const op = opOf(graph, name);
      if (!op) return [];
      const finding = { rule: 'recompute-of-a-writer', ...atStage(stage, 'recompute', name) };
      const edits = [doNotRecompute(context, stage, name)];
      if (!stage.ops.includes(name)) {
        return [
          {
            ...finding,
            why: `stage '${stage.name}' does not run ${name}, so it has nothing to recompute`,
            edits,
          },
        ];
      }
      const stored = op.writes[0]!.tensor;
      if (!isPure(op)) {
        const why = `${name} stores ${stored} for other blocks, and recomputed it would be stored by every block`;
        return [{ ...finding, why, edits }];
      }
      const reader = plan.stages
        .filter((other) => other !== stage)
        .flatMap((other) => opsOf(graph, other).map((o) => ({ other, o })))
        .find(({ o }) => o.reads.some((r) => op.writes.some((w) => w.tensor === r.tensor)));
      if (!reader) return [];
      const tensor = op.writes.find((w) => reader.o.reads.some((r) => r.tensor === w.tensor))!.tensor;
      const why = `${name} is recomputed, so its ${tensor} stays in the block, but ${reader.o.name} in stage '${reader.other.name}' reads it`;
      return [{ ...finding, why, edits }];
    }),
  );
}

const extentText: Readonly<Record<Extent, string>> = {
  row: 'rows',
  slice: 'part of the positions',
  qHead: 'q head',
  kvHead: 'kv head',
  token: 'token',
  all: 'whole tensor',
};

function syncInsideStage(context: Context): Finding[] {
  const { graph, plan } = context;
  const unstorable = new Set(
    [...cannotDeal(context), ...storedBySeveralWorkers(context)].map(
      ({ stage, token }) => `${stage?.name} ${token}`,
    ),
  );
  return plan.stages.flatMap((stage) => {
    const ops = opsOf(graph, stage);
    const findings: Finding[] = [];
    let cut = 0; // a hazard from before a reported op is gone once the stage ends there
    for (const [j, to] of ops.entries()) {
      for (let i = j - 1; i >= cut; i--) {
        const from = ops[i]!;
        if (unstorable.has(`${stage.name} ${from.name}`)) continue;
        const why = gridHazard(graph, stage, from, to);
        if (why === null) continue;
        const edits = [
          endBefore(context, stage, to.name),
          ...dealOver(context, stage),
          doNotSplit(context, stage),
        ];
        if (isPure(from)) edits.push(recomputeToo(context, stage, [from.name]));
        findings.push({ rule: 'sync-inside-stage', ...atStage(stage, 'ops', to.name), why, edits });
        cut = j;
        break;
      }
    }
    return findings;
  });
}

/** Why `to` cannot follow `from` in one stage without a sync of all blocks, or null if it can. */
function gridHazard(graph: Graph, stage: Stage, from: Op, to: Op): string | null {
  const pairs = [
    [from.writes, to.reads],
    [from.reads, to.writes],
    [from.writes, to.writes],
  ] as const;
  for (const [xs, ys] of pairs) {
    for (const x of xs) {
      for (const y of ys) {
        if (x.tensor !== y.tensor) continue;
        const { scope } = scopeOf(graph, { stage, op: from, access: x }, { stage, op: to, access: y }, true);
        if (scope !== 'grid') continue;
        if (to.writes.includes(y)) {
          return `${to.name} overwrites ${y.tensor}, which ${from.name} of other blocks in stage '${stage.name}' may still be reading`;
        }
        const whole =
          y.extent === 'all' || y.extent === 'token'
            ? `all of ${y.tensor}`
            : `a whole ${extentText[y.extent]} of ${y.tensor}`;
        return `${to.name} needs ${whole}, but in stage '${stage.name}' each block makes only its own ${extentText[ownedExtent(stage)]}`;
      }
    }
  }
  return null;
}

/** Ways to end a stage behind `first` and not later than before `second`. */
const endBetween = (context: Context, stage: Stage, first: Op, second: Op): Edit[] =>
  stage.ops
    .slice(stage.ops.indexOf(first.name) + 1, stage.ops.indexOf(second.name) + 1)
    .map((op) => endBefore(context, stage, op));

function twoMatmuls(context: Context): Finding[] {
  return context.plan.stages.flatMap((stage) => {
    const [first, second] = opsOf(context.graph, stage).filter((op) => op.kind === 'matmul');
    if (!first || !second) return [];
    const why = `stage '${stage.name}' already has the product ${first.name}, and a block has room for the input of one`;
    const edits = endBetween(context, stage, first, second);
    return [{ rule: 'two-matmuls', ...atStage(stage, 'ops', second.name), why, edits }];
  });
}

const isRowwise = (op: Op): boolean => op.kind === 'embed' || op.kind === 'matmul' || op.kind === 'pointwise';

function rowsDiffer(context: Context): Finding[] {
  const { dims } = context.graph;
  return context.plan.stages.flatMap((stage) => {
    const ops = opsOf(context.graph, stage).filter(isRowwise);
    const other = ops.find((op) => rowsOf(op.name, dims) !== rowsOf(ops[0]!.name, dims));
    if (!other) return [];
    const rows = (op: Op) => `${rowsOf(op.name, dims)} rows`;
    const why = `${other.name} has ${rows(other)}, but ${ops[0]!.name} of stage '${stage.name}' has ${rows(ops[0]!)}, so blocks would take others`;
    const edits = endBetween(context, stage, ops[0]!, other);
    return [{ rule: 'rows-differ', ...atStage(stage, 'ops', other.name), why, edits }];
  });
}

// Rules about dealing.

/** What an op works on, and how that can be dealt to blocks. */
function dealable(op: Op): { overs: readonly Over[]; unit: string } {
  switch (op.kind) {
    case 'embed':
    case 'matmul':
    case 'pointwise':
      return { overs: ['rows'], unit: 'rows' };
    case 'norm':
      return { overs: ['tokens'], unit: 'whole tokens' };
    case 'headwise':
      if (op.name === 'kv_append') return { overs: ['kv_heads'], unit: 'kv heads' };
      return { overs: ['q_heads', 'kv_heads'], unit: 'heads' };
    case 'attend':
      return { overs: ['q_heads', 'kv_heads'], unit: 'heads' };
    case 'merge':
      return { overs: ['q_heads'], unit: 'q heads' };
    case 'sample':
      return { overs: ['once'], unit: 'all logits' };
    default:
      return op.kind satisfies never;
  }
}

function cannotDeal(context: Context): Finding[] {
  return context.plan.stages.flatMap((stage) => {
    const ops = opsOf(context.graph, stage);
    return ops.flatMap((op, i): Finding[] => {
      const fillsInput = isRecomputed(stage, op) && (op.kind === 'norm' || op.kind === 'merge');
      const product = ops.slice(i + 1).find((o) => o.kind === 'matmul');
      const feeds = product?.reads.some((r) => op.writes.some((w) => w.tensor === r.tensor)) ?? false;
      const { overs: legal, unit } = dealable(op);
      if (fillsInput ? feeds && stage.over === 'rows' : legal.includes(stage.over)) return [];
      const edits = [
        ...dealOver(context, stage),
        ...(isPure(op) && !isRecomputed(stage, op) ? [recomputeToo(context, stage, [op.name])] : []),
        ...(isRecomputed(stage, op) ? [doNotRecompute(context, stage, op.name)] : []),
        ...(i > 0 ? [endBefore(context, stage, op.name)] : [stageOfItsOwn(context, stage, op.name)]),
      ];
      const why = fillsInput
        ? `${op.name} is recomputed, which needs the product that reads it in the same stage, over 'rows'`
        : `${op.name} works on ${unit}, so it cannot be dealt over '${stage.over}'`;
      return [{ rule: 'cannot-deal', ...atStage(stage, 'ops', op.name), why, edits }];
    });
  });
}

function storedBySeveralWorkers(context: Context): Finding[] {
  return context.plan.stages.flatMap((stage) => {
    const owned = ownedExtent(stage);
    return opsOf(context.graph, stage)
      .filter((op) => !isRecomputed(stage, op))
      .flatMap((op): Finding[] => {
        const wide = op.writes.find((access) => width[access.extent] > width[owned]);
        if (!wide) return [];
        const pure = opsOf(context.graph, stage).filter((o) => isPure(o) && !isRecomputed(stage, o));
        const edits = [
          ...dealOver(context, stage),
          recomputeToo(
            context,
            stage,
            pure.map((o) => o.name),
          ),
          doNotSplit(context, stage),
          stageOfItsOwn(context, stage, op.name),
        ];
        const why =
          `${op.name} stores a whole ${extentText[wide.extent]} of ${wide.tensor}, but stage '${stage.name}' gives a block one ` +
          `${extentText[owned]}: several blocks would store the same ${extentText[wide.extent]}`;
        return [{ rule: 'stored-by-several-workers', ...atStage(stage, 'ops', op.name), why, edits }];
      });
  });
}

function splitWithoutAttend(context: Context): Finding[] {
  return context.plan.stages
    .filter((stage) => stage.split === 'positions' && !stage.ops.includes('attend'))
    .filter((stage) => !stage.ops.some((op) => nearest(op) === 'attend'))
    .map((stage) => ({
      rule: 'split-without-attend',
      ...atStage(stage, 'split', 'positions'),
      why: `stage '${stage.name}' cuts the positions, but only attend works on positions`,
      edits: [doNotSplit(context, stage)],
    }));
}

// Rules about names and sizes.

/** Words of C++ and CUDA, and names of the generated code that a function of the same name would hide. */
const reserved = new Set(
  (
    'alignas alignof and asm auto bitand bitor bool break case catch char class compl const constexpr continue decltype default delete do ' +
    'double else enum explicit export extern false float for friend goto if inline int int8_t int32_t int64_t long mutable namespace new ' +
    'noexcept not nullptr operator or private protected public register reinterpret_cast return short signed size_t sizeof static ' +
    'static_assert static_cast struct switch template this throw true try typedef typeid typename uint32_t union unsigned using virtual ' +
    'void volatile wchar_t while xor half bf16 fp16 main decode pass layer model weights block_range block_sync grid_barrier make_block ' +
    'layer_weights model_weights rope_row cache_row positions_of padded prefetch_rows add silu'
  ).split(' '),
);

const identifier = /^[a-z][a-z0-9_]+$/;
const isFunctionName = (name: string): boolean => identifier.test(name) && !reserved.has(name);

function stageName({ plan }: Context): Finding[] {
  const names = plan.stages.map((stage) => stage.name);
  return plan.stages.flatMap((stage, i): Finding[] => {
    const isFirst = names.indexOf(stage.name) === i;
    if (isFirst && isFunctionName(stage.name)) return [];
    const why = !identifier.test(stage.name)
      ? `'${stage.name}' cannot be the name of a function: two or more of a-z, 0-9 and _, a letter first`
      : isFirst
        ? `'${stage.name}' already means something in the generated code`
        : `another stage is called '${stage.name}' too`;
    const slug = stage.name
      .toLowerCase()
      .replaceAll(/[^a-z0-9_]+/g, '_')
      .replace(/^[^a-z]+/, '');
    const better = [slug, stage.ops.join('_'), `${slug}_${stage.ops.at(-1)}`].find(
      (name) => isFunctionName(name) && !names.includes(name),
    );
    const renamed = (name: string) => withStages(plan, plan.stages.with(i, { ...stage, name }));
    const edits = better ? [{ text: `'${better}'`, plans: () => [renamed(better)] }] : [];
    return [{ rule: 'stage-name', ...atStage(stage, 'name', stage.name), why, edits }];
  });
}

const mostTokens = (target: Target): number => (target.kind === 'cuda' ? 8 : 128);

const withTokens = (plan: FusionPlan, tokens: number | 'many'): FusionPlan => ({
  ...plan,
  options: { ...plan.options, tokens },
});

function tokensOutOfRange({ plan, target }: Context): Finding[] {
  const { tokens } = plan.options;
  const most = mostTokens(target);
  if (tokens === 'many' || (Number.isInteger(tokens) && tokens >= 1 && tokens <= most)) return [];
  return [
    {
      rule: 'tokens',
      ...atPlan(plan, 'tokens', String(tokens)),
      why: `a pass has 1 to ${most} tokens on ${target.name}, not ${tokens}`,
      edits: [
        { text: `tokens: ${most}`, plans: () => [withTokens(plan, most)] },
        { text: `tokens: 'many'`, plans: () => [withTokens(plan, 'many')] },
      ],
    },
  ];
}

/** Asked last: only a plan that is legal otherwise has a schedule. */
function overBudget({ graph, plan, target }: Context): Issue[] {
  if (target.kind === 'cpu') return [];
  const library = libraryScratch(target);
  const bytes = (tokens: number) =>
    4 * assignWork(graph, withTokens(plan, tokens), target, library).scratchFloats + library.staticBytes;
  const wanted = plan.options.tokens === 'many' ? 1 : plan.options.tokens;
  const needed = bytes(wanted);
  if (needed <= target.sharedBytes) return [];
  const fewer = range(1, wanted - 1).findLast((tokens) => bytes(tokens) <= target.sharedBytes);
  const { at, call, token, argument, nth } =
    wanted > 1 ? atPlan(plan, 'tokens', String(wanted)) : atPlan(plan, 'name', plan.name);
  const why =
    `a pass of ${wanted === 1 ? '1 token' : `${wanted} tokens`} needs ${Math.ceil(needed / 1024)} KiB of shared memory a block, ` +
    `and ${target.name} has ${target.sharedBytes / 1024}`;
  const legal = fewer ? [`tokens: ${fewer}`, `tokens: 'many'`] : [];
  return [{ rule: 'shared-memory-over-budget', at, call, token, argument, nth, why, legal }];
}

const range = (first: number, last: number): number[] =>
  Array.from({ length: Math.max(0, last - first + 1) }, (_, i) => first + i);

// Plans from user files.

const site: z.ZodType<Site> = z.object({ file: z.string(), line: z.number(), column: z.number() });
const words = z.array(z.string());
const planSchema = z.strictObject({
  name: z.string(),
  stages: z.array(
    z.strictObject({
      name: z.string(),
      ops: words,
      over: z.enum(['rows', 'q_heads', 'kv_heads', 'tokens', 'once']),
      recompute: words,
      split: z.enum(['positions', 'none']),
      at: site,
    }),
  ),
  options: z.strictObject({
    sync: z.literal('barrier'),
    weights: z.strictObject({ kind: z.literal('direct'), prefetch: z.int().min(0).max(8) }),
    tokens: z.union([z.literal('many'), z.number()]),
  }),
  at: site,
});

/**
 * A plan of the right shape, from the default export of `file`. Ops are checked by `checkPlan`, where each has its place.
 * A stage whose line is not known, since a loader kept no source map, gets line 0 of the file: messages then find it by its name.
 * @throws OnelaunchError of kind usage that names the first wrong field.
 */
export function parsePlan(value: unknown, file = ''): FusionPlan {
  const parsed = planSchema.safeParse(value);
  if (parsed.success) return withFile(parsed.data as FusionPlan, file);
  const issue = parsed.error.issues[0]!;
  if (issue.path.length === 0 && issue.code === 'invalid_type') {
    const text = value === undefined ? 'there is no default export' : 'the default export is no plan';
    const hint = 'end the file with: export default plan(name, [stage(...), ...])';
    throw new OnelaunchError('usage', text, { hint });
  }
  throw fieldError(value, issue);
}

function withFile(plan: FusionPlan, file: string): FusionPlan {
  const known = (at: Site): Site => (at.file === '' ? { file, line: 0, column: 0 } : at);
  const stages = plan.stages.map((stage) => ({ ...stage, at: known(stage.at) }));
  return { ...plan, stages, at: known(plan.at) };
}

function fieldError(value: unknown, issue: z.core.$ZodIssue): OnelaunchError {
  const found = issue.path.reduce((at: unknown, key) => (at as Record<PropertyKey, unknown>)?.[key], value);
  const field = issue.path.reduce<string>(
    (path, key) => path + (typeof key === 'number' ? `[${key}]` : `.${String(key)}`),
    'plan',
  );
  const error = (text: string, hint: string) => new OnelaunchError('usage', text, { hint });
  const is = `${field} is ${found === undefined ? 'missing' : JSON.stringify(found)?.slice(0, 60)}`;
  switch (issue.code) {
    case 'unrecognized_keys': {
      const known = Object.keys(found as object).filter((key) => !issue.keys.includes(key));
      return error(`${field} has no option ${issue.keys[0]}`, `there are: ${known.join(', ')}`);
    }
    case 'invalid_value':
      return error(is, `there is: ${issue.values.map((choice) => `'${String(choice)}'`).join(', ')}`);
    case 'invalid_type':
      return error(is, `it must be ${issue.expected === 'array' ? 'a list' : `of type ${issue.expected}`}`);
    case 'invalid_union':
      return error(is, `it must be a number or 'many'`);
    default:
      return error(is, issue.message);
  }
}
