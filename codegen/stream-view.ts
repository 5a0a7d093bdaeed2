// The stream kernel as text: products, exchanges, stage functions, the producer's walk, and the constants of its memory.
import { invariant } from '../errors.ts';
import type { ModelDims } from './dims.ts';
import type { OpName } from './graph.ts';
import { matmuls } from './names.ts';
import { markedOps, type Schedule, type ScheduledStage } from './schedule.ts';
import { mostHidden, type Stream, type StreamProduct, streamStaticBytes, streamWarps } from './stream.ts';
import type { Target } from './target.ts';

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
  readonly constants: readonly { type: string; name: string; value: string; doc: string }[];
}

/** Product type, its rows and columns as constants, and the field of the packed weights that it is packed from. */
const productNames: Partial<Record<OpName, { name: string; rows: string; columns: string; field: string }>> =
  {
    qkv_proj: { name: 'Qkv', rows: 'kQkvRows', columns: 'kHidden', field: 'qkv' },
    o_proj: { name: 'AttnOut', rows: 'kHidden', columns: 'kQDim', field: 'o' },
    gate_up: { name: 'FfnUp', rows: '2 * kFfn', columns: 'kHidden', field: 'gate_up' },
    down_proj: { name: 'FfnDown', rows: 'kHidden', columns: 'kFfn', field: 'down' },
    lm_head: { name: 'Head', rows: 'kVocab', columns: 'kHidden', field: 'head' },
  };

const nameOf = (op: OpName): string => productNames[op]!.name;

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
    stages.filter((stage) => stage.part === part).flatMap((stage) => stageCalls(schedule, stage));
  return {
    bulkCopies: hasBulkCopies(target.arch) ? '1' : '0',
    moveRegisters: movesRegisters(target.arch) ? '1' : '0',
    products: stream.products.map((p) => ({
      name: nameOf(p.op),
      columns: productNames[p.op]!.columns,
      rows: productNames[p.op]!.rows,
      stage: indexOf(p.stage),
      doc: `${p.tiles} tiles, up to ${p.most} a block, ${p.each} cells a warp and tile`,
    })),
    exchanges: exchanges(),
    exchangeSum: exchanges()
      .map(({ size }) => `Exchange<${size}>::kWords`)
      .join(' + '),
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
  };
}

/** Cycles into a stage before which its input is not polled. */
const pollCycles = ({ pollCycles = {} }: Target, stage: ScheduledStage): number =>
  Math.max(0, ...stage.ops.map((op) => pollCycles[op] ?? 0));

const architecture = (arch: string): number => Number(/\d+/.exec(arch)?.[0] ?? 0);
const hasBulkCopies = (arch: string): boolean => architecture(arch) >= 90;
const movesRegisters = (arch: string): boolean => architecture(arch) >= 90 && arch.endsWith('a');

