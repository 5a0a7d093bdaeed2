// Each rule about tiles has a smallest illegal plan, in test/illegal/tiles.ts, and its whole message.
import { describe, expect, test } from 'vitest';
import { generate } from '../../codegen/index.ts';
import type { ModelDims } from '../../codegen/model/dims.ts';
import { decoderGraph } from '../../codegen/model/graph.ts';
import { checkPlan } from '../../codegen/plan/check.ts';
import { formatIssues } from '../../codegen/plan/issue.ts';
import type { FusionPlan } from '../../codegen/plan/plan.ts';
import { tilesScheme } from '../../codegen/schemes/tiles/index.ts';
import { models } from '../../configs/models.ts';
import cooperative from '../../configs/plans/cooperative.ts';
import prefill from '../../configs/plans/prefill.ts';
import stream from '../../configs/plans/stream.ts';
import { targetNamed, targets } from '../../configs/targets.ts';
import * as illegal from '../illegal/tiles.ts';

const qwen = models.find((model) => model.name === 'qwen3-0.6b')!;
const targetOf = (name: string) => targetNamed(name)!;
const check = (made: FusionPlan, changes: Partial<ModelDims> = {}, target = 'h100') =>
  checkPlan(decoderGraph({ ...qwen, ...changes }), made, targetOf(target));
const message = (...args: Parameters<typeof check>) => formatIssues(check(...args));

