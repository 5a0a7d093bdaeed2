// The plan DSL: which ops share a stage, and how a stage deals its work. It cannot name a thread, a buffer or a barrier.
import { type OpName, opNames, type PointwiseOpName } from '../model/graph.ts';
import { callSite, nowhere, type Site } from './call-site.ts';
import {
  needCompany,
  needEdits,
  needOp,
  needOptions,
  needStage,
  needSwitch,
  stageText,
} from './edit-issues.ts';

/**
 * What one unit of a stage's work is.
 * `rows`: output rows, a contiguous range a block. `kv_heads`, `q_heads`: a head a block. `tokens`: a token of the pass a block. `once`: block 0.
 */
export type Over = 'rows' | 'q_heads' | 'kv_heads' | 'tokens' | 'once';

/** How a stage deals its work. */
export interface StageOptions {
  readonly over: Over;
  /**
   * Ops whose result every block makes for itself instead of reading another block's.
   *     stage('a', ['attn_norm'], { over: 'tokens' }), stage('b', ['qkv_proj'], { over: 'rows' })
   *         one block normalises; grid barrier; all blocks project
   *     stage('b', ['attn_norm', 'qkv_proj'], { over: 'rows', recompute: ['attn_norm'] })
   *         every block normalises, then projects; no barrier between
   */
  readonly recompute?: readonly OpName[];
  /**
   * Splits the positions of the KV cache, so that more blocks than kv heads work on attention.
   *     for head: attend(head, 0..n)          without
   *     for head: for split: attend(head, n split/splits .. n (split+1)/splits)   with; `attn_merge` combines them
   */
  readonly split?: 'positions' | 'none';
}

/** Ops that share a loop over blocks. */
export interface Stage extends Required<Omit<StageOptions, 'split'>> {
  readonly name: string;
  readonly ops: readonly OpName[];
  readonly split: 'positions' | 'none';
  readonly at: Site;
}

/** What every scheme takes. */
interface PassOptions {
  /** Most tokens in one pass: a number, or `many` for as many as the target's shared memory holds, up to 8 at barriers (64 on a CPU) and 16 in a stream; 1,024 of tiles. */
  readonly tokens: number | 'many';
}

/** Chosen for the model and the target; `gen explain` prints what was chosen. */
export const fit = 'fit';
type Fit = typeof fit;

/**
 * All blocks store, all blocks meet, all blocks load; weights are read by the warps of the block that needs them.
 * All but `prefetch`, `prefetchBy`, `blocks`, `warps` and `barrier` is about passes of one token: several go through the tensor cores, loaded
 * 128 bits at once from memory into registers, inputs in shared memory. A CPU has none of this but `inputBits` and `tokens`.
 */
