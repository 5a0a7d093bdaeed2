// Rules about what one stage can hold: no sync, one product, rows of one number, and what it may recompute.

import type { Graph, Op } from '../../model/graph.ts';
import { rowsOf } from '../../model/ops.ts';
import { ownedExtent, scopeOf } from '../../schedule/hazards.ts';
import { dealOver, doNotRecompute, doNotSplit, endBefore, endBetween, recomputeToo } from '../edits.ts';
import { atStage, type Context, type Finding, isPure, opOf, opsOf } from '../finding.ts';
import type { Stage } from '../plan.ts';
import { cannotDeal, extentText, storedBySeveralWorkers } from './dealing.ts';

export function recomputeOfAWriter(context: Context): Finding[] {
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

export function syncInsideStage(context: Context): Finding[] {
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

export function twoMatmuls(context: Context): Finding[] {
  return context.plan.stages.flatMap((stage) => {
    const [first, second] = opsOf(context.graph, stage).filter((op) => op.kind === 'matmul');
    if (!first || !second) return [];
    const why = `stage '${stage.name}' already has the product ${first.name}, and a block has room for the input of one`;
    const edits = endBetween(context, stage, first, second);
    return [{ rule: 'two-matmuls', ...atStage(stage, 'ops', second.name), why, edits }];
  });
}

export function rowsDiffer(context: Context): Finding[] {
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

const isRowwise = (op: Op): boolean => op.kind === 'embed' || op.kind === 'matmul' || op.kind === 'pointwise';
