// Rules about which ops a plan names, and what its stages are called.

import { type OpName, opNames } from '../../model/graph.ts';
import { didYouMean } from '../did-you-mean.ts';
import { places, replace, within, withStages } from '../edits.ts';
import { atPlan, atStage, type Context, type Finding } from '../finding.ts';
import type { Stage } from '../plan.ts';

export function emptyPlan({ plan }: Context): Finding[] {
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

export function unknownOp({ plan }: Context): Finding[] {
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

/** The known op that a misspelt one is nearest to. */
export const nearest = (name: string): OpName | undefined => {
  const hint = didYouMean(name, opNames);
  return opNames.find((op) => hint.includes(`'${op}'`));
};

export function missingOp(context: Context): Finding[] {
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

export function opTwice({ plan }: Context): Finding[] {
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

export function stageName({ plan }: Context): Finding[] {
  const names = plan.stages.map((stage) => stage.name);
  const isFunctionName = (name: string): boolean => identifier.test(name) && !reserved.has(name);
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

/** Words of C++ and CUDA: the generated code lists the stages by their bare names. */
const reserved = new Set(
  (
    'alignas alignof and asm auto bitand bitor bool break case catch char class compl const constexpr continue decltype default delete do ' +
    'double else enum explicit export extern false float for friend goto if inline int int8_t int32_t int64_t long mutable namespace new ' +
    'noexcept not nullptr operator or private protected public register reinterpret_cast return short signed size_t sizeof static ' +
    'static_assert static_cast struct switch template this throw true try typedef typeid typename uint32_t union unsigned using virtual ' +
    'void volatile wchar_t while xor'
  ).split(' '),
);

const identifier = /^[a-z][a-z0-9_]+$/;