export interface BarriersScheme extends PassOptions {
  readonly kind: 'barriers';
  /**
   * Stages ahead whose rows are asked for, into L2; 0: never.
   *     stage 1; barrier; stage 2; barrier; stage 3                                        0
   *     stage 1; prefetch 3; barrier; stage 2; prefetch 4; barrier; stage 3                2
   */
  readonly prefetch: number;
  /**
   * Who asks. `all`: each block, for its own rows of the stage `prefetch` ahead. `idle`: while attention has fewer units than the launch has
   * blocks, those without one, for all rows of the next `prefetch` stages; in the last layer for the first rows of the LM head, too.
   *     all: attention; prefetch own rows; barrier                                         all
   *     blocks 0..15: attention     others: prefetch o_proj, gate_up; all: barrier         idle
   */
  readonly prefetchBy: 'all' | 'idle';
  /** Blocks of a launch: never more than the target has multiprocessors; `fit`: one on each. */
  readonly blocks: number | Fit;
  /** Warps of a block. A pass has no more tokens than that; 32 leave each thread 64 registers, and usual kernels then spill. */
  readonly warps: 4 | 8 | 16 | 32 | Fit;
  /**
   * Bits of weights that a lane loads at once.
   *     w[0..3] = load 64; w[4..7] = load 64; sum += w[0..7] x[0..7]                       64
   *     w[0..7] = load 128; sum += w[0..7] x[0..7]                                         128
   */
  readonly loadBits: 64 | 128;
  /** Loads of a lane that are under way at once, at least one of each matrix that is interleaved. */
  readonly loadsInFlight: number;
  /**
   * Buffers in shared memory that weights are copied into with cp.async, each for `loadsInFlight` loads of a lane; 0: straight to registers.
   *     load 1 to registers; use 1; load 2 to registers; use 2                             0
   *     copy 1; wait; use 1; copy 2; wait; use 2                                           1
   *     copy 1; copy 2; wait for 1; use 1; copy 3; wait for 2; use 2                       2
   */
  readonly buffers: number;
  /**
   * Of each 8 warps, those that only copy weights for the others; they take `buffers`.
   *     warps 0..7: copy 1; copy 2; wait for 1; use 1; ...                                 0
   *     warps 0..5: wait for 1; use 1; ...     warps 6, 7: copy 1; copy 2; ...             2
   */
  readonly producers: number;
  /**
   * `atomic`: a counter of ours, with a watchdog that ends a launch whose blocks wait for ever. `grid.sync`: that of cooperative groups, which
   * has no watchdog: such a launch hangs.
   */
  readonly barrier: 'atomic' | 'grid.sync';
  /**
   * Where a product reads what another stage made: `shared`: a copy in the block's shared memory; `global`: memory, through L1 and L2, at each
   * use. What a block makes for itself (`recompute`) is in its shared memory either way.
   *     gather h; sync; each row: sum += w h[shared]                                       shared
   *     each row: sum += w h[global]                                                       global
   */
  readonly inputs: 'shared' | 'global';
  /**
   * Bits in which a CPU multiplies the inputs of rows in blocks of whole numbers (int8, int4, int4-asym): whole numbers, 32 of them to a scale. 8 takes half
   * the instructions for int4, none less for int8 on AVX2, and is off by up to a 254th of the largest of the 32, where 16 is by a 65,534th: that adds a
   * twentieth to the KL that int4 weights lose, and doubles that of int8 (qwen3-tiny); `gen quality` shows it.
   *     x = q[32] * scale; sum += scale * w.scale * (w.q[0..1] q[0..1] + w.q[2..3] q[2..3] + ...)      16
   *     x = q[32] * scale; sum += scale * w.scale * (w.q[0..3] q[0..3] + w.q[4..7] q[4..7] + ...)      8
   */
  readonly inputBits: 8 | 16;
}

/** Blocks that share a kv head, by the first position from which they do. Never more than the target has blocks for. */
export interface SplitStep {
  readonly splits: number;
  readonly from: number;
}

/**
 * Each block's weights, of all stages in order, are one run of memory that a producer copies into a ring in shared memory; the copies go
 * on while each reader polls the words it needs until they are there.
 *     load weights of stage 1; stage 1; meet; load weights of stage 2; stage 2             barriers
 *     producer: weights of stage 1, 2, 3, ...     others: stage 1; poll; stage 2; ...      stream
 * On a target that cannot copy while it computes (a CPU) the same stages are lowered with barriers.
 */
export interface StreamScheme extends PassOptions {
  readonly kind: 'stream';
  /** Slots of the ring: fewer where they do not fit. */
  readonly slots: number;
  /** Bytes of a slot. */
  readonly slotBytes: number | Fit;
  /** Slots whose copies are under way at once; one more while a quarter of the ring is free. */
  readonly copiesInFlight: number | Fit;
  /** The same where no stage waits: in the LM head. */
  readonly headCopiesInFlight: number;
  /**
   * How a word that is handed over tells that it is there.
   *     empty the word two epochs ahead; store data that is never "empty"; poll until it is not empty     sentinel
   *     store data and epoch together; poll until the epoch is right                                      epoch
   * An epoch doubles the bytes that are polled, and nothing has to be emptied.
   */
  readonly handoff: 'sentinel' | 'epoch';
  /** Of a stage that splits the positions: `byContext({ 1: 0, 16: 192 })`. */
  readonly splits: readonly SplitStep[] | Fit;
  /**
   * Who copies weights into the ring: `bulk`: the copy engine, which sm_90 and later have; `cp.async`: the threads of the producer's warp.
   *     one lane: bulk copy of a slot                                                      bulk
   *     32 lanes: for each 512 bytes of a slot: cp.async of 16 bytes                       cp.async
   */
  readonly copy: 'bulk' | 'cp.async' | Fit;
  /** Blocks of a launch: at most one on each multiprocessor, each with a tile of gate_up, and half of them with one of every other product; at least one a kv head. */
  readonly blocks: number | Fit;
  /** Clock cycles into a stage before which its input is not polled, by an op of the stage; `fit`: those measured for the target. */
  readonly pollCycles: PollCycles | Fit;
}

