// The stream kernel as text: products, exchanges, stage functions, the producer's walk, and the constants of its memory.
import { invariant } from '../../../errors.ts';
import { type ConstantView, constantOf } from '../../emit/c-text.ts';
import { matmuls } from '../../emit/names.ts';
import type { ModelDims } from '../../model/dims.ts';
import type { OpName } from '../../model/graph.ts';
import { markedOps, type Schedule, type ScheduledStage } from '../../schedule/schedule.ts';
import type { Target } from '../../schedule/target.ts';
import { mostHidden, type Stream, type StreamProduct, streamStaticBytes, streamWarps } from './stream.ts';

interface ExchangeView {
  readonly name: string;
  readonly size: string;
  readonly doc: string;
}

/** A stage function: `template` names the partial of templates/stages that prints it. */
type StreamStageView = { readonly template: string; readonly name: string } & Readonly<
  Record<string, unknown>
>;

export interface StreamView {
  readonly bulkCopies: string;
  readonly moveRegisters: string;
  readonly products: readonly {
    name: string;
    columns: string;
    rows: string;
    stage: number;
    doc: string;
  }[];
  readonly exchanges: readonly ExchangeView[];
  readonly exchangeSum: string;
  readonly blockBase: string;
  readonly stages: readonly StreamStageView[];
  readonly feed: readonly string[];
  readonly head: string;
  readonly residual: string;
  readonly layer: readonly string[];
  readonly end: readonly string[];
  readonly sampleStage: number;
  readonly stageNames: string;
  readonly delays: string;
  readonly pack: readonly string[];
  readonly constants: readonly ConstantView[];
  readonly kernels: string;
}

/** A product in the stream: its type, the words of its input, the norm in front. Its columns, rows and weights are those of names.ts. */
interface ProductText {
  readonly name: string;
  readonly input: string;
  readonly waits: string;
  readonly norm?: string;
}

const productTexts: Partial<Record<OpName, ProductText>> = {
  qkv_proj: {
    name: 'Qkv',
    input: 'b.layer == 0 ? Published{} : words.x.of(b.turn - 1)',
    waits: 'x [kHidden] of the layer before',
    norm: 'w.attn_norm',
  },
  o_proj: { name: 'AttnOut', input: 'words.att.of(b.turn)', waits: 'att [kQDim]' },
  gate_up: { name: 'FfnUp', input: 'words.mid.of(b.turn)', waits: 'mid [kHidden]', norm: 'w.ffn_norm' },
  down_proj: { name: 'FfnDown', input: 'words.h.of(b.turn)', waits: 'h [kFfn]' },
  lm_head: {
    name: 'Head',
    input: 'words.x.of(b.turn - 1)',
    waits: 'x [kHidden] of the last layer',
    norm: 'w.final_norm',
  },
};

const nameOf = (op: OpName): string => productTexts[op]!.name;

/** Rows of a product's matrix, as a constant. */
function rowsText(op: OpName): string {
  const { parts, rows } = matmuls[op]!;
  return parts > 1 ? `${parts} * ${rows}` : rows;
}

/** A vector of all tokens that crosses blocks. */
const vector = (name: string, columns: string, doc: string): ExchangeView => ({
  name,
  size: `T * word_stride(${columns})`,
  doc,
});

/** What crosses blocks, by the tensor that it is. */
const exchanges: readonly ExchangeView[] = [
  vector('qkv', 'kQkvRows', 'queries and keys as rotary pairs, values'),
  {
    name: 'parts',
    size: 'Parts<T>::kSize',
    doc: 'attention of one part of the positions: sums, maximum, mass',
  },
  vector('att', 'kQDim', 'attention output'),
  vector('mid', 'kHidden', 'residual stream behind attention'),
  vector('h', 'kFfn', 'gated activations'),
  vector('x', 'kHidden', 'residual stream behind the feed-forward part'),
  { name: 'offers', size: '2 * kBlocks', doc: 'the best logit of each block' },
  { name: 'chosen', size: '1', doc: 'the sampled token' },
];

