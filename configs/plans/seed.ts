// The decode kernel of MegaQwen (https://github.com/Infatoshi/MegaQwen, csrc/megakernel/fused_decode_ldg.cu) as a plan, and its named
// experiments, each an edit of it.
//
// The stages, and with them its eight grid barriers a layer, are the seed's, as are the options: 82 blocks of 8 warps, loads of 64 bits, eight
// unrolled, activations read from global memory, grid.sync(), one token a pass, and blocks that attention leaves idle fetching rows of the next
// products into L2. Ours otherwise: a row may be shared by two warps, LM head and sampling are in the same launch, and the key is normed where
// its queries are. What it measured, on an RTX 3090 with Qwen3-0.6B, stands beside each variant: DEVLOG.md and experiments/RESULTS.md there.
//
// Not here: heads that keep qkv_proj to the blocks of their head (0.67x), since a product is dealt by rows; and fast exponentials (no gain).
import { barriers, dealt, into, plan, stage } from '../../codegen/plan/plan.ts';

const seed = plan(
  'seed',
  [
    stage('embed', ['embed'], { over: 'rows' }),
    stage('attn_norm', ['attn_norm'], { over: 'tokens' }),
    stage('qkv', ['qkv_proj'], { over: 'rows' }),
    stage('heads', ['qk_norm', 'rope', 'kv_append'], { over: 'kv_heads' }),
    stage('attention', ['attend', 'attn_merge'], { over: 'q_heads' }),
    stage('attn_out', ['o_proj', 'attn_add'], { over: 'rows' }),
    stage('ffn_norm', ['ffn_norm'], { over: 'tokens' }),
    stage('ffn_up', ['gate_up', 'swiglu'], { over: 'rows' }),
    stage('ffn_down', ['down_proj', 'ffn_add'], { over: 'rows' }),
    stage('final_norm', ['final_norm'], { over: 'tokens' }),
    stage('head', ['lm_head'], { over: 'rows' }),
    stage('sample', ['sample'], { over: 'once' }),
  ],
  barriers({
    blocks: 82,
    warps: 8,
    loadBits: 64,
    loadsInFlight: 8,
    inputs: 'global',
    barrier: 'grid.sync',
    prefetch: 3,
    prefetchBy: 'idle',
    tokens: 1,
  }),
);
export default seed;

const ofProduct = (stage: string) => into(stage, { recompute: true });

export const variants = [
  /** Before idle blocks fetched: 242 tok/s at position 1, with it 525; 142 and 422 at position 200. */
  seed.with('seed-no-prefetch', {}, { prefetch: 0 }),
  /** Each block its own rows before it waits, as the plans of this project do. Not tried there. */
  seed.with('seed-own-prefetch', {}, { prefetch: 1, prefetchBy: 'all' }),
  /** Every block norms for itself, 56 barriers fewer: 170 to 215 tok/s on average, 0.9x at position 200. */
  seed.with('seed-redundant-norm', {
    attn_norm: ofProduct('qkv'),
    ffn_norm: ofProduct('ffn_up'),
    final_norm: ofProduct('head'),
  }),
  /** Head norm, rotation and append with attention: planned there, not measured. */
  seed.with('seed-fused-heads', {
    attn_merge: ofProduct('attn_out'),
    attention: dealt({ over: 'kv_heads' }),
    qk_norm: ofProduct('attention'),
    rope: ofProduct('attention'),
    kv_append: into('attention'),
  }),
  /** 1.904 to 1.838 ms a token: +3.5 %. */
  seed.with('seed-128-bit', {}, { loadBits: 128 }),
  /** Activations copied to shared memory first: 0.99x over 10 tokens, 0.63x over 50, 1.00x over 100. */
  seed.with('seed-shared-inputs', {}, { inputs: 'shared' }),
  /** Half and twice the loads in flight: the seed unrolls by eight and did not vary it. */
  seed.with('seed-in-flight-4', {}, { loadsInFlight: 4 }),
  seed.with('seed-in-flight-16', {}, { loadsInFlight: 16 }),
  /** Weights through shared memory, nothing overlapped: the step between direct loads and the next; not measured there. */
  seed.with('seed-cp-async', {}, { buffers: 1 }),
  /** cp.async into two buffers: 1.827 to 1.808 ms, +1 %. */
  seed.with('seed-double-buffer', {}, { buffers: 2 }),
  /** Warps that only fetch, of eight: 0: 509.9 tok/s on average, 1: 510.8, 2: 489.9, 3: 498.7, 4: 478.6. */
  seed.with('seed-producers-1', {}, { buffers: 2, producers: 1 }),
  seed.with('seed-producers-2', {}, { buffers: 2, producers: 2 }),
  seed.with('seed-producers-3', {}, { buffers: 2, producers: 3 }),
  seed.with('seed-producers-4', {}, { buffers: 2, producers: 4 }),
  /** Blocks, with two on some of its 82 multiprocessors where we have one on each: 82: 531.6 tok/s, 96: 521.7, 112: 508.8, 128: 533.9. */
  seed.with('seed-blocks-96', {}, { blocks: 96 }),
  seed.with('seed-blocks-112', {}, { blocks: 112 }),
  seed.with('seed-blocks-128', {}, { blocks: 128 }),
  seed.with('seed-blocks-fit', {}, { blocks: 'fit' }),
  /** Sixteen warps a block: not tried there. */
  seed.with('seed-warps-16', {}, { warps: 16 }),
  /** A counter of its own in the place of grid.sync(): explored there, without a result. */
  seed.with('seed-atomic-barrier', {}, { barrier: 'atomic' }),
];