/**
 * Many tokens at once, for prompts: each product is cut into tiles of tokens x rows that the matrix instructions take, and all blocks meet
 * between stages. It reads the weights and fills the cache of a plan with a stream, which goes on from there.
 *     for 16 tokens: all layers; for the next 16 tokens: all layers; ...                   stream
 *     for 1,024 tokens: all layers, each weight read by as many blocks as there are tiles of tokens    tiles
 */
export interface TilesScheme extends PassOptions {
  readonly kind: 'tiles';
  /** Tokens of a tile; `fit`: small ones for short prompts, large ones for long prompts. */
  readonly tokenTile: 64 | 128 | Fit;
  /** Rows of a tile; `fit`: for each product those that leave the fewest multiprocessors idle. */
  readonly rowTile: 64 | 128 | Fit;
  /**
   * What multiplies: `mma`: a warp, from its registers (sm_80 and later); `wgmma`: four warps together, from shared memory, which the copy
   * engine fills (sm_90a).
   *     all threads: copy a step; each warp: load operands, multiply                        mma
   *     one thread: copy a step; four warps: multiply                                       wgmma
   */
  readonly multiply: 'mma' | 'wgmma' | Fit;
  /** Steps of 64 columns whose copies are under way or in use: fewer where they do not fit. */
  readonly slots: number;
  /**
   * The fewest tokens of a launch, more than a pass has: fewer go through passes of the plan beside it. `fit`: as predictions have it.
   *     while (left > 1) left -= left > from ? launch(left - 1) : pass(left)
   */
  readonly from: number | Fit;
}

/** 0 for a stage of which no op is named. */
export type PollCycles = Readonly<Partial<Record<OpName, number>>>;

/** How the stages of a plan wait for each other. */
export type Scheme = BarriersScheme | StreamScheme | TilesScheme;
/** Some options of a scheme, to change in a plan that has it. */
export type Tuning =
  | Partial<Omit<BarriersScheme, 'kind'>>
  | Partial<Omit<StreamScheme, 'kind'>>
  | Partial<Omit<TilesScheme, 'kind'>>;

/** What `pointwise(...)` returns: an arrow function that knows where it was written. */
export type PointwiseFunction = ((...values: number[]) => number) & { readonly at?: Site };
/** The pointwise ops of a plan that compute something else. */
export type OpFunctions = Readonly<Partial<Record<PointwiseOpName, PointwiseFunction>>>;

/** What a plan computes otherwise. */
export interface PlanOptions {
  /**
   * Pointwise ops that compute something else in this plan: the generated code and the reference of `gen verify` both take it from here.
   * A plan for prompts beside it has the same.
   *     const geglu = pointwise((gate: f32, up: f32) => gelu(gate) * up);
   *     export default plan('geglu', stages, stream(), { ops: { swiglu: geglu } });
   */
  readonly ops?: OpFunctions;
}

/** A plan as data. */
export interface PlanData {
  readonly name: string;
  readonly stages: readonly Stage[];
  readonly scheme: Scheme;
  /** Where the functions of ops that compute something else are written. */
  readonly ops: Readonly<Partial<Record<OpName, Site>>>;
  /** The plan file, from the working folder; null for a plan that has none. */
  readonly file: string | null;
  readonly at: Site;
}

/** A change of a plan at an op or a stage: `own`, `into`, `dealt`. */
export type PlanEdit = (stages: readonly Stage[], key: string, at: Site) => readonly Stage[];