/** What crosses blocks, by the tensor that it is. */
function exchanges(): ExchangeView[] {
  const vector = (name: string, columns: string, doc: string) => ({
    name,
    size: `T * word_stride(${columns})`,
    doc,
  });
  return [
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
}

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

const waitsFor = {
  qkv_proj: 'x [kHidden] of the layer before',
  o_proj: 'att [kQDim]',
  gate_up: 'mid [kHidden]',
  down_proj: 'h [kFfn]',
  lm_head: 'x [kHidden] of the last layer',
} as const;

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
          'if (o.first) b.s.residual[o.index] = x;',
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
          'if (o.first && o.row % 4 == 0 && o.row < 2 * kFfn) words.h.publish(b.turn, word_at<T>(o.row / 4, o.token), pair_word(h, next));',
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
          'if (!o.first || o.row >= kVocab || o.token >= pass.tokens) return;',
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
  const norm = { qkv_proj: 'w.attn_norm', gate_up: 'w.ffn_norm', lm_head: 'w.final_norm' }[op as string];
  const input = { qkv_proj: 'x', o_proj: 'att', gate_up: 'mid', down_proj: 'h', lm_head: 'x' }[op as string]!;
  const turn = op === 'qkv_proj' || isHead ? 'b.turn - 1' : 'b.turn';
  const words =
    op === 'qkv_proj' ? 'b.layer == 0 ? nullptr : words.x.copy(b.turn - 1)' : `words.${input}.copy(${turn})`;
  const table = op === 'qkv_proj' ? 'embedding, ids' : 'nullptr, nullptr';
  return {
    waits: waitsFor[op as keyof typeof waitsFor],
    makes,
    before: isHead ? ['const Pass& pass = b.pass;', ...before] : before,
    lines,
    normed: norm ? 'true' : 'false',
    input: `{${words}, ${table}, ${norm ?? 'nullptr'}}`,
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
function stageCalls(schedule: Schedule, stage: ScheduledStage): string[] {
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
      return schedule.stages.includes(stage) ? [`${stage.name}(b, w, words);`] : [];
  }
}

/** Each product of a layer behind the one before it in a block's run of the layer. */
function packLines(schedule: Schedule, products: readonly StreamProduct[]): string[] {
  const { dims, packing } = schedule;
  const staging = packing.staging!;
  const field = (op: OpName) =>
    [...staging.layer, ...staging.model, ...packing.model].find((f) => f.name === productNames[op]!.field);
  const layerBytes = products
    .map((p) => `${nameOf(p.op)}::tiles(block) * ${nameOf(p.op)}::kTileBytes`)
    .join(' + ');
  const head = dims.tiedHead
    ? `reinterpret_cast<const Weight*>(kept + ${packing.model.find((f) => f.name === 'embedding')!.offset})`
    : `reinterpret_cast<const Weight*>(staged + ${field('lm_head')!.offset})`;
  const before: string[] = [];
  const lines = products.map((p) => {
    const at = before.length ? ` + ${before.join(' + ')}` : '';
    before.push(`int64_t(${nameOf(p.op)}::tiles(block)) * ${nameOf(p.op)}::kTileBytes`);
    const rows = p.op === 'qkv_proj' ? 'PairedHeads{}' : 'SameRow{}';
    return (
      `pack_product<${nameOf(p.op)}>(reinterpret_cast<const Weight*>(matrices + ${field(p.op)!.offset}), to, ${rows}, ` +
      `[=](int block) { return block_base(block) + layer * layer_bytes(block)${at}; });`
    );
  });
  return [
    `const auto layer_bytes = [](int block) { return int64_t(${layerBytes}); };`,
    'if (layer == kLayers) {',
    `  pack_product<${nameOf('lm_head')}>(${head}, to, SameRow{}, [=](int block) { return block_base(block) + kLayers * layer_bytes(block); });`,
    '  return;',
    '}',
    `const char* const matrices = staged + layer * int64_t(${staging.layerBytes});`,
    ...lines,
  ];
}

function constants({ target, dims, packing, blocks }: Schedule, stream: Stream) {
  const make = (type: string) => (name: string, value: number | string, doc: string) => ({
    type,
    name,
    value: String(value),
    doc: doc ? `  // ${doc}` : '',
  });
  const [int, long, bool] = [make('int'), make('int64_t'), make('bool')];
  return [
    int('kThreads', streamWarps * 32, 'of a block, those that compute'),
    int('kWarps', 'kThreads / 32', ''),
    int(
      'kProducerThreads',
      movesRegisters(target.arch) ? 128 : 64,
      'of a block: one warp feeds the ring, one watches',
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
    int('kSlotBytes', stream.weights.tile, 'a slot of the ring'),
    int('kSlotsOne', stream.one.slots, 'of a pass of one token'),
    int('kSlotsMany', stream.many.slots, 'of a pass of several'),
    int('kWindow', stream.weights.inFlight, 'slots that are being filled at once'),
    int('kHeadWindow', stream.weights.inFlightHead, 'the same in the LM head, where no stage waits'),
    int('kSumTilesOne', stream.one.sumTiles, 'tiles that a block sums at once'),
    int('kSumTilesMany', stream.many.sumTiles, ''),
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
