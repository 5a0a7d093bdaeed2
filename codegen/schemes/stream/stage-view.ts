// One stage of a stream as text: which partials print it, and the names that they print.
import type { TensorName } from '../../model/graph.ts';
import { isProduct, normOf, type OpName, pointwiseOf, productOf, sizes } from '../../model/ops.ts';
import { argumentsOf, functionOf, markedOps } from '../../schedule/schedule.ts';
import type { CacheSync, Sync } from '../../schedule/syncs.ts';
import type { StreamSchedule, StreamStage } from './schedule.ts';
import { publishes, receives } from './words.ts';

/** What a partial of templates/cuda/stream/partials prints; `template` names it. */
export type Line = { readonly template: string } & Readonly<Record<string, unknown>>;
export const line = (name: string, holes: Readonly<Record<string, unknown>> = {}): Line => ({
  template: `stream/${name}`,
  ...holes,
});

/** The type of a product in the generated code. */
export const productName = (op: OpName): string =>
  op
    .split('_')
    .map((word) => word[0]!.toUpperCase() + word.slice(1))
    .join('');

/** One, or several with one guard. */
const cacheSyncs = (syncs: readonly Sync[]): readonly CacheSync[] =>
  syncs.filter((sync) => sync.scope === 'cache');

/** Rows of kept products in front of those of `op`, as C++: tiles. */
function keptBefore({ kept }: StreamSchedule, op: OpName): string {
  const before = kept.slice(0, kept.indexOf(op)).map((other) => `${productName(other)}::kMostTiles`);
  return before.length === 0 ? '0' : `(${before.join(' + ')})`;
}

/** The embedding and the choice of a token are the library's own. */
const hasFunction = ({ body }: StreamStage): boolean => body.kind !== 'embed' && body.kind !== 'sample';

/** The functions of the stages that have one. */
export function stageLines(schedule: StreamSchedule): Line[] {
  return schedule.stages.filter(hasFunction).map((stage) => stageLine(schedule, stage));
}

function stageLine(schedule: StreamSchedule, stage: StreamStage): Line {
  const { name, body, part } = stage;
  const common = {
    name,
    formula: markedOps(stage).join(' + '),
    weights: part === 'layer' ? 'LayerWeights' : 'ModelWeights',
    ...tensorsOf(schedule, stage),
  };
  switch (body.kind) {
    case 'embed':
    case 'sample':
      throw new Error(`internal error: ${name} has no function of its own`);
    case 'norm': {
      const { result, input } = normOf(body.op);
      const to = publishes(schedule.syncs, name, result);
      const words = exchangeText(to?.words);
      const prologue = [gatherLine(schedule, stage, input, body.op)];
      return line('stage_norm', {
        ...common,
        columns: sizes.hidden.constant,
        words,
        epoch: epochText(stage),
        prologue,
      });
    }
    case 'attend':
      return line('stage_attend', { ...common, ...attendHoles(schedule, stage) });
    case 'merge_splits': {
      const partial = exchangeText(receives(schedule.syncs, name, 'partial')?.words);
      const att = exchangeText(publishes(schedule.syncs, name, 'att')?.words);
      return line('stage_merge', { ...common, partial, att });
    }
    case 'kept': {
      const holes = { product: productName(body.op), first: keptBefore(schedule, body.op) };
      return line('stage_kept', { ...common, ...holes, epilogue: epilogueLines(schedule, stage) });
    }
    case 'product': {
      const prologue = prologueLines(schedule, stage);
      const holes = { ...common, product: productName(body.op), prologue };
      if (stage.epilogue.some((step) => step.kind === 'logits')) return line('stage_head', holes);
      const early = [earlyLine(schedule, stage)];
      return line('stage_product', { ...holes, early, epilogue: epilogueLines(schedule, stage) });
    }
    default:
      return body satisfies never;
  }
}

export const exchangeText = (words: string | undefined): string =>
  words ? `words.${words}` : 'NoExchange{}';

/** What is handed over behind the layers is handed over once a pass. */
const epochText = ({ part }: StreamStage): string => (part === 'end' ? 'cta.step' : 'cta.epoch');