describe('tiles are refused', () => {
  test('for weights that the matrix instructions do not take', () => {
    expect(message(illegal.whole, { dtype: 'fp32' })).toMatchInlineSnapshot(`
      "tiles.ts:7:44: error: tiles-not-half
        7 | export const whole = plan('whole', stages, tiles());
          |                                            ^^^^^
        the weights of qwen3-0.6b are fp32, and the matrix instructions of tiles take bf16 or fp16."
    `);
  });

  test('for heads of an odd size', () => {
    expect(message(illegal.whole, { headDim: 127 })).toMatchInlineSnapshot(`
      "tiles.ts:7:44: error: tiles-odd-head
        7 | export const whole = plan('whole', stages, tiles());
          |                                            ^^^^^
        a head of qwen3-0.6b has 127 elements, and tiles store them in pairs."
    `);
    expect(message(illegal.whole, { headDim: 96 })).toMatchInlineSnapshot(`
      "tiles.ts:7:44: error: tiles-odd-head
        7 | export const whole = plan('whole', stages, tiles());
          |                                            ^^^^^
        a head of qwen3-0.6b has 96 elements, which in the cache are 96, and four warps together attend to a power of two.
        Legal here: multiply: 'mma'."
    `);
  });

  test('on a CPU', () => {
    expect(message(illegal.whole, {}, 'cpu')).toMatchInlineSnapshot(`
      "tiles.ts:7:44: error: tiles-without-cores
        7 | export const whole = plan('whole', stages, tiles());
          |                                            ^^^^^
        cpu has no matrix instructions for tiles; it takes prompts through passes of its plan."
    `);
  });

  test('for more tokens than a launch has, and for none', () => {
    expect(message(illegal.tokens)).toMatchInlineSnapshot(`
      "tiles.ts:8:62: error: tokens
        8 | export const tokens = plan('tokens', stages, tiles({ tokens: 3000 }));
          |                                                              ^^^^
        a launch of tiles has 1 to 2048 tokens, not 3000.
        Legal here: tokens: 'many'."
    `);
    expect(message(illegal.noTokens)).toMatchInlineSnapshot(`
      "tiles.ts:9:67: error: tokens
        9 | export const noTokens = plan('no_tokens', stages, tiles({ tokens: 0 }));
          |                                                                   ^
        a launch of tiles has 1 to 2048 tokens, not 0.
        Legal here: tokens: 'many'."
    `);
    for (const tokens of [1, 64, 1024, 'many'] as const)
      expect(check(prefill.with('some', {}, { tokens })), String(tokens)).toEqual([]);
  });

  test('with an op that every block makes for itself', () => {
    expect(message(illegal.recomputed)).toMatchInlineSnapshot(`
      "tiles.ts:10:35: error: tiles-stage
        10 | export const recomputed = prefill.with('recomputed', { final_norm: into('head', { recompute: true }) });
           |                                   ^^^^
        stage 'head' recomputes final_norm, and logits are made of a few tokens alone; tiles can have a stage of final_norm alone.
        Legal here: give final_norm a stage of its own."
    `);
  });

  test('with heads that a tile cuts, where their norm is in it', () => {
    expect(message(prefill, { headDim: 80 })).toMatchInlineSnapshot(`
      "prefill.ts:19:3: error: tiles-odd-head
        19 |   tiles(),
           |   ^^^^^
        a head of qwen3-0.6b has 80 elements, which in the cache are 96, and four warps together attend to a power of two.
        Legal here: multiply: 'mma'.

      prefill.ts:8:64: error: tiles-with-split-heads
        8 |     stage('qkv', ['attn_norm', 'qkv_proj', 'qk_norm', 'rope', 'kv_append'], {
          |                                                                ^^^^^^^^^
        a tile of 128 rows has no whole heads of 80, as qwen3-0.6b has them.
        Legal here: end stage 'qkv' before qk_norm."
    `);
    expect(message(prefill, { qkvBias: true })).toMatchInlineSnapshot(`
      "prefill.ts:8:64: error: tiles-with-split-heads
        8 |     stage('qkv', ['attn_norm', 'qkv_proj', 'qk_norm', 'rope', 'kv_append'], {
          |                                                                ^^^^^^^^^
        queries of qwen3-0.6b have biases and norms, and a tile norms what has none.
        Legal here: end stage 'qkv' before qk_norm."
    `);
    expect(check(prefill, { headDim: 32 })).toEqual([]);
  });

  test('with products of four warps where there are none', () => {
    expect(message(illegal.wgmma, {}, 'a100')).toMatchInlineSnapshot(`
      "tiles.ts:12:61: error: wgmma-without-cores
        12 | export const wgmma = prefill.with('wgmma', {}, { multiply: 'wgmma' });
           |                                                             ^^^^^
        a100 is sm_80, and products of four warps together are sm_90a's alone.
        Legal here: multiply: 'mma'; or multiply: 'fit'."
    `);
    expect(check(illegal.wgmma)).toEqual([]);
  });

  test('with attention that splits the positions', () => {
    expect(message(illegal.split)).toMatchInlineSnapshot(`
      "tiles.ts:11:30: error: tiles-stage
        11 | export const split = prefill.with('split', { attention: dealt({ split: 'positions', over: 'kv_heads' }) });
           |                              ^^^^
        stage 'attention' splits the positions, and tokens are many enough; tiles can have attention without split.

      tiles.ts:11:30: error: sync-inside-stage
        11 | export const split = prefill.with('split', { attention: dealt({ split: 'positions', over: 'kv_heads' }) });
           |                              ^^^^
        attn_merge needs a whole q head of partial, but in stage 'attention' each block makes only its own split of the positions."
    `);
  });

  test('with an op behind a product that needs more than its rows', () => {
    expect(message(illegal.headsBehindProduct)).toMatchInlineSnapshot(`
      "tiles.ts:25:32: error: sync-inside-stage
        25 |     stage('qkv', ['qkv_proj', 'qk_norm'], { over: 'rows' }),
           |                                ^^^^^^^
        qk_norm needs a whole q head of q, but in stage 'qkv' each block makes only its own rows."
    `);
  });

  test('with attention that another stage merges', () => {
    expect(message(illegal.unmerged)).toMatchInlineSnapshot(`
      "tiles.ts:33:26: error: tiles-stage
        33 |     stage('attention', ['attend'], { over: 'q_heads' }),
           |                          ^^^^^^
        stage 'attention' has no attn_merge; tiles can have attend, attn_merge.

      tiles.ts:34:22: error: tiles-stage
        34 |     stage('merge', ['attn_merge'], { over: 'q_heads' }),
           |                      ^^^^^^^^^^
        stage 'merge' begins with attn_merge; tiles can have a product first, and in its stage the ops on its rows."
    `);
  });

  test('with a pointwise op alone', () => {
    expect(message(illegal.addAlone)).toMatchInlineSnapshot(`
      "tiles.ts:40:70: error: tiles-stage
        40 |   by(stage('attn_out', ['o_proj'], { over: 'rows' }), stage('add', ['attn_add'], { over: 'rows' })),
           |                                                                      ^^^^^^^^
        stage 'add' begins with attn_add; tiles can have a product first, and in its stage the ops on its rows."
    `);
  });

  test('where not even two small tiles fit', () => {
    const small = { ...targetOf('h100'), sharedBytes: 24 * 1024, name: 'small' };
    expect(formatIssues(checkPlan(decoderGraph(qwen), illegal.whole, small))).toMatchInlineSnapshot(`
      "tiles.ts:7:28: error: shared-memory-over-budget
        7 | export const whole = plan('whole', stages, tiles());
          |                            ^^^^^
        two steps of a tile and its results needs 67 KiB of shared memory a block, and small has 24."
    `);
  });
});

