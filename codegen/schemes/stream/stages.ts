// The stages that the kernel of a stream has, and the rule that a plan with a stream has these.

import type { Graph, Op, OpName } from '../../model/graph.ts';
import { replace, withBarriers, within, withStages } from '../../plan/edits.ts';
import { atStage, type Context, type Finding, opOf, opsOf } from '../../plan/finding.ts';
import type { FusionPlan, Over, Stage } from '../../plan/plan.ts';

interface Form {
  readonly name: string;
  readonly ops: readonly OpName[];
  readonly over: Over;
  readonly recompute: readonly OpName[];
  readonly split: Stage['split'];
}

const form = (name: string, ops: string, over: Over, split: Stage['split'] = 'none'): Form => {
  const words = ops.split(' ');
  const named = (list: readonly string[]) => list.map((word) => word.replace('*', '')) as OpName[];
  return {
    name,
    ops: named(words),
    over,
    recompute: named(words.filter((word) => word.endsWith('*'))),
    split,
  };
};

/** `*` marks what every block makes for itself. */
const forms: readonly Form[] = [
  form('embed', 'embed', 'rows'),
  form('qkv', 'attn_norm* qkv_proj', 'rows'),
  form('attention', 'qk_norm* rope* kv_append attend', 'kv_heads', 'positions'),
  form('merge', 'attn_merge', 'q_heads'),
  form('attn_out', 'o_proj attn_add', 'rows'),
  form('ffn_up', 'ffn_norm* gate_up swiglu', 'rows'),
  form('ffn_down', 'down_proj ffn_add', 'rows'),
  form('head', 'final_norm* lm_head', 'rows'),
  form('sample', 'sample', 'once'),
];

/** What a stage does otherwise than the form of its first op, and the op to blame. */
interface Deviation {
  readonly token: OpName;
  readonly what: string;
}

export function streamStage(context: Context): Finding[] {
  const { graph, plan } = context;
  if (plan.options.weights.kind !== 'stream') return [];
  return plan.stages.flatMap((stage): Finding[] => {
    const ops = opsOf(graph, stage);
    const found = forms.find((one) => one.ops.some((op) => op === ops[0]?.name));
    if (!found) return [];
    const wanted = ofModel(graph, found);
    const deviation = deviationOf(stage, ops, wanted);
    if (!deviation) return [];
    const { token, what } = deviation;
    return [
      {
        rule: 'stream-stage',
        ...atStage(stage, 'ops', token),
        why: `stage '${stage.name}' ${what}, but a stream has ${formText(wanted)}`,
        edits: [
          {
            text: stageText(plan, wanted),
            plans: () => gathered(plan, wanted),
          },
          withBarriers(context),
        ],
      },
    ];
  });
}

/** The form with only the ops that the model has. */
const ofModel = (graph: Graph, { ops, recompute, ...rest }: Form): Form => {
  const known = ops.filter((op) => opOf(graph, op));
  return { ...rest, ops: known, recompute: within(recompute, known) };
};

function deviationOf(stage: Stage, ops: readonly Op[], wanted: Form): Deviation | null {
  const names = ops.map((op) => op.name);
  const at = names.findIndex((name, i) => name !== wanted.ops[i]);
  if (at !== -1) {
    const token = names[at]!;
    return { token, what: `${at === 0 ? 'begins' : 'goes on'} with ${token}` };
  }
  if (names.length < wanted.ops.length) {
    const token = names.at(-1)!;
    return { token, what: `ends with ${token}` };
  }
  // How a stage is dealt follows from its ops; other rules see to that.
  const missing = wanted.recompute.find((op) => !stage.recompute.includes(op));
  if (missing) return { token: missing, what: `does not recompute ${missing}` };
  if (stage.split === wanted.split) return null;
  return { token: names.at(-1)!, what: 'does not split the positions' };
}

const formText = ({ ops, over, recompute, split }: Form): string => {
  const marked = ops.map((op) => (recompute.includes(op) ? `${op}*` : op)).join(', ');
  const parts = split === 'positions' ? ', positions split' : '';
  const star = recompute.length > 0 ? ' (* recomputed)' : '';
  return `${marked} as one stage over '${over}'${parts}${star}`;
};

/** Name of the stage that takes the form: that of the stage that is left without other ops, else the form's. */
function nameOf({ stages }: FusionPlan, wanted: Form): string {
  const holder = stages.findLast((stage) => stage.ops.some((op) => wanted.ops.includes(op)))!;
  return holder.ops.every((op) => wanted.ops.includes(op)) ? holder.name : wanted.name;
}

function stageText(plan: FusionPlan, wanted: Form): string {
  const list = (names: readonly string[]) => `[${names.map((name) => `'${name}'`).join(', ')}]`;
  const { ops, over, split, recompute } = wanted;
  const options = [
    `over: '${over}'`,
    ...(split === 'none' ? [] : [`split: '${split}'`]),
    ...(recompute.length === 0 ? [] : [`recompute: ${list(recompute)}`]),
  ];
  return `stage('${nameOf(plan, wanted)}', ${list(ops)}, { ${options.join(', ')} })`;
}

/** The plan with the form in the place of its last op's stage, before or behind what else that stage has. */
function gathered(plan: FusionPlan, wanted: Form): FusionPlan[] {
  const { name: _, ...options } = wanted;
  const without = (stage: Stage): Stage => {
    const ops = stage.ops.filter((op) => !wanted.ops.includes(op));
    return { ...stage, ops, recompute: within(stage.recompute, ops) };
  };
  const holder = plan.stages.findLast((stage) => stage.ops.some((op) => wanted.ops.includes(op)))!;
  const whole: Stage = { ...options, name: nameOf(plan, wanted), at: holder.at };
  const others = plan.stages
    .map((stage) => (stage === holder ? stage : without(stage)))
    .filter((stage) => stage.ops.length > 0);
  const [before, behind] = [
    [whole, without(holder)],
    [without(holder), whole],
  ];
  const bare = withStages(plan, others);
  return [replace(bare, holder, ...before!), replace(bare, holder, ...behind!)];
}