/** A plan, and what makes another of it. */
export interface FusionPlan extends PlanData {
  /**
   * The same plan but for some ops or stages, under another name.
   *     cooperative.with('norms-once', { attn_norm: own({ over: 'tokens' }), ffn_norm: own({ over: 'tokens' }) })
   *     cooperative.with('prefetched', {}, { prefetch: 2 })
   */
  readonly with: (
    name: string,
    edits: Readonly<Record<string, PlanEdit>>,
    scheme?: Scheme | Tuning,
    options?: PlanOptions,
  ) => FusionPlan;
  /** The functions of `ops`. */
  readonly functions: OpFunctions;
}

/** The options of a scheme, which the function of its name has made.
 *  @throws PlanError for what is no options, and for a kind among them */
function schemeOptions<Options>(kind: Scheme['kind'], options: Options, at: Site): Options {
  needOptions({ at, call: kind }, options, { owner: `${kind}()`, refused: ['kind'] });
  return options;
}

/** Stages that meet at barriers. */
export const barriers = (options: Partial<Omit<BarriersScheme, 'kind'>> = {}): BarriersScheme => ({
  prefetch: 0,
  prefetchBy: 'all',
  blocks: fit,
  warps: fit,
  loadBits: 128,
  loadsInFlight: 12,
  buffers: 0,
  producers: 0,
  barrier: 'atomic',
  inputs: 'shared',
  inputBits: 16,
  tokens: 'many',
  ...schemeOptions('barriers', options, callSite()),
  kind: 'barriers',
});

/** Stages that hand words to each other while their weights stream through shared memory. */
export const stream = (options: Partial<Omit<StreamScheme, 'kind'>> = {}): StreamScheme => ({
  slots: 12,
  slotBytes: fit,
  copiesInFlight: fit,
  headCopiesInFlight: 8,
  handoff: 'sentinel',
  splits: fit,
  copy: fit,
  blocks: fit,
  pollCycles: fit,
  tokens: 'many',
  ...schemeOptions('stream', options, callSite()),
  kind: 'stream',
});

/** Stages for many tokens, whose products are tiles. */
export const tiles = (options: Partial<Omit<TilesScheme, 'kind'>> = {}): TilesScheme => ({
  tokenTile: fit,
  rowTile: fit,
  multiply: fit,
  slots: 8,
  from: fit,
  tokens: 'many',
  ...schemeOptions('tiles', options, callSite()),
  kind: 'tiles',
});

/**
 * Splits of the positions by context: splits -> first position.
 *     byContext({ 1: 0, 4: 192, 16: 1024 })      one block a head up to 191, four from 192 on, sixteen from 1,024 on
 */
export function byContext(steps: Readonly<Record<number, number>>): readonly SplitStep[] {
  if (typeof steps !== 'object' || steps === null)
    needOptions({ at: callSite(), call: 'byContext' }, steps, { owner: 'byContext()' });
  return Object.entries(steps)
    .map(([splits, from]) => ({ splits: Number(splits), from }))
    .sort((a, b) => a.from - b.from);
}

/** One stage: its ops in order, and how its work is dealt. Records the line it is called from. */
export function stage(name: string, ops: readonly OpName[], options: StageOptions): Stage {
  return stageOf(name, ops, options, callSite());
}

/** What makes a stage or a plan what it is, besides its options: none of it is changed by one. */
const ofStages = ['name', 'ops', 'at'];
const ofPlans = ['name', 'stages', 'scheme', 'file', 'at', 'with', 'functions'];

/** Keeps options that there are not: who checks the plan refuses them, with their line. */
function stageOf(name: string, ops: readonly OpName[], options: StageOptions, at: Site): Stage {
  const given = options ?? {};
  needOptions({ at, call: name }, given, { owner: stageText(name), refused: ofStages });
  const { over, recompute = [], split = 'none', ...unknown } = given;
  return { ...unknown, name, ops, over, recompute, split, at };
}

