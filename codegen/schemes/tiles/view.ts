// Every string that the templates of tiles print.
import { type ConstantView, constantOf } from '../../emit/c-text.ts';
import type { CommonView } from '../../emit/view.ts';
import { docOf, type OpName } from '../../model/graph.ts';
import { matrixRowsText, normOf, pointwiseOf, productOf, sizes } from '../../model/ops.ts';
import { functionOf } from '../../schedule/schedule.ts';
import { productName } from '../stream/stage-view.ts';
import type { TileBuffer, TileStage, TilesSchedule } from './schedule.ts';

type Line = { readonly template: string } & Readonly<Record<string, unknown>>;
const line = (name: string, holes: Readonly<Record<string, unknown>> = {}): Line => ({
  template: `tiles/${name}`,
  ...holes,
});

export interface TilesView {
  readonly products: readonly {
    name: string;
    constant: string;
    columns: string;
    rows: string;
    doc: string;
  }[];
  readonly kernels: readonly { most: number; tokens: number; rows: readonly number[] }[];
  readonly buffers: readonly {
    name: string;
    type: string;
    tokens: string;
    stride: string;
    doc: string;
    offset: number;
  }[];
  readonly bytes: number;
  readonly stages: readonly Line[];
  readonly begin: readonly Line[];
  readonly layer: readonly Line[];
  readonly end: readonly Line[];
  readonly constants: readonly ConstantView[];
}

const rowsConstant = (op: OpName): string => `${op.replace(/_(.)/g, (_, c: string) => c.toUpperCase())}_rows`;

export function tilesView(schedule: TilesSchedule, common: CommonView): CommonView & TilesView {
  const { kernels, products, buffers } = schedule;
  const int = constantOf('int');
  const placed = placedBuffers(buffers);
  return {
    ...common,
    products: products.map(({ op, tiles }) => ({
      name: productName(op),
      constant: rowsConstant(op),
      columns: sizes[productOf(op).columns].constant,
      rows: matrixRowsText(op),
      doc: `${tiles} row tiles of 8`,
    })),
    kernels: kernels.map(({ most, tokens, rows }) => ({
      most,
      tokens,
      rows: products.map(({ op }) => rows[op]!),
    })),
    buffers: placed.buffers,
    bytes: placed.bytes,
    stages: schedule.stages.map((stage) => stageLine(schedule, stage)),
    begin: callLines(schedule, 'begin'),
    layer: callLines(schedule, 'layer'),
    end: callLines(schedule, 'end'),
    constants: [
      int('kThreads', schedule.warps * 32, 'of a block'),
      int('kWarps', 'kThreads / 32'),
      int('kMostTokens', schedule.passTokens, 'of a launch'),
      int('kSharedBytes', schedule.sharedBytes, 'shared memory of a block'),
      int(
        'kMostSlots',
        schedule.mostSteps,
        'steps of a product in shared memory: fewer where they do not fit',
      ),
      int('kKeyTile', schedule.keyTile, 'positions of a tile of attention'),
    ],
  };
}

/** One behind the other, each at a multiple of 256 bytes. */
function placedBuffers(buffers: readonly TileBuffer[]) {
  let offset = 0;
  const placed = buffers.map(({ name, tensors, isFloat, stride, tokens, columns }, i) => {
    const at = offset;
    offset += Math.ceil((tokens * stride * (isFloat ? 4 : 2)) / 256) * 256;
    return {
      name,
      type: isFloat ? 'float' : 'Wire',
      tokens: i === buffers.length - 1 ? 'kPassTokens' : 'tiles::kMostTokens',
      stride: stride === columns ? String(stride) : `padded(${columns})`,
      doc: tensors.map(docOf).join(', '),
      offset: at,
    };
  });
  return { buffers: placed, bytes: offset };
}

const bufferOf = ({ buffers }: TilesSchedule, tensor: string): TileBuffer =>
  buffers.find(({ tensors }) => (tensors as readonly string[]).includes(tensor))!;

const strideText = (columns: string, { stride, columns: used }: TileBuffer): string =>
  stride === used ? columns : `padded(${columns})`;

