// Every string that the templates of a stream print.
import { type ConstantView, constantOf } from '../../emit/c-text.ts';
import { type CommonView, matrixType } from '../../emit/view.ts';
import type { ModelDims } from '../../model/dims.ts';
import { cacheFormats, formatBytes, formatType, isBlocks } from '../../model/formats.ts';
import { matrixRowsText, type OpName, productOf, sizes } from '../../model/ops.ts';
import { padded } from '../../model/packing.ts';
import { formatOf } from '../../model/weights.ts';
import { movesRegisters } from '../../schedule/platform.ts';
import type { StreamProduct, StreamSchedule, StreamStage } from './schedule.ts';
import {
  kvTile,
  listedOfBlock,
  listedOfRow,
  rowTile,
  samplerFloats,
  scalesBytes,
  streamStaticBytes,
  streamWarps,
} from './sizes.ts';
import {
  callLines,
  exchangeText,
  feedLines,
  type Line,
  line,
  productName,
  stageLines,
} from './stage-view.ts';
import { type ExchangeView, exchangeViews } from './words.ts';

export interface StreamView {
  /** Of activations and of the weights of norms, and a position of the cache. */
  readonly wireType: string;
  readonly cacheType: string;
  readonly cacheShape: string;
  readonly bulkCopies: string;
  readonly moveRegisters: string;
  readonly products: readonly Readonly<
    Record<'name' | 'columns' | 'rows' | 'stage' | 'stored' | 'doc', string>
  >[];
  readonly exchanges: readonly ExchangeView[];
  readonly stages: readonly Line[];
  readonly feed: readonly Line[];
  readonly head: string;
  readonly residual: string;
  readonly layer: readonly Line[];
  readonly end: readonly Line[];
  readonly sample: string;
  readonly candidates: string;
  readonly sampledToken: string;
  readonly stageNames: readonly string[];
  readonly delays: string;
  readonly splitSteps: readonly { from: number; splits: number }[];
  readonly pack: readonly Line[];
  readonly kernels: readonly { tokens: number; slots: number; sumTiles: number }[];
  readonly constants: readonly ConstantView[];
}

export function streamView(schedule: StreamSchedule, common: CommonView): CommonView & StreamView {
  const { target, dims, stages, products, syncs, ring } = schedule;
  const exchanges = exchangeViews(syncs);
  const words = (name: string) => exchangeText(exchanges.find((exchange) => exchange.name === name)?.name);
  const sample = stages.find((stage) => stage.body.kind === 'sample')!;
  const layerOps = products.filter((p) => p.op !== 'lm_head').map((p) => p.op);
  return {
    ...common,
    ...typesOf(dims),
    bulkCopies: ring.copy === 'bulk' ? '1' : '0',
    moveRegisters: movesRegisters(target.arch) ? '1' : '0',
    products: products.map((p) => ({
      name: productName(p.op),
      columns: sizes[productOf(p.op).columns].constant,
      rows: matrixRowsText(p.op),
      stage: p.stage,
      stored: storedText(dims, p),
      doc: `${p.tiles} tiles, up to ${p.mostTiles} a block, ${p.warpCells} cells a warp and tile`,
    })),
    exchanges,
    stages: stageLines(schedule),
    feed: feedLines(schedule),
    head: productName('lm_head'),
    residual: productName('o_proj'),
    layer: callLines(schedule, 'layer'),
    end: callLines(schedule, 'end'),
    sample: sample.name,
    candidates: words('argmax_candidates'),
    sampledToken: words('sampled_token'),
    stageNames: stages.map((stage) => stage.name),
    delays: stages.map((stage) => pollCycles(schedule, stage)).join(', '),
    splitSteps: schedule.splitSteps.toReversed(),
    pack: packLines(schedule, layerOps),
    kernels: schedule.kernels.map(({ tokens, slots, sumTiles }) => ({ tokens, slots, sumTiles })),
    constants: [...common.constants, ...constants(schedule)],
  };
}

/** Codes have the scales of their key and value behind them, so that a position is whole pieces of 16 bytes. */
function typesOf({ cache, dtype }: ModelDims) {
  const plain = formatType(dtype);
  return {
    wireType: plain,
    ...(cache === undefined
      ? { cacheType: plain, cacheShape: '[2][kHeadPad]', positionSize: '2 * kHeadPad' }
      : {
          cacheType: cacheFormats[cache].type,
          cacheShape: '[kPositionSize]',
          positionSize: `2 * kHeadPad + ${scalesBytes / cacheFormats[cache].bytes}`,
        }),
  };
}

/** The last arguments of a product that blocks pass by, or whose matrix is not stored as those of layers are. */
function storedText(dims: ModelDims, { op, passedBy }: StreamProduct): string {
  const type = matrixType(dims, productOf(op).weight);
  return passedBy ? `, ${type}, true` : type === 'Matrix' ? '' : `, ${type}`;
}

/** Cycles into a stage before which its input is not polled. */
const pollCycles = ({ pollCycles: cycles }: StreamSchedule, stage: StreamStage): number =>
  Math.max(0, ...stage.ops.map((op) => cycles[op] ?? 0));

