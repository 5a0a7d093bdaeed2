// Rules about the order of ops: parts of a pass, and inputs before what needs them.

import type { Op } from '../../model/graph.ts';
import { endBefore, noOp, places, swaps, withStages } from '../edits.ts';
import { atStage, type Context, type Finding, opsOf } from '../finding.ts';
import type { Stage } from '../plan.ts';

export function mixedParts(context: Context): Finding[] {
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
        why: `stage '${stage.name}' runs ${partText[first.part]}, but stands after stage '${behind.stage.name}', which runs ${partText[behind.part]}`,
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
export function beforeItsInput(context: Context): Finding[] {
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

const partText = { begin: 'before the layers', layer: 'in every layer', end: 'after the layers' } as const;
const partOrder = ['begin', 'layer', 'end'] as const;

function sharedTensor(first: Op, second: Op): string | undefined {
  const meets = (a: Op['reads'], b: Op['reads']) =>
    a.find((x) => b.some((y) => x.tensor === y.tensor))?.tensor;
  return (
    meets(first.writes, second.reads) ??
    meets(first.reads, second.writes) ??
    meets(first.writes, second.writes)
  );
}
