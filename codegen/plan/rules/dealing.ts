// Rules about dealing the work of a stage to blocks.

import { type Extent, type Op, width } from '../../model/graph.ts';
import { ownedExtent } from '../../schedule/hazards.ts';
import { dealOver, doNotRecompute, doNotSplit, endBefore, recomputeToo, stageOfItsOwn } from '../edits.ts';
import { atStage, type Context, type Finding, isPure, isRecomputed, opsOf } from '../finding.ts';
import type { Over } from '../plan.ts';
import { nearest } from './naming.ts';

export function cannotDeal(context: Context): Finding[] {
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
      if (op.writes.every(({ extent }) => extent === 'row')) return { overs: ['rows'], unit: 'rows' };
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

export function storedBySeveralWorkers(context: Context): Finding[] {
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

export const extentText: Readonly<Record<Extent, string>> = {
  row: 'rows',
  slice: 'split of the positions',
  qHead: 'q head',
  kvHead: 'kv head',
  token: 'token',
  all: 'whole tensor',
};

export function splitWithoutAttend(context: Context): Finding[] {
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
