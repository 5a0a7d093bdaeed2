// A stage of a plan as the stream runs it: prologue, body, epilogue; or why it cannot.
import { invariant } from '../../../errors.ts';
import type { Graph, Op, OpName, TensorName } from '../../model/graph.ts';
import { normOf, opTable, pointwiseOf, productOf } from '../../model/ops.ts';
import { opsOf } from '../../plan/finding.ts';
import type { Stage } from '../../plan/plan.ts';
import type { Body, Epilogue, Prologue, StreamStage } from './schedule.ts';

export type StageForm = Pick<StreamStage, 'prologue' | 'body' | 'epilogue'>;

/** Why a stage has no form: the op to blame. */
export interface Refusal {
  readonly token: OpName;
  readonly why: string;
  /** What a stream can have instead. */
  readonly legal: string;
}

export const isRefusal = (form: StageForm | Refusal): form is Refusal => 'why' in form;

/**
 * The form of a stage of a plan. What the rules of all schemes refuse is not refused again: such a stage has none, or one that no kernel
 * is made of.
 */
export function formOf(graph: Graph, stage: Stage): StageForm | Refusal | null {
  const ops = opsOf(graph, stage);
  const [first] = ops;
  if (!first) return null;
  const product = ops.findIndex((op) => op.kind === 'matmul');
  if (product !== -1) return productForm(graph, stage, ops, product);
  if (ops.some((op) => op.name === 'attend' || op.kind === 'headwise'))
    return attentionForm(graph, stage, ops);
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
    case 'pointwise':
      return keptForm(graph, ops);
    default:
      return null;
  }
}

const refused = ({ name }: Op, why: string, legal: string): Refusal => ({ token: name, why, legal });

function productForm(graph: Graph, stage: Stage, ops: readonly Op[], at: number): StageForm | Refusal {
  const op = ops[at]!;
  const { input } = productOf(op.name);
  const prologue: Prologue[] = [];
  for (const before of ops.slice(0, at)) {
    if (before.kind === 'norm') {
      const { input: tensor } = normOf(before.name);
      prologue.push({ kind: 'gather', tensor }, { kind: 'norm', op: before.name });
    } else if (before.kind === 'merge') prologue.push({ kind: 'merge_splits', op: before.name });
  }
  if (prologue.length === 0) prologue.push({ kind: 'gather', tensor: input });
  const epilogue = epilogueOf(graph, stage, op, ops.slice(at + 1));
  if ('why' in epilogue) return epilogue;
  return { prologue, body: { kind: 'product', op: op.name }, epilogue };
}

/** The steps behind a product. */
function epilogueOf(graph: Graph, stage: Stage, product: Op, rest: readonly Op[]): Epilogue[] | Refusal {
  const { bias } = productOf(product.name);
  const steps: Epilogue[] = bias && graph.dims.qkvBias ? [{ kind: 'bias', op: product.name }] : [];
  if (product.part === 'end') steps.push({ kind: 'logits', op: product.name });
  for (const op of rest) {
    if (op.kind === 'pointwise') steps.push({ kind: 'pointwise', op: op.name });
    else if (op.name === 'qk_norm') steps.push({ kind: 'head_norm', op: op.name });
    else if (op.name === 'rope') steps.push({ kind: 'rotate', op: op.name });
  }
  const norm = rest.find((op) => op.name === 'qk_norm');
  const rotation = rest.find((op) => op.name === 'rope');
  if (norm && !rotation) {
    return refused(norm, 'norms queries and keys, and leaves their rotation to others', "'rope' after it");
  }
  const { dims } = graph;
  if (rotation && dims.headDim % 4 !== 0) {
    const why = `rotates rows, of which a head of ${dims.name} has ${dims.headDim}: no multiple of four`;
    return refused(rotation, why, 'qk_norm and rope in the stage of attend');
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
function keptForm(graph: Graph, ops: readonly Op[]): StageForm {
  const { args } = pointwiseOf(ops[0]!.name);
  const product = graph.ops.find(
    (op) => op.kind === 'matmul' && args.some((arg) => productOf(op.name).outputs.includes(arg)),
  );
  invariant(product, `${ops[0]!.name} takes rows of a product`);
  return {
    prologue: [],
    body: { kind: 'kept', op: product.name },
    epilogue: ops.map((op) => ({ kind: 'pointwise', op: op.name })),
  };
}

const attentionOrder: readonly OpName[] = ['qk_norm', 'rope', 'kv_append', 'attend'];

function attentionForm(graph: Graph, stage: Stage, ops: readonly Op[]): StageForm | Refusal {
  const together = `qk_norm*, rope*, kv_append, attend as one stage over 'kv_heads' (* recomputed), or qk_norm and rope after qkv_proj`;
  const names = ops.map((op) => op.name);
  const other = ops.find((op) => !attentionOrder.includes(op.name));
  if (other) return refused(other, `goes on with ${other.name} after attention`, together);
  for (const name of ['kv_append', 'attend'] as const) {
    if (!names.includes(name)) {
      return refused(
        ops.at(-1)!,
        `has no ${name}, and the block that reads cached positions appends the new one`,
        together,
      );
    }
  }
  const has = (name: OpName) => graph.ops.some((op) => op.name === name);
  const rotates = names.includes('rope');
  const norms = names.includes('qk_norm');
  if (has('qk_norm') && norms !== rotates) {
    return refused(ops[0]!, 'has one of qk_norm and rope, which go together', together);
  }
  const loose = ops.find((op) => opTable[op.name].pure && !stage.recompute.includes(op.name));
  if (loose) {
    return refused(
      loose,
      `stores ${loose.writes[0]!.tensor}, which stays in the block: recompute it`,
      together,
    );
  }
  const prologue: Prologue[] = [{ kind: 'gather', tensor: rotates ? 'q' : 'qr' }];
  if (norms) prologue.push({ kind: 'head_norm', op: 'qk_norm' });
  if (rotates) prologue.push({ kind: 'rotate', op: 'rope' });
  return { prologue, body: { kind: 'attend', op: 'attend' }, epilogue: [] };
}