/** The epoch of an exchange as a reader sees it: of the layer before, where its maker comes later in a layer. */
function readEpochText(schedule: StreamSchedule, maker: string, reader: StreamStage): string {
  const at = (name: string) => schedule.stages.findIndex((stage) => stage.name === name);
  const made = schedule.stages[at(maker)]!;
  const before = made.part === 'layer' && (reader.part === 'end' || at(maker) > at(reader.name));
  return before ? `${epochText(made)} - 1` : epochText(made);
}

/** Words of a tensor, or where no exchange carries it none. In layer 0 the residual stream is still the embedding. */
function gatherLine(
  schedule: StreamSchedule,
  stage: StreamStage,
  tensor: TensorName,
  norm: OpName | null,
): Line {
  const found = receives(schedule.syncs, stage.name, tensor);
  const words = found
    ? `words.${found.words}.of(${readEpochText(schedule, found.after.stage, stage)})`
    : 'Published{}';
  const fromTable = stage.part === 'layer' && found?.words === 'x' && words.includes(' - 1');
  return line(fromTable ? 'gather_table' : 'gather', {
    type: norm && stage.body.kind === 'product' ? 'NormedGather' : 'Gather',
    words,
    norm: norm ? `w.${normOf(norm).weight}` : 'nullptr',
  });
}

function prologueLines(schedule: StreamSchedule, stage: StreamStage): Line[] {
  const norm = stage.prologue.find((step) => step.kind === 'norm');
  return stage.prologue.flatMap((step): Line[] => {
    switch (step.kind) {
      case 'gather':
        return [gatherLine(schedule, stage, step.tensor, norm?.op ?? null)];
      case 'merge_splits': {
        const of = (tensor: TensorName) => exchangeText(receives(schedule.syncs, stage.name, tensor)?.words);
        return [line('gather_splits', { partial: of('partial'), att: of('att') })];
      }
      default:
        return [];
    }
  });
}

/** Weights of the head norms, where the model has them. */
const headNorms = ({ dims }: StreamSchedule) => ({
  queryNorm: dims.qkNorm ? 'w.q_norm' : 'nullptr',
  keyNorm: dims.qkNorm ? 'w.k_norm' : 'nullptr',
});

function attendHoles(schedule: StreamSchedule, { name, prologue }: StreamStage) {
  const { syncs } = schedule;
  const has = (kind: string) => prologue.some((step) => step.kind === kind);
  const first = prologue.find((step) => step.kind === 'gather')!.tensor;
  const squares = receives(syncs, name, 'squares');
  return {
    norm: String(has('head_norm')),
    rotate: String(has('rotate')),
    factor: String(schedule.dims.qkNorm && !has('head_norm')),
    ...headNorms(schedule),
    qkv: exchangeText(receives(syncs, name, first)?.words),
    squares: exchangeText(squares?.words),
    partial: exchangeText(publishes(syncs, name, 'partial')?.words),
    att: exchangeText(publishes(syncs, name, 'att')?.words),
  };
}

/** What the epilogue needs that does not depend on the input. */
function earlyLine(schedule: StreamSchedule, { epilogue }: StreamStage): Line {
  const has = (kind: string) => epilogue.some((step) => step.kind === kind);
  if (!has('bias') && !has('rotate')) return line('early_nothing');
  return line('early_head_row', {
    bias: String(has('bias')),
    norm: String(has('head_norm')),
    rotate: String(has('rotate')),
    biases: has('bias') ? 'w.qkv_bias' : 'nullptr',
    ...headNorms(schedule),
  });
}