/** The view of a schedule with a stream. */
export function streamView(schedule: Schedule): StreamView {
  const { stream, target, stages } = schedule;
  invariant(stream !== null, 'only a plan with a stream has this view');
  const indexOf = (name: string) => stages.findIndex((stage) => stage.name === name);
  const stageWith = (op: OpName) => stages.find((stage) => stage.ops.includes(op))!;
  const layerProducts = stream.products.filter((p) => p.op !== 'lm_head');
  const base = (term: (p: StreamProduct) => string, list: readonly StreamProduct[]) =>
    list.map(term).join(' + ');
  const first = (p: StreamProduct) => `int64_t(${nameOf(p.op)}::first(block)) * ${nameOf(p.op)}::kTileBytes`;
  const calls = (part: ScheduledStage['part']) =>
    stages.filter((stage) => stage.part === part).flatMap(stageCalls);
  return {
    bulkCopies: hasBulkCopies(target.arch) ? '1' : '0',
    moveRegisters: movesRegisters(target.arch) ? '1' : '0',
    products: stream.products.map((p) => ({
      name: nameOf(p.op),
      columns: matmuls[p.op]!.columns,
      rows: rowsText(p.op),
      stage: indexOf(p.stage),
      doc: `${p.tiles} tiles, up to ${p.most} a block, ${p.each} cells a warp and tile`,
    })),
    exchanges,
    exchangeSum: exchanges.map(({ size }) => `Exchange<${size}>::kUnits`).join(' + '),
    blockBase: `kLayers * (${base(first, layerProducts)}) + ${base(
      first,
      stream.products.filter((p) => p.op === 'lm_head'),
    )}`,
    stages: stages.flatMap((stage) => stageFunction(schedule, stage)),
    feed: feed(stages, stream),
    head: nameOf('lm_head'),
    residual: nameOf('o_proj'),
    layer: calls('layer'),
    end: calls('end'),
    sampleStage: indexOf(stageWith('sample').name),
    stageNames: stages.map((stage) => JSON.stringify(stage.name)).join(', '),
    delays: stages.map((stage) => pollCycles(target, stage)).join(', '),
    pack: packLines(schedule, layerProducts),
    constants: constants(schedule, stream),
    kernels: stream.kernels.map((k) => `{${k.tokens}, ${k.slots}, ${k.sumTiles}}`).join(', '),
  };
}

/** Cycles into a stage before which its input is not polled. */
const pollCycles = ({ pollCycles = {} }: Target, stage: ScheduledStage): number =>
  Math.max(0, ...stage.ops.map((op) => pollCycles[op] ?? 0));

const architecture = (arch: string): number => Number(/\d+/.exec(arch)?.[0] ?? 0);
const hasBulkCopies = (arch: string): boolean => architecture(arch) >= 90;
const movesRegisters = (arch: string): boolean => architecture(arch) >= 90 && arch.endsWith('a');

/** The producer's walk through one layer. */
function feed(stages: readonly ScheduledStage[], stream: Stream): string[] {
  return stages
    .filter((stage) => stage.part === 'layer')
    .flatMap((stage) => {
      if (stage.ops.includes('attend')) {
        return [
          'if (step > 0 && !p.wait_for_progress((step - 1) * kLayers + layer + 1)) return;',
          'if (!stream_cache(p, layer_weights(pass, layer).cache, pass.position + step, window)) return;',
        ];
      }
      const product = stream.products.find((p) => p.stage === stage.name);
      return product ? [`if (!p.template tiles<${nameOf(product.op)}>(at, window)) return;`] : [];
    });
}

