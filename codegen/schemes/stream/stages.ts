// A stage of a plan as the stream runs it: prologue, body, epilogue; or why it cannot.
import type { Graph, Op, OpName, TensorName } from '../../model/graph.ts';
import { normOf, opTable, pointwiseOf, productOf } from '../../model/ops.ts';
import { opsOf } from '../../plan/finding.ts';
import type { FusionPlan, Over, Stage } from '../../plan/plan.ts';
import type { Body, Epilogue, Prologue, StreamStage } from './schedule.ts';

export type StageForm = Pick<StreamStage, 'prologue' | 'body' | 'epilogue'>;

/** Why a stage has no form: the op to blame. */
export interface Refusal {
  readonly token: OpName;
  readonly why: string;
  /** How a stage around this op could look. */
  readonly legal: string;
}

export const isRefusal = (form: StageForm | Refusal): form is Refusal => 'why' in form;

/** The form of a stage of a plan whose ops are in a legal order and dealt in a legal way. */
export function formOf(graph: Graph, plan: FusionPlan, stage: Stage): StageForm | Refusal | null {
  const ops = opsOf(graph, stage);
  const [first] = ops;
  if (!first) return null;
  const product = ops.findIndex((op) => op.kind === 'matmul');
  if (product !== -1) return productForm(graph, stage, ops, product);
  if (ops.some((op) => op.name === 'attend' || op.kind === 'headwise'))
    return attentionForm(graph, stage, ops);
  if (ops.every((op) => op.kind === 'pointwise')) return keptForm(graph, plan, stage, ops);
  const [, second] = ops;
  if (second) {
    return refused(
      second,
      `has nothing to fuse ${second.name} into`,
      `a stage of its own for ${second.name}`,
    );
  }
  const alone = (kind: Body['kind'], prologue: readonly Prologue[] = []): StageForm => ({
    prologue,
    body: { kind, op: first.name },
    epilogue: [],
  });
  switch (first.kind) {
    case 'embed':
    case 'sample':
      return alone(first.kind);
    case 'norm':
      return alone('norm', [{ kind: 'gather', tensor: normOf(first.name).input }]);
    case 'merge':
      return alone('merge_splits', [{ kind: 'gather', tensor: 'partial' }]);
    default:
      return refused(first, `cannot begin with ${first.name}`, 'another order');
  }
}

const refused = ({ name }: Op, why: string, legal: string): Refusal => ({ token: name, why, legal });

function productForm(graph: Graph, stage: Stage, ops: readonly Op[], at: number): StageForm | Refusal {
  const op = ops[at]!;
  const { input } = productOf(op.name);
  const prologue: Prologue[] = [];
  for (const before of ops.slice(0, at)) {
    const makes = before.writes.some((write) => write.tensor === input);
    if (!stage.recompute.includes(before.name) || !makes || prologue.length > 0) {
      return refused(
        before,
        `cannot make ${before.writes[0]!.tensor} in front of ${op.name}`,
        `end the stage before ${op.name}`,
      );
    }
    if (before.kind === 'norm') {
      const { input: tensor } = normOf(before.name);
      prologue.push({ kind: 'gather', tensor }, { kind: 'norm', op: before.name });
    } else prologue.push({ kind: 'merge_splits', op: before.name });
  }
  if (prologue.length === 0) prologue.push({ kind: 'gather', tensor: input });
  const epilogue = epilogueOf(graph, stage, op, ops.slice(at + 1));
  if ('why' in epilogue) return epilogue;
  return { prologue, body: { kind: 'product', op: op.name }, epilogue };
}