/** The steps of an epilogue, each value published behind the step that makes it. */
function epilogueLines(schedule: StreamSchedule, stage: StreamStage): Line[] {
  const { syncs } = schedule;
  const product = stage.body.op;
  const { outputs, interleave, rows } = productOf(product);
  const [cache] = cacheSyncs(syncs);
  const lines: Line[] =
    cache?.guard === stage.name ? [line('wait_appended', { stage: stage.name, reason: cache.reason })] : [];
  const epoch = epochText(stage);
  const values = new Map<TensorName, string>(
    interleave === 1 ? outputs.map((tensor) => [tensor, 'o.y']) : [],
  );
  let isRotated = false;
  const publish = (tensors: readonly TensorName[], value: string) => {
    const sync = tensors.map((tensor) => publishes(syncs, stage.name, tensor)).find(Boolean);
    if (!sync) return;
    const holes = { words: sync.words, epoch, value, rows: sizes[rows].constant };
    lines.push(line(isRotated ? 'publish_rotated' : interleave > 1 ? 'publish_gated' : 'publish', holes));
  };
  if (interleave > 1 && stage.epilogue.some((step) => step.kind === 'pointwise')) {
    const [first, second] = outputs as [TensorName, TensorName];
    lines.push(line('take_turns', { first, second, value: 'o.y' }));
    values.set(first, first).set(second, second);
  }
  for (const step of stage.epilogue) {
    switch (step.kind) {
      case 'bias':
        lines.push(line('bias', { result: 'biased', value: 'o.y' }));
        for (const tensor of outputs) values.set(tensor, 'biased');
        break;
      case 'head_norm': {
        const squares = publishes(syncs, stage.name, 'squares');
        const value = values.get('q')!;
        if (squares) lines.push(line('publish_squares', { words: squares.words, epoch, value }));
        break;
      }
      case 'rotate':
        isRotated = true;
        break;
      case 'pointwise': {
        const { args, result } = pointwiseOf(step.op);
        if (args.includes('x')) lines.push(line('read_residual'));
        const text = argumentsOf(schedule, step.op, (arg) => (arg === 'x' ? 'residual' : values.get(arg)!));
        lines.push(line('pointwise', { result, function: functionOf(schedule, step.op), args: text }));
        values.set(result, result);
        if (result === 'x') lines.push(line('keep_residual', { value: result }));
        publish([result], result);
        break;
      }
      case 'keep':
        lines.push(line('keep_rows', { first: keptBefore(schedule, step.op), value: 'o.y' }));
        break;
      case 'logits':
        break;
      default:
        step satisfies never;
    }
  }
  if (product === 'qkv_proj') publish(['q', 'qr'], values.get('q')!);
  return lines;
}

/** The tensors that a stage gets from other blocks and hands to them, for its comment. */
function tensorsOf({ syncs, stages }: StreamSchedule, { name, body }: StreamStage) {
  const of = (list: readonly Sync[]) =>
    [...new Set(list.flatMap((sync) => (sync.scope === 'exchange' ? sync.tensors : [])))].join(', ');
  const waits = of(syncs.filter((sync) => sync.scope === 'exchange' && sync.readers.includes(name)));
  const makes = of(syncs.filter((sync) => sync.after.stage === name));
  const kept = stages.find((other) => other.body.kind === 'kept' && other.body.op === body.op);
  return {
    waits: `${waits || 'nothing'}${body.kind === 'attend' ? '; the cached positions come in the stream' : ''}`,
    makes: makes || (kept ? `rows for ${kept.name}` : 'nothing for others'),
  };
}

/** The calls of the stages of a part of a pass, and what stands between them. */
export function callLines(schedule: StreamSchedule, part: StreamStage['part']): Line[] {
  const { syncs } = schedule;
  const weights = part === 'layer' ? 'w' : 'model';
  return schedule.stages
    .filter((stage) => stage.part === part)
    .flatMap((stage): Line[] => {
      const isHead = stage.epilogue.some((step) => step.kind === 'logits');
      const meeting = syncs.find((sync) => sync.scope === 'block' && sync.after.stage === stage.name);
      const call = line(isHead ? 'call_head' : 'call', { name: stage.name, weights });
      return [
        ...(hasFunction(stage) ? [call] : []),
        ...cacheSyncs(syncs)
          .filter((sync) => sync.after.stage === stage.name)
          .map(({ reason, layersBefore }) =>
            line('call_progress', {
              stage: stage.name,
              layers: ['cta.layer + 1', 'cta.layer'][layersBefore],
              reason,
            }),
          ),
        ...(meeting ? [line('call_meet', { reason: meeting.reason })] : []),
      ];
    });
}

/** The producer's walk through one layer. */
export function feedLines({ stages, syncs }: StreamSchedule): Line[] {
  const [cache] = cacheSyncs(syncs);
  return stages
    .filter((stage) => stage.part === 'layer')
    .flatMap((stage): Line[] => {
      if (stage.body.kind === 'attend') {
        return [
          ...(cache ? [line('feed_wait', { reason: cache.reason })] : []),
          line('feed_cache', { stage: stage.name }),
        ];
      }
      const op = stage.ops.find(isProduct);
      return op ? [line('feed_tiles', { product: productName(op) })] : [];
    });
}