test('the plan for prompts is legal for every model of 16-bit weights on every GPU, and for no CPU', () => {
  const half = models.filter(({ dtype }) => dtype !== 'fp32');
  const legal = half.flatMap((dims) =>
    targets()
      .filter((target) => checkPlan(decoderGraph(dims), prefill, target).length === 0)
      .map(({ name }) => `${dims.name} ${name}`),
  );
  const gpus = ['h100', 'h200', 'a100', 'rtx3090', 'rtx4090', 'rtx5090', 'b200'];
  expect(gpus).toEqual(
    targets()
      .filter(({ kind }) => kind === 'cuda')
      .map(({ name }) => name),
  );
  expect(legal).toEqual(half.flatMap(({ name }) => gpus.map((gpu) => `${name} ${gpu}`)));
  expect(half.length).toBeGreaterThanOrEqual(10);
});

test('two steps of every tile fit beside its results, on every GPU where the plan is legal', () => {
  const wide = [128, 64].flatMap((tokenTile) =>
    [128, 64].map((rowTile) => prefill.with('wide', {}, { tokenTile, rowTile } as never)),
  );
  const tall = prefill.with('tall', {}, { tokenTile: 128 });
  let most = 0;
  for (const dims of models) {
    for (const target of targets()) {
      for (const plan of [prefill, tall, ...wide]) {
        const graph = decoderGraph(dims);
        if (checkPlan(graph, plan, target).length > 0) continue;
        const { kernels, slotsBytes, resultsBytes, sharedBytes } = tilesScheme.lower(graph, plan, target);
        const where = `${dims.name} ${target.name} ${plan.name}`;
        for (const { tokens, rows } of kernels) {
          for (const side of Object.values(rows)) {
            expect(slotsBytes, where).toBeGreaterThanOrEqual(2 * (tokens + side) * 64 * 2);
            expect(resultsBytes, where).toBeGreaterThanOrEqual(tokens * side * 4);
          }
        }
        expect(sharedBytes, where).toBeLessThanOrEqual(target.sharedBytes);
        most += 1;
      }
    }
  }
  expect(most).toBeGreaterThan(200);
});

test('tiles of many tokens are refused where those of whole heads do not fit beside them', () => {
  const tall = prefill.with('tall', {}, { tokenTile: 128 });
  expect(check(tall, {}, 'rtx4090').map(({ rule }) => rule)).toEqual(['shared-memory-over-budget']);
  expect(check(tall, { headDim: 64 }, 'rtx4090')).toEqual([]);
  expect(check(tall, {}, 'a100')).toEqual([]);
});

describe('two plans that do not go together are refused:', () => {
  const made = (plan: FusionPlan, promptPlan: FusionPlan | null, target = 'h100') =>
    generate({ dims: qwen, plan, promptPlan, target: targetOf(target) }).then(
      () => 'made',
      ({ message, hint }: { message: string; hint: string }) => `${message}; ${hint}`,
    );

  test('one for prompts that is to decode', async () => {
    expect(await made(prefill, null)).toMatchInlineSnapshot(
      `"plan prefill takes in prompts and makes no tokens; give it as --prompt-plan prefill, beside a plan that decodes"`,
    );
  });
  test('one that decodes and is to take in prompts', async () => {
    expect(await made(stream, cooperative)).toMatchInlineSnapshot(
      `"plan cooperative decodes: a plan for prompts has tiles; give it as --plan cooperative, and for prompts one that ends in tiles(...), such as prefill"`,
    );
  });
  test('one for prompts beside barriers', async () => {
    expect(await made(cooperative, prefill)).toMatchInlineSnapshot(
      `"plan prefill reads the weights of a stream, and cooperative has barriers; give it beside --plan stream"`,
    );
  });
  test('any on a CPU, by the rule that says so', async () => {
    expect(await made(cooperative, prefill, 'cpu')).toContain('cpu has no matrix instructions for tiles');
  });
  test('and nothing else', async () => {
    expect(await made(stream, prefill)).toBe('made');
    expect(await made(stream, prefill, 'a100')).toBe('made');
  });
});