/** What a product's epilogue does with its rows. */
function epilogue(op: OpName, dims: ModelDims): { makes: string; before: string[]; lines: string[] } {
  switch (op) {
    case 'qkv_proj': {
      const bias = dims.qkvBias ? ' + (o.row < kQkvRows ? w.qkv_bias[PairedHeads{}(o.row)] : 0.0f)' : '';
      return {
        makes: 'qkv [kQkvRows]',
        before: [],
        lines: [
          `const float y = o.y${bias}, next = o.next(y);`,
          'if (o.even() && o.row < kQkvRows) words.qkv.publish(b.turn, word_at<T>(o.row / 2, o.token), pair_word(y, next));',
        ],
      };
    }
    case 'o_proj':
    case 'down_proj': {
      const to = op === 'o_proj' ? 'mid' : 'x';
      return {
        makes: `${to} [kHidden]`,
        before: [],
        lines: [
          ...(op === 'o_proj' ? ['b.wait_appended(AttnOut::kStage);'] : []),
          'const float x = add(b.s.residual[o.index], o.y), next = o.next(x);',
          'if (o.real) b.s.residual[o.index] = x;',
          `if (o.even() && o.row < kHidden) words.${to}.publish(b.turn, word_at<T>(o.row / 2, o.token), pair_word(x, next));`,
        ],
      };
    }
    case 'gate_up':
      return {
        makes: 'h [kFfn]',
        before: [],
        lines: [
          'const float h = swiglu(o.y, o.next(o.y)), next = o.second_next(h);  // rows are gate, up, gate, up',
          'if (o.real && o.row % 4 == 0 && o.row < 2 * kFfn) words.h.publish(b.turn, word_at<T>(o.row / 4, o.token), pair_word(h, next));',
        ],
      };
    default:
      return {
        makes: "logits, and this block's best",
        before: [
          'const bool stores = !pass.sample || !is_greedy(pass.sampling);',
          'const int limit = pass.sampling.vocab > 0 ? min(pass.sampling.vocab, kVocab) : kVocab;',
        ],
        lines: [
          'if (!o.real || o.row >= kVocab || o.token >= pass.tokens) return;',
          'if (stores && o.token >= pass.first_logits) pass.logits[size_t(o.token - pass.first_logits) * kVocab + o.row] = o.y;',
          'if (o.token == pass.tokens - 1 && o.row < limit) best.consider(o.y, o.row);',
        ],
      };
  }
}

function stageFunction(schedule: Schedule, stage: ScheduledStage): StreamStageView[] {
  const formula = markedOps(stage).join(' + ');
  const index = schedule.stages.indexOf(stage);
  const { name } = stage;
  const norms = schedule.dims.qkNorm ? 'w.q_norm, w.k_norm' : 'nullptr, nullptr';
  if (stage.ops.includes('attend')) {
    return [
      {
        template: 'stream_attend',
        name,
        formula,
        waits: 'qkv [kQkvRows]; the cached positions come in the stream',
        makes: 'att [kQDim] where one block has all positions of a head, else parts',
        lines: ['b.begin();', `attend<T>(b, w, {${norms}}, {words.qkv, words.parts, words.att}, ${index});`],
      },
    ];
  }
  if (stage.ops.includes('attn_merge')) {
    return [
      {
        template: 'stream_attend',
        name: `${name}_parts`,
        formula,
        waits: 'parts',
        makes: 'att [kQDim]',
        lines: ['static_cast<void>(w);', `merge<T>(b, {words.qkv, words.parts, words.att}, ${index});`],
      },
    ];
  }
  const op = stage.ops.find((candidate) => matmuls[candidate]);
  if (!op) return [];
  return [
    { template: 'stream_product', name, formula, product: nameOf(op), ...productText(op, schedule.dims) },
  ];
}

function productText(op: OpName, dims: ModelDims) {
  const { makes, before, lines } = epilogue(op, dims);
  const isHead = op === 'lm_head';
  const { input, waits, norm } = productTexts[op]!;
  const table = op === 'qkv_proj' ? 'embedding, ids' : 'nullptr, nullptr';
  return {
    waits,
    makes,
    before: isHead ? ['const Pass& pass = b.pass;', ...before] : before,
    lines,
    normed: norm ? 'true' : 'false',
    input: `{${input}, ${table}, ${norm ?? 'nullptr'}}`,
    signature: [
      'Worker<T>& b',
      `const ${isHead ? 'ModelWeights' : 'LayerWeights'}& w`,
      'const Exchanges<T>& words',
      ...(op === 'qkv_proj' ? ['const Weight* embedding', 'const int* ids'] : []),
      ...(isHead ? ['Best& best'] : []),
    ].join(', '),
  };
}

/** The calls of a stage in the loop over layers. */
function stageCalls(stage: ScheduledStage): string[] {
  if (stage.ops.includes('attn_merge')) return [`${stage.name}_parts(b, w, words);`];
  if (stage.ops.includes('attend')) return [`${stage.name}(b, w, words);`];
  const op = stage.ops.find((candidate) => matmuls[candidate]);
  switch (op) {
    case undefined:
      return [];
    case 'qkv_proj':
      return [`${stage.name}(b, w, words, model.embedding, ids);`];
    case 'lm_head':
      return ['b.layer = kLayers;', `${stage.name}(b, model, words, best);`];
    case 'gate_up':
      return [
        `${stage.name}(b, w, words);`,
        'if (threadIdx.x == 0) s.flags.progress = step * kLayers + b.layer + 1;  // all of this layer that blocks append is there',
      ];
    default:
      return [`${stage.name}(b, w, words);`];
  }
}