/** Where a stage finds its weights: a layer's, or the model's. */
const source = ({ part }: TileStage) =>
  part === 'layer'
    ? { weights: 'Layer', source: 'layer', path: 'w.', stream: 'layer.stream', tokens: 'b.tokens()' }
    : {
        weights: 'ModelWeights',
        source: 'model',
        path: '',
        stream: 'b.args.pass.stream',
        tokens: 'b.args.rows',
      };

function stageLine(schedule: TilesSchedule, stage: TileStage): Line {
  const { dims } = schedule;
  const common = { name: stage.name, formula: stage.ops.join(' + '), ...source(stage) };
  switch (stage.body) {
    case 'embed':
      return line('stage_embed', common);
    case 'norm': {
      const { weight, input, result } = normOf(stage.op);
      const rowsAt = stage.part === 'end' ? ' + size_t(b.args.first_row) * padded(kHidden)' : '';
      return line('stage_norm', { ...common, weight, from: input, to: result, rowsAt });
    }
    case 'heads': {
      const norm = (name: string) => (dims.qkNorm ? `layer.w.${name}` : 'nullptr');
      return line('stage_heads', { ...common, queryNorm: norm('q_norm'), keyNorm: norm('k_norm') });
    }
    case 'attend':
      return line('stage_attend', common);
    case 'product': {
      const { input } = productOf(stage.op);
      return line('stage_product', {
        ...common,
        product: productName(stage.op),
        rows: rowsConstant(stage.op),
        from: bufferOf(schedule, input).name,
        to: resultOf(schedule, stage),
        epilogue: epilogueLines(schedule, stage),
      });
    }
    default:
      return stage.body satisfies never;
  }
}

/** What becomes of a product, by name. */
function resultOf(schedule: TilesSchedule, { op, epilogue }: TileStage): string {
  const last = epilogue.at(-1);
  const tensor = last ? pointwiseOf(last).result : productOf(op).outputs[0]!;
  return tensor === 'logits' ? tensor : bufferOf(schedule, tensor).name;
}

/** Values of a pair of rows: `y` of a plain product; `gate` and `up`, of which one pair has one each. */
function epilogueLines(schedule: TilesSchedule, stage: TileStage): Line[] {
  const { dims } = schedule;
  const { bias, outputs, interleave, rows } = productOf(stage.op);
  const size = sizes[rows].constant;
  if (stage.part === 'end') return [line('logits')];
  const lines: Line[] = [];
  let value = 'o.y';
  if (bias && dims.qkvBias) {
    lines.push(line('bias', { from: `layer.w.${bias}` }));
    value = 'y';
  }
  let result: string = outputs[0]!;
  for (const op of stage.epilogue) {
    const { args, result: made } = pointwiseOf(op);
    const name = `ops::${functionOf(schedule, op)}`;
    if (interleave > 1) {
      lines.push(line('pointwise_gated', { name: made, function: name, arguments: 'o.y[0], o.y[1]' }));
      value = made;
    } else {
      if (args.includes('x')) lines.push(line('load_residual'));
      const argument = (i: 0 | 1) =>
        args.map((arg) => (arg === 'x' ? `residual.${'xy'[i]}` : `${value}[${i}]`)).join(', ');
      lines.push(line('pointwise', { name: made, function: name, first: argument(0), second: argument(1) }));
      value = made;
    }
    result = made;
  }
  if (result === 'x') return [...lines, line('store_residual', { value })];
  const to = bufferOf(schedule, result);
  const store = interleave > 1 ? 'store_gated' : 'store';
  return [...lines, line(store, { to: to.name, stride: strideText(size, to), value })];
}

/** The calls of a part, and the barriers behind them. */
function callLines({ stages, syncs }: TilesSchedule, part: TileStage['part']): Line[] {
  return stages
    .filter((stage) => stage.part === part)
    .flatMap((stage) => {
      const call = line('call', { name: stage.name, arguments: part === 'layer' ? 'layer' : 'model' });
      const meet = syncs.filter(({ after }) => after.stage === stage.name);
      return [call, ...meet.map(({ reason }) => line('meet', { reason }))];
    });
}