/** A fusion plan: stages in execution order, and how those of different blocks are ordered. Stages of `layer` ops are run once a layer. */
export function plan(
  name: string,
  stages: readonly Stage[],
  scheme: Scheme = barriers(),
  options: PlanOptions = {},
): FusionPlan {
  const at = callSite();
  needOptions({ at, call: name }, options, { owner: 'a plan', refused: ofPlans });
  const { ops: functions = {}, ...unknown } = options;
  needFunctions(functions, name, at);
  const ops = sitesOf(functions);
  return planOf({ ...unknown, name, stages, scheme, ops, file: null, at }, functions);
}

const needFunctions = (functions: OpFunctions, call: string, at: Site): void =>
  needOptions({ at, call }, functions, { owner: 'ops' });

const sitesOf = (functions: OpFunctions): PlanData['ops'] =>
  Object.fromEntries(Object.entries(functions).map(([op, made]) => [op, made?.at ?? nowhere]));

/** Data as a plan: what can be written as JSON stays apart from what it can do. */
export function planOf(data: PlanData, functions: OpFunctions = {}): FusionPlan {
  const vary: FusionPlan['with'] = (name, edits, changed = {}, options = {}) => {
    const at = callSite();
    needEdits({ at, call: name }, edits, changed);
    needOptions({ at, call: name }, options, { owner: 'a plan', refused: ofPlans });
    const scheme: Scheme = 'kind' in changed ? changed : ({ ...data.scheme, ...changed } as Scheme);
    const stages = Object.entries(edits).reduce((made, [key, edit]) => edit(made, key, at), data.stages);
    const { ops: own = {}, ...unknown } = options;
    needFunctions(own, name, at);
    const all = { ...functions, ...own };
    return planOf({ ...data, ...unknown, name, stages, scheme, ops: sitesOf(all), file: null, at }, all);
  };
  const made = Object.defineProperty({ ...data }, 'with', { value: vary });
  return Object.defineProperty(made, 'functions', { value: functions }) as unknown as FusionPlan;
}

/** A plan with other data and the same functions, which a copy of its fields would lack. */
export const changed = (plan: FusionPlan, data: Partial<PlanData>): FusionPlan =>
  planOf({ ...plan, ...data }, plan.functions);

/** Stages without an op; those left empty are gone. */
const without = (stages: readonly Stage[], op: string): readonly Stage[] =>
  stages
    .map((stage) => ({
      ...stage,
      ops: stage.ops.filter((name) => name !== op),
      recompute: stage.recompute.filter((name) => name !== op),
    }))
    .filter((stage) => stage.ops.length > 0);

const orderOf = (op: string): number => opNames.indexOf(op as OpName);

/** The op as a stage of its own, called as the op. */
export const own =
  (options: StageOptions): PlanEdit =>
  (stages, key, at) => {
    needOp(opNames, stages, key, at);
    const left = without(stages, key);
    const behind = left.findIndex((stage) => orderOf(stage.ops[0]!) > orderOf(key));
    const made = stageOf(key, [key as OpName], options, at);
    return left.toSpliced(behind === -1 ? left.length : behind, 0, made);
  };

/** The op in another stage, among its ops in the order of a pass. */
export const into =
  (stage: string, options: { readonly recompute?: boolean } = {}): PlanEdit =>
  (stages, key, at) => {
    needOp(opNames, stages, key, at);
    needStage(stages, stage, key, at);
    needCompany(stages, stage, key, at);
    needOptions({ at, call: key }, options, { owner: 'into()', taken: ['recompute'] });
    needSwitch({ at, call: key }, 'recompute', options.recompute, 'into()');
    const op = key as OpName;
    return without(stages, key).map((other) => {
      if (other.name !== stage) return other;
      const ops = [...other.ops, op].sort((a, b) => orderOf(a) - orderOf(b));
      return {
        ...other,
        ops,
        recompute: options.recompute ? [...other.recompute, op] : other.recompute,
        at,
      };
    });
  };

/** The stage of this name, dealt in another way. */
export const dealt =
  (options: Partial<StageOptions>): PlanEdit =>
  (stages, key, at) => {
    needStage(stages, key, key, at);
    needOptions({ at, call: key }, options, { owner: `stage '${key}'`, refused: ofStages });
    return stages.map((stage) => (stage.name === key ? { ...stage, ...options, at } : stage));
  };
