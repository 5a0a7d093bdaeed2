// Every string that the templates of tiles print.
import { type ConstantView, constantOf } from '../../emit/c-text.ts';
import type { CommonView } from '../../emit/view.ts';
import { formatType } from '../../model/formats.ts';
import { docOf, type OpName } from '../../model/graph.ts';
import { matrixRowsText, normOf, pointwiseOf, productOf, sizes } from '../../model/ops.ts';
import { formatOf } from '../../model/weights.ts';
import { argumentsOf, functionOf, markedOps } from '../../schedule/schedule.ts';
import { productName } from '../stream/stage-view.ts';
import { leastTokensOf, type TileBuffer, type TileStage, type TilesSchedule } from './schedule.ts';
import { squareParts } from './sizes.ts';
import { readingCache, unpacking } from './stages.ts';

type Line = { readonly template: string } & Readonly<Record<string, unknown>>;
const line = (name: string, holes: Readonly<Record<string, unknown>> = {}): Line => ({
  template: `tiles/${name}`,
  ...holes,
});

export interface TilesView {
  readonly wgmma: string;
  /** The type of both operands, as PTX writes it. */
  readonly operandType: string;
  readonly products: readonly {
    name: string;
    number: number;
    columns: string;
    rows: string;
    at: string;
    doc: string;
  }[];
  /** What products read their matrices from, of PromptArgs, and what that is. */
  readonly matrices: string;
  readonly matricesDoc: string;
  readonly kernels: readonly { most: number; tokens: number; rows: string }[];
  readonly operands: readonly OperandView[];
  readonly buffers: readonly BufferView[];
  readonly bytes: number;
  /** Behind the others, as large as the context. */
  readonly contextBuffers: readonly (BufferView & { size: string })[];
  readonly contextParameter: string;
  readonly stageNames: readonly string[];
  readonly stages: readonly Line[];
  readonly begin: readonly Line[];
  readonly layer: readonly Line[];
  readonly end: readonly Line[];
  readonly constants: readonly ConstantView[];
}

interface BufferView {
  readonly name: string;
  readonly type: string;
  readonly shape: string;
  readonly doc: string;
  readonly offset: number;
}

export function tilesView(schedule: TilesSchedule, common: CommonView): CommonView & TilesView {
  const { kernels, products, buffers } = schedule;
  const int = constantOf('int');
  return {
    ...common,
    wgmma: schedule.multiply === 'wgmma' ? '1' : '0',
    operandType: schedule.dims.dtype === 'bf16' ? 'bf16' : 'f16',
    products: products.map(({ op, tiles, cells }, number) => ({
      name: productName(op),
      number,
      columns: sizes[productOf(op).columns].constant,
      rows: matrixRowsText(op),
      at: atOf(schedule, op),
      doc: `${tiles} groups of 8 rows, ${cells / 2} steps of 64 columns`,
    })),
    kernels: kernels.map(({ most, tokens, rows }) => ({
      most,
      tokens,
      rows: products.map(({ op }) => rows[op]!).join(', '),
    })),
    operands: operandViews(schedule),
    matrices: schedule.unpacked ? 'plain' : 'pass.stream',
    matricesDoc: schedule.unpacked ? 'those of a layer as numbers' : 'the stream',
    ...withContext(schedule, placedBuffers(buffers, schedule.unpacked)),
    stageNames: schedule.stages.map((stage) => stage.name),
    stages: schedule.stages.map((stage) => stageLine(schedule, stage)),
    begin: callLines(schedule, 'begin'),
    layer: [...unpackLines(schedule), ...callLines(schedule, 'layer')],
    end: callLines(schedule, 'end'),
    constants: [
      int('kThreads', schedule.warps * 32, 'of a block, that compute'),
      int('kWarps', 'kThreads / 32'),
      int('kProducts', products.length),
      int('kMostTokens', schedule.passTokens, 'of a launch'),
      int('kLeastTokens', leastTokensOf(schedule), 'fewer go through passes of decoding'),
      int('kSharedBytes', schedule.sharedBytes, 'shared memory of a block'),
      int('kSlotsBytes', schedule.slotsBytes, 'of it for steps of products'),
      int('kResultsBytes', schedule.resultsBytes, 'and for the results of a tile; attention has both'),
      int(
        'kMostSlots',
        schedule.mostSteps,
        'steps of a product in shared memory: fewer where they do not fit',
      ),
      constantOf('bool')(
        'kMakesLogits',
        String(schedule.makesLogits),
        'of its tokens, in a launch behind it',
      ),
      int('kSquareParts', squareParts(schedule.dims), 'sums of squares of a token at most'),
      int('kKeyTile', schedule.keyTile, 'positions of a tile of attention'),
      int('kKeyTiles', schedule.keyTiles, 'of them in shared memory'),
    ],
  };
}