/** Each product of a layer behind the one before it in a block's run of the layer. */
function packLines(schedule: Schedule, products: readonly StreamProduct[]): string[] {
  const { dims, packing } = schedule;
  const staging = packing.staging!;
  const field = (op: OpName) =>
    [...staging.layer, ...staging.model, ...packing.model].find((f) => f.name === matmuls[op]!.weight);
  const bytes = products.map((p) => `${nameOf(p.op)}::tiles(block) * ${nameOf(p.op)}::kTileBytes`);
  const head = dims.tiedHead
    ? `reinterpret_cast<const Weight*>(kept + ${packing.model.find((f) => f.name === 'embedding')!.offset})`
    : `reinterpret_cast<const Weight*>(staged + ${field('lm_head')!.offset})`;
  const lines = products.map((p, i) => {
    const at = products
      .slice(0, i)
      .map(({ op }) => ` + int64_t(${nameOf(op)}::tiles(block)) * ${nameOf(op)}::kTileBytes`)
      .join('');
    const rows = p.op === 'qkv_proj' ? 'PairedHeads{}' : 'SameRow{}';
    return (
      `pack_product<${nameOf(p.op)}>(reinterpret_cast<const Weight*>(matrices + ${field(p.op)!.offset}), to, ${rows}, ` +
      `[=](int block) { return block_base(block) + layer * layer_bytes(block)${at}; });`
    );
  });
  return [
    `const auto layer_bytes = [](int block) { return int64_t(${bytes.join(' + ')}); };`,
    'if (layer == kLayers) {',
    `  pack_product<${nameOf('lm_head')}>(${head}, to, SameRow{}, [=](int block) { return block_base(block) + kLayers * layer_bytes(block); });`,
    '  return;',
    '}',
    `const char* const matrices = staged + layer * int64_t(${staging.layerBytes});`,
    ...lines,
  ];
}

function constants({ target, dims, packing, blocks }: Schedule, stream: Stream) {
  const [int, long, bool] = [constantOf('int'), constantOf('int64_t'), constantOf('bool')];
  return [
    int('kThreads', streamWarps * 32, 'of a block, those that compute'),
    int('kWarps', 'kThreads / 32', ''),
    int(
      'kProducerThreads',
      movesRegisters(target.arch) ? 128 : 96,
      'of a block: a warp feeds the ring, one watches, one publishes the cache',
    ),
    int('kBlocks', blocks, 'of a launch'),
    int('kScratchFloats', 0, ''),
    int('kHeadPad', stream.headPad, 'elements of a head in the cache'),
    bool('kQkNorm', String(dims.qkNorm), 'queries and keys are normed a head'),
    int(
      'kSplitFrom',
      stream.splits === 1 ? 0 : stream.splitFrom,
      'first position from which attention is split over blocks',
    ),
    bool('kEpochWords', String(stream.words === 'epoch'), 'words of exchanges carry their turn'),
    int('kSlotBytes', stream.weights.tile, 'a slot of the ring'),
    int(
      'kWindow',
      stream.weights.inFlight,
      'slots that are being filled at once; one more while a quarter of the ring is free, and for a head alone',
    ),
    int('kHeadWindow', stream.weights.inFlightHead, 'the same in the LM head, where no stage waits'),
    int(
      'kMostEach',
      Math.max(...stream.products.map((p) => p.each)),
      'cells of a warp in a tile of the widest product',
    ),
    int('kMostHidden', mostHidden(stream.products), 'tiles of the residual that a block has at most'),
    int('kSharedLimit', target.sharedBytes, 'shared memory of a block'),
    int('kStaticBytes', streamStaticBytes, "the library's own share of it"),
    long('kKeptBytes', packing.keptBytes, 'norms, biases, embedding'),
    long('kStreamBytes', stream.bytes, 'matrices in the order of their use'),
  ];
}