/** The steps behind a product, and behind the product of an earlier stage whose rows were kept. */
function epilogueOf(graph: Graph, stage: Stage, product: Op, rest: readonly Op[]): Epilogue[] | Refusal {
  const { bias } = productOf(product.name);
  const steps: Epilogue[] = bias && graph.dims.qkvBias ? [{ kind: 'bias', op: product.name }] : [];
  if (product.part === 'end') steps.push({ kind: 'logits', op: product.name });
  const hasNorm = graph.ops.some((op) => op.name === 'qk_norm');
  for (const op of rest) {
    if (op.kind === 'pointwise' && product.name !== 'qkv_proj')
      steps.push({ kind: 'pointwise', op: op.name });
    else if (op.name === 'qk_norm' && product.name === 'qkv_proj')
      steps.push({ kind: 'head_norm', op: op.name });
    else if (op.name === 'rope' && product.name === 'qkv_proj') {
      if (hasNorm && !rest.some((other) => other.name === 'qk_norm')) {
        return refused(op, 'rotates queries and keys before their norm', "'qk_norm' in front of it");
      }
      steps.push({ kind: 'rotate', op: op.name });
    } else return refused(op, `goes on with ${op.name}`, `end the stage before ${op.name}`);
  }
  const isNormed = steps.some((step) => step.kind === 'head_norm');
  if (isNormed && !steps.some((step) => step.kind === 'rotate')) {
    return refused(
      rest.at(-1)!,
      'norms queries and keys, and leaves their rotation to others',
      "'rope' behind it",
    );
  }
  const { dims } = graph;
  if (steps.some((step) => step.kind === 'rotate') && dims.headDim % 4 !== 0) {
    const why = `rotates rows, of which a head of ${dims.name} has ${dims.headDim}: no multiple of four`;
    return refused(rest.at(-1)!, why, `qk_norm and rope in the stage of attend`);
  }
  const used = stage.ops.some((name) => opTable[name].kind === 'pointwise');
  return used || product.name === 'qkv_proj' || product.part === 'end'
    ? steps
    : keepIfUsed(graph, product, steps);
}

/** Rows that a pointwise op of a later stage works on stay in the block. */
function keepIfUsed(graph: Graph, product: Op, steps: Epilogue[]): Epilogue[] {
  const made: readonly TensorName[] = productOf(product.name).outputs;
  const user = graph.ops.find(
    (op) => op.kind === 'pointwise' && op.reads.some((read) => made.includes(read.tensor)),
  );
  return user ? [...steps, { kind: 'keep', op: product.name }] : steps;
}

/** Pointwise ops on rows that a product of an earlier stage left in the block. */
function keptForm(graph: Graph, plan: FusionPlan, stage: Stage, ops: readonly Op[]): StageForm | Refusal {
  const first = ops[0]!;
  const { args } = pointwiseOf(first.name);
  const product = graph.ops.find(
    (op) => op.kind === 'matmul' && args.some((arg) => productOf(op.name).outputs.includes(arg)),
  );
  const maker = product && plan.stages.find((other) => other.ops.includes(product.name));
  const keepsRows = maker?.ops.every((name) => opTable[name].kind !== 'pointwise');
  if (!product || !keepsRows) {
    return refused(first, `takes rows that no stage keeps for it`, 'the op in the stage of its product');
  }
  const epilogue = epilogueOf(graph, stage, product, ops);
  if ('why' in epilogue) return epilogue;
  return {
    prologue: [],
    body: { kind: 'kept', op: product.name },
    epilogue: epilogue.filter((step) => step.kind === 'pointwise'),
  };
}

const attentionOrder: readonly OpName[] = ['qk_norm', 'rope', 'kv_append', 'attend'];

function attentionForm(graph: Graph, stage: Stage, ops: readonly Op[]): StageForm | Refusal {
  const together = `qk_norm*, rope*, kv_append, attend as one stage over 'kv_heads' (* recomputed), or qk_norm and rope behind qkv_proj`;
  const names = ops.map((op) => op.name);
  const other = ops.find((op) => !attentionOrder.includes(op.name));
  if (other) return refused(other, `goes on with ${other.name}`, `end the stage before ${other.name}`);
  for (const name of ['kv_append', 'attend'] as const) {
    if (!names.includes(name)) {
      return refused(
        ops.at(-1)!,
        `has no ${name}, and the block that reads cached positions appends the new one`,
        together,
      );
    }
  }
  const over: Over = 'kv_heads';
  if (stage.over !== over) {
    return refused(
      ops.at(-1)!,
      `is dealt over '${stage.over}', but the positions of a kv head are streamed to one block`,
      together,
    );
  }
  const has = (name: OpName) => graph.ops.some((op) => op.name === name);
  const rotates = names.includes('rope');
  const norms = names.includes('qk_norm');
  if (has('qk_norm') && norms !== rotates) {
    return refused(ops[0]!, 'has one of qk_norm and rope, which go together', together);
  }
  const loose = ops.find((op) => opTable[op.name].pure && !stage.recompute.includes(op.name));
  if (loose)
    return refused(
      loose,
      `stores ${loose.writes[0]!.tensor}, which stays in the block: recompute it`,
      together,
    );
  const prologue: Prologue[] = [{ kind: 'gather', tensor: rotates ? 'q' : 'qr' }];
  if (norms) prologue.push({ kind: 'head_norm', op: 'qk_norm' });
  if (rotates) prologue.push({ kind: 'rotate', op: 'rope' });
  return { prologue, body: { kind: 'attend', op: 'attend' }, epilogue: [] };
}