interface OperandView {
  readonly input: string;
  readonly inputGroups: number;
  readonly groups: number;
  readonly cells: number;
  readonly at: string;
  readonly layers: string;
}

/** Where the matrix of a product begins. */
const atOf = ({ unpacked }: TilesSchedule, op: OpName): string =>
  unpacked ? String(unpacked.at[op]!) : `::k${productName(op)}At`;

const operandViews = (schedule: TilesSchedule): OperandView[] =>
  schedule.products.map(({ op, tiles, cells }) => {
    const input = bufferOf(schedule, productOf(op).input);
    return {
      input: input.name,
      inputGroups: input.tokens / 8,
      groups: tiles,
      cells,
      at: atOf(schedule, op),
      layers: op === 'lm_head' || schedule.unpacked ? '1' : 'kLayers',
    };
  });

const forms = {
  float: { bytes: 4, type: 'float' },
  rows: { bytes: 2, type: 'Wire' },
  operand: { bytes: 2, type: 'char' },
} as const;

/** One behind the other, each at a multiple of 256 bytes. */
function placedBuffers(
  buffers: readonly TileBuffer[],
  unpacked: TilesSchedule['unpacked'],
): { buffers: BufferView[]; bytes: number } {
  let bytes = 0;
  const placed = buffers.map((buffer): BufferView => {
    const { name, tensors, form, stride, tokens } = buffer;
    const offset = bytes;
    bytes += Math.ceil((tokens * stride * forms[form].bytes) / 256) * 256;
    const doc = tensors.map(docOf).join(', ') || 'sums of squares of the residual stream';
    return { name, type: forms[form].type, shape: shapeText(buffer), doc, offset };
  });
  if (unpacked === null) return { buffers: placed, bytes };
  const { layerBytes } = unpacked;
  const doc = 'the matrices of a layer as numbers, in cells';
  const plain = { name: 'plain', type: 'char', shape: `[${layerBytes}]`, doc, offset: bytes };
  return { buffers: [...placed, plain], bytes: bytes + layerBytes };
}

/** Keys and values of a layer as numbers, where the cache has codes. */
function withContext<Placed extends { bytes: number }>({ readsCodes }: TilesSchedule, placed: Placed) {
  const positions = {
    name: 'positions',
    type: 'Wire',
    shape: '[kKvHeads][context][2][kHeadPad]',
    doc: 'keys and values of a layer as numbers',
    offset: placed.bytes,
    size: 'int64_t{kKvHeads} * context * 2 * kHeadPad',
  };
  return {
    ...placed,
    contextBuffers: readsCodes ? [positions] : [],
    contextParameter: readsCodes ? 'int context' : 'int',
  };
}

/** Where the keys and values of a layer's positions lie as numbers. */
const positionsOf = ({ readsCodes }: TilesSchedule): string =>
  readsCodes ? 'b.args.positions' : 'layer.w.cache';

/** Operands are groups of cells. */
const shapeText = ({ form, tokens, stride, columns }: TileBuffer): string =>
  form === 'operand'
    ? `[${tokens} / 8][${stride / 32}][kCellBytes] ${columns} columns:`
    : `[${tokens}][${stride === columns ? stride : `padded(${columns})`}]`;

const bufferOf = ({ buffers }: TilesSchedule, tensor: string): TileBuffer =>
  buffers.find(({ tensors }) => (tensors as readonly string[]).includes(tensor))!;

/** Weights of the head norms, where the model has them. */
const headNorms = ({ dims }: TilesSchedule) => ({
  queryNorm: dims.qkNorm ? 'layer.w.q_norm' : 'nullptr',
  keyNorm: dims.qkNorm ? 'layer.w.k_norm' : 'nullptr',
});