const fieldOf = ({ packing }: StreamSchedule, op: OpName) =>
  [...packing.staging!.layer, ...packing.staging!.model].find((f) => f.name === productOf(op).weight);

const packLines = (schedule: StreamSchedule, ops: readonly OpName[]): Line[] =>
  ops.map((op) =>
    line('pack', {
      product: productName(op),
      offset: fieldOf(schedule, op)!.offset,
      order: op === 'qkv_proj' ? 'PairedHeads' : 'SameRow',
    }),
  );

/** What is loaded row by row, in the order of the checkpoint's matrices. */
function stagedConstants({ dims, packing }: StreamSchedule): ConstantView[] {
  const long = constantOf('int64_t');
  const { layerBytes, model } = packing.staging!;
  const embedding = packing.model.find((f) => f.name === 'embedding')!;
  const head = model.find((f) => f.name === 'head');
  return [
    long('kStagedLayerBytes', layerBytes, 'matrices of a layer before they are packed'),
    long('kStagedHeadBytes', head?.bytes ?? 0, 'those of the head; 0: it is the embedding'),
    long('kHeadRowBytes', formatBytes(formatOf(dims, 'head'), padded(dims.hidden)), 'a row of it'),
    long('kTiedHeadAt', embedding.offset, 'where the embedding is kept'),
  ];
}

function constants(schedule: StreamSchedule): ConstantView[] {
  const { target, dims, packing, blocks, ring, products, kept } = schedule;
  const [int, long, bool] = [constantOf('int'), constantOf('int64_t'), constantOf('bool')];
  const of = (op: OpName) => products.find((p) => p.op === op)!;
  const threads = movesRegisters(target.arch) ? 128 : 96;
  return [
    int('kThreads', streamWarps * 32, 'of a block, those that compute'),
    int('kWarps', 'kThreads / 32', ''),
    int(
      'kProducerThreads',
      threads,
      'of a block: a warp feeds the ring, one watches, one publishes the cache',
    ),
    int('kBlocks', blocks, 'of a launch'),
    int(
      'kCheckTokens',
      schedule.checkTokens,
      'most tokens of a pass that computes each with the bits of a pass of its own; 0: none does',
    ),
    int('kScratchFloats', 0, ''),
    int('kSamplerFloats', samplerFloats, 'scratch of the sampler'),
    int('kListedOfBlock', listedOfBlock, 'tokens that a block lists for a draw at most'),
    int('kListedOfRow', listedOfRow, 'tokens that the blocks of a row of logits list for a draw at most'),
    int('kRowTile', rowTile, 'rows of a tile'),
    int('kKvTile', kvTile, 'positions of the cache in a tile of attention'),
    int('kSlices', schedule.slices, 'of the values of a head that is not split, for one token: a block each'),
    int('kHeadPad', schedule.headPad, 'elements of a head in the cache'),
    int(
      'kPositionSize',
      typesOf(dims).positionSize,
      'of the type Cache: key and value of a head and position',
    ),
    bool('kQkNorm', String(dims.qkNorm), 'queries and keys are normed a head'),
    bool(
      'kCodes',
      String(products.some((p) => isBlocks(formatOf(dims, productOf(p.op).weight)))),
      'the ring holds codes, which may be no numbers where a tile of the cache ends',
    ),
    bool('kFlaggedWords', String(ring.handoff === 'epoch'), 'words of exchanges carry their epoch'),
    int('kSlotBytes', ring.slotBytes, 'a slot of the ring'),
    int(
      'kCopiesInFlight',
      ring.copiesInFlight,
      'slots that are being filled at once; one more while a quarter of the ring is free, and for a head alone',
    ),
    int('kHeadCopiesInFlight', ring.headCopiesInFlight, 'the same in the LM head, where no stage waits'),
    int(
      'kMostWarpCells',
      Math.max(...products.map((p) => p.warpCells)),
      'cells of a warp in a tile of the widest product',
    ),
    int('kMostHiddenTiles', of('o_proj').mostTiles, 'tiles of the residual that a block has at most'),
    int(
      'kKeptTiles',
      kept.reduce((sum, op) => sum + of(op).mostTiles, 0),
      'tiles of products that a block keeps for later stages',
    ),
    int('kSharedLimit', target.sharedBytes, 'shared memory of a block'),
    int('kStaticBytes', streamStaticBytes, "the library's own share of it"),
    long('kKeptBytes', packing.keptBytes, 'norms, biases, embedding'),
    long('kStreamBytes', schedule.streamBytes, 'matrices in the order of their use'),
    long('kStreamLayerBytes', schedule.streamLayerBytes, 'those of a layer'),
    ...stagedConstants(schedule),
    ...products.map((p) =>
      long(
        `k${productName(p.op)}At`,
        p.at,
        p.op === 'lm_head' ? 'where its tiles begin in the stream' : 'the same in a layer',
      ),
    ),
  ];
}