/** What a stage of a layer, or behind the layers, is called with. */
const source = ({ unpacked }: TilesSchedule, { part }: TileStage) =>
  part === 'layer'
    ? {
        weights: 'Layer',
        source: 'layer',
        path: 'w.',
        stream: unpacked ? 'b.args.plain' : 'layer.stream',
        layer: unpacked ? '0' : 'layer.number',
        tokens: 'b.tokens()',
      }
    : {
        weights: 'ModelWeights',
        source: 'model',
        path: '',
        stream: 'b.args.pass.stream',
        layer: '0',
        tokens: 'b.args.rows',
      };

function stageLine(schedule: TilesSchedule, stage: TileStage): Line {
  const { dims } = schedule;
  const common = { name: stage.name, formula: markedOps(stage).join(' + '), ...source(schedule, stage) };
  switch (stage.body) {
    case 'embed': {
      const ahead = aheadOf(schedule, stage);
      return ahead ? line('stage_embed_ahead', { ...common, ...ahead }) : line('stage_embed', common);
    }
    case 'norm': {
      const { weight, input, result } = normOf(stage.op);
      const rowsAt = stage.part === 'end' ? ' + size_t(b.args.first_row) * padded(kHidden)' : '';
      const product = productName(bufferOf(schedule, result).product!);
      return line('stage_norm', { ...common, product, weight, from: input, to: result, rowsAt });
    }
    case 'heads': {
      return line('stage_heads', { ...common, ...headNorms(schedule), positions: positionsOf(schedule) });
    }
    case 'attend':
      return line('stage_attend', {
        ...common,
        product: productName(bufferOf(schedule, 'att').product!),
        positions: positionsOf(schedule),
      });
    case 'product': {
      const ahead = aheadOf(schedule, stage);
      if (stage.heads) {
        return line('stage_product_heads', {
          ...common,
          product: productName(stage.op),
          from: inputOf(schedule, stage).name,
          before: [inputLine(schedule, stage)],
          ...headNorms(schedule),
          positions: positionsOf(schedule),
          bias: String(dims.qkvBias),
          biases: dims.qkvBias ? 'layer.w.qkv_bias' : 'nullptr',
        });
      }
      return line('stage_product', {
        ...common,
        product: productName(stage.op),
        from: inputOf(schedule, stage).name,
        before: [inputLine(schedule, stage), ...(ahead ? [line('ahead', ahead)] : [])],
        reads: readLines(schedule, stage),
        to: resultOf(schedule, stage),
        epilogue: epilogueLines(schedule, stage),
      });
    }
    default:
      return stage.body satisfies never;
  }
}

const inputOf = (schedule: TilesSchedule, { op }: TileStage): TileBuffer =>
  bufferOf(schedule, productOf(op).input);

/** The product whose epilogue makes the residual stream that a norm reads. */
function makerOf({ stages }: TilesSchedule, norm: OpName): string {
  const stage = stages.find(({ ahead, body }) => ahead === norm && body === 'product')!;
  return productName(stage.op);
}

function inputLine(schedule: TilesSchedule, stage: TileStage): Line {
  const { norm } = stage;
  const from = inputOf(schedule, stage).name;
  return norm
    ? line('input_normed', { maker: makerOf(schedule, norm), from, norm })
    : line('input', { from });
}

/** The norm that a stage makes ahead: into whose input, with which weights. Behind the last layer nobody reads it. */
function aheadOf(schedule: TilesSchedule, { ahead, part }: TileStage) {
  if (!ahead) return null;
  const { weight, result } = normOf(ahead);
  const to = bufferOf(schedule, result);
  const isNext = ahead === 'attn_norm';
  const next = `layer.number + 1 < kLayers ? layer_weights(b.args.pass, layer.number + 1).${weight} : nullptr`;
  const weights =
    part === 'begin' ? `layer_weights(b.args.pass, 0).${weight}` : isNext ? next : `layer.w.${weight}`;
  return {
    norm: ahead,
    product: productName(to.product!),
    to: to.name,
    weights,
    maker: makerOf(schedule, ahead),
  };
}

/** What becomes of a product, by name. */
function resultOf(schedule: TilesSchedule, { op, epilogue }: TileStage): string {
  const last = epilogue.at(-1);
  const tensor = last ? pointwiseOf(last).result : productOf(op).outputs[0]!;
  return tensor === 'logits' ? tensor : bufferOf(schedule, tensor).name;
}

const nothing = line('nothing', { as: 'Nothing' });

/** What an epilogue reads of memory: for eight rows, and for their place. */
function readLines({ dims }: TilesSchedule, { op, epilogue, ahead }: TileStage): Line[] {
  const { bias } = productOf(op);
  const biases =
    bias && dims.qkvBias
      ? line('read_biases', { from: `layer.w.${bias}`, as: 'const Values<8>& bias' })
      : nothing;
  const addsToResidual = epilogue.some((name) => pointwiseOf(name).args.includes('x'));
  return [
    ahead ? line('read_weights', { as: 'const Values<8>& weights' }) : biases,
    addsToResidual ? line('read_residual', { as: 'const Values<8>& residual' }) : nothing,
  ];
}

/** Values of eight rows: of a plain product as many; half as many where the rows of two outputs take turns. */
function epilogueLines(schedule: TilesSchedule, stage: TileStage): Line[] {
  const { dims } = schedule;
  const { bias, interleave, rows } = productOf(stage.op);
  if (stage.part === 'end') return [line('logits')];
  const lines: Line[] = [];
  let value = 'o.y';
  if (bias && dims.qkvBias) {
    lines.push(line('bias'));
    value = 'y';
  }
  for (const op of stage.epilogue) {
    const { result } = pointwiseOf(op);
    const name = `ops::${functionOf(schedule, op)}`;
    if (interleave > 1) {
      const both = 'o.y[2 * i], o.y[2 * i + 1]';
      lines.push(line('pointwise_gated', { name: result, function: name, arguments: both }));
    } else {
      const values = argumentsOf(schedule, op, (arg) => (arg === 'x' ? 'residual[i]' : `${value}[i]`));
      lines.push(line('pointwise', { name: result, function: name, arguments: values }));
    }
    value = result;
  }
  const to = resultOf(schedule, stage);
  if (to === 'x') {
    const ahead = stage.ahead ? [line('take_ahead', { value })] : [];
    return [...lines, line('store_residual', { value }), ...ahead];
  }
  return [
    ...lines,
    interleave > 1
      ? line('store_gated', { product: productName(bufferOf(schedule, to).product!), to, value })
      : line('store', { to, columns: sizes[rows].constant, value }),
  ];
}

/** What makes numbers of the matrices of a layer, and the barrier behind it. */
const unpackLines = ({ dims, unpacked, products }: TilesSchedule): Line[] =>
  unpacked
    ? [
        line('call_unpack', {
          products: products
            .filter(({ op }) => op !== 'lm_head')
            .map(({ op }) => ({
              name: productName(op),
              type: formatType(formatOf(dims, productOf(op).weight)),
            })),
        }),
        line('meet', { reason: unpacking.reason }),
      ]
    : [];

/** What attention reads where the cache has codes, and the barrier behind it. */
const readLinesOfCache = (schedule: TilesSchedule, { body }: TileStage): Line[] =>
  schedule.readsCodes && body === 'attend'
    ? [
        line('call_read_cache', { positions: positionsOf(schedule) }),
        line('meet', { reason: readingCache.reason }),
      ]
    : [];

/** The calls of a part, and the barriers behind them. */
function callLines(schedule: TilesSchedule, part: TileStage['part']): Line[] {
  const { stages, syncs } = schedule;
  return stages
    .filter((stage) => stage.part === part)
    .flatMap((stage) => {
      const isLayer = part === 'layer';
      const of = isLayer
        ? { arguments: 'layer', layer: 'layer.number' }
        : { arguments: 'model', layer: 'kLayers' };
      const call = line('call', { name: stage.name, ...of });
      const meet = syncs.filter(({ after }) => after.stage === stage.name);
      return [
        ...readLinesOfCache(schedule, stage),
        call,
        ...meet.map(({ reason }) => line('meet', { reason })),
      ];
    });
}
