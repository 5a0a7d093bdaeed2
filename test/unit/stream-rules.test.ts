// Each rule about streams has a smallest illegal plan, in test/illegal/streams.ts, and its whole message.
import { describe, expect, test } from 'vitest';
import type { ModelDims } from '../../codegen/model/dims.ts';
import { decoderGraph } from '../../codegen/model/graph.ts';
import { checkPlan } from '../../codegen/plan/check.ts';
import { formatIssues } from '../../codegen/plan/issue.ts';
import { direct, type FusionPlan } from '../../codegen/plan/plan.ts';
import { models } from '../../configs/models.ts';
import stream from '../../configs/plans/stream.ts';
import unfused from '../../configs/plans/unfused.ts';
import { targets } from '../../configs/targets.ts';
import * as illegal from '../illegal/streams.ts';

const modelOf = (name: string): ModelDims => models.find((model) => model.name === name)!;
const qwen = modelOf('qwen3-0.6b');
const check = (made: FusionPlan, changes: Partial<ModelDims> = {}, target = 'h100') =>
  checkPlan(decoderGraph({ ...qwen, ...changes }), made, targets.find((one) => one.name === target)!);
const message = (...args: Parameters<typeof check>) => formatIssues(check(...args));

describe('a stream is refused', () => {
  test('without its exchanges, and exchanges without a stream', () => {
    expect(message(illegal.noStream)).toMatchInlineSnapshot(`
      "streams.ts:18:60: error: exchange-without-stream
        18 | export const noStream = plan('no_stream', stages, { sync: 'exchange' });
           |                                                            ^^^^^^^^
        only blocks with a stream exchange words: those that load their own weights meet at barriers.
        Legal here: weights: stream(); or sync: 'barrier'."
    `);
    expect(message(illegal.noExchange)).toMatchInlineSnapshot(`
      "streams.ts:19:66: error: stream-without-exchange
        19 | export const noExchange = plan('no_exchange', stages, { weights: stream() });
           |                                                                  ^^^^^^
        the blocks of a stream exchange words: they have no barrier at which all meet.
        Legal here: sync: 'exchange'; or weights: direct()."
    `);
  });

  test('on a CPU', () => {
    expect(message(illegal.whole, {}, 'cpu')).toMatchInlineSnapshot(`
      "streams.ts:17:73: error: stream-off-gpu
        17 | export const whole = plan('whole', stages, { sync: 'exchange', weights: stream() });
           |                                                                         ^^^^^^
        cpu has no shared memory to stream weights through.
        Legal here: sync: 'barrier', weights: direct()."
    `);
  });

  test('for weights that the matrix instructions do not take', () => {
    expect(message(illegal.whole, { dtype: 'fp32' })).toMatchInlineSnapshot(`
      "streams.ts:17:73: error: weights-not-half
        17 | export const whole = plan('whole', stages, { sync: 'exchange', weights: stream() });
           |                                                                         ^^^^^^
        the weights of qwen3-0.6b are fp32, and the matrix instructions of a stream take bf16 or fp16.
        Legal here: sync: 'barrier', weights: direct()."
    `);
  });

  test('for heads of an odd size', () => {
    expect(message(illegal.whole, { headDim: 127 })).toMatchInlineSnapshot(`
      "streams.ts:17:73: error: odd-head
        17 | export const whole = plan('whole', stages, { sync: 'exchange', weights: stream() });
           |                                                                         ^^^^^^
        a head of qwen3-0.6b has 127 elements, and a stream hands them over in pairs.
        Legal here: sync: 'barrier', weights: direct()."
    `);
  });

  test('for more kv heads than blocks', () => {
    const heads = { qHeads: 133, kvHeads: 133 };
    expect(message(illegal.whole, heads)).toMatchInlineSnapshot(`
      "streams.ts:17:73: error: kv-heads-without-block
        17 | export const whole = plan('whole', stages, { sync: 'exchange', weights: stream() });
           |                                                                         ^^^^^^
        each of the 133 kv heads of qwen3-0.6b needs a block of its own, and h100 has room for 132.
        Legal here: sync: 'barrier', weights: direct()."
    `);
    expect(check(illegal.whole, { qHeads: 132, kvHeads: 132 })).toEqual([]);
  });

  test('for more query heads of a kv head than a block has room for', () => {
    expect(message(illegal.whole, { qHeads: 65, kvHeads: 1 })).toMatchInlineSnapshot(`
      "streams.ts:17:73: error: queries-do-not-fit
        17 | export const whole = plan('whole', stages, { sync: 'exchange', weights: stream() });
           |                                                                         ^^^^^^
        65 query heads of qwen3-0.6b share a kv head, and a block of a stream has room for 64.
        Legal here: sync: 'barrier', weights: direct()."
    `);
    expect(check(illegal.whole, { qHeads: 64, kvHeads: 1 })).toEqual([]);
  });

  test('with a number of tokens that it has no kernel for', () => {
    expect(message(illegal.tokens)).toMatchInlineSnapshot(`
      "streams.ts:20:93: error: tokens
        20 | export const tokens = plan('tokens', stages, { sync: 'exchange', weights: stream(), tokens: 12 });
           |                                                                                             ^^
        a pass of a stream has 1, 2, 4, 8 or 16 tokens, not 12.
        Legal here: tokens: 8; or tokens: 'many'."
    `);
    for (const tokens of [1, 2, 4, 8, 16, 'many'] as const) {
      expect(check({ ...stream, options: { ...stream.options, tokens } }), String(tokens)).toEqual([]);
    }
  });

  test('with more queries in a pass than a block has room for', () => {
    expect(message(illegal.manyTokens, { qHeads: 40, kvHeads: 8 })).toMatchInlineSnapshot(`
      "streams.ts:21:102: error: tokens
        21 | export const manyTokens = plan('many_tokens', stages, { sync: 'exchange', weights: stream(), tokens: 16 });
           |                                                                                                      ^^
        16 tokens with 5 query heads a kv head are 80 queries, and a block of a stream has room for 64.
        Legal here: tokens: 8; or tokens: 'many'."
    `);
    expect(check(illegal.manyTokens, { qHeads: 32, kvHeads: 8, headDim: 64 })).toEqual([]);
  });

  test('with slots that hold too little, or parts of cells', () => {
    expect(message(illegal.smallTile)).toMatchInlineSnapshot(`
      "streams.ts:22:97: error: tile-size
        22 | export const smallTile = plan('small_tile', stages, { sync: 'exchange', weights: stream({ tile: 4096 }) });
           |                                                                                                 ^^^^
        a slot of 4096 bytes has no room for 16 cached positions of a head of 128, which take 8192.
        Legal here: tile: 8192; or tile: 16384; or tile: 32768."
    `);
    expect(message(illegal.oddTile)).toMatchInlineSnapshot(`
      "streams.ts:23:93: error: tile-size
        23 | export const oddTile = plan('odd_tile', stages, { sync: 'exchange', weights: stream({ tile: 20480 }) });
           |                                                                                             ^^^^^
        a slot has whole cells of all warps: 8192, 16384, 32768 bytes, not 20480.
        Legal here: tile: 8192; or tile: 16384; or tile: 32768."
    `);
  });

  test('with too few slots', () => {
    expect(message(illegal.fewSlots)).toMatchInlineSnapshot(`
      "streams.ts:24:97: error: too-few-slots
        24 | export const fewSlots = plan('few_slots', stages, { sync: 'exchange', weights: stream({ stages: 3 }) });
           |                                                                                                 ^
        a ring of 3 slots runs dry: 4 are the fewest.
        Legal here: stages: 4."
    `);
  });

  test('with a stage named like a variable of its kernel', () => {
    expect(message(illegal.variable)).toMatchInlineSnapshot(`
      "streams.ts:27:11: error: stage-name
        27 |   [stage('step', ['embed'], { over: 'rows' }), ...stages.slice(1)],
           |           ^^^^
        'step' already means something in the generated code.
        Legal here: 'embed'."
    `);
    const { sync, weights } = unfused.options;
    expect(check({ ...illegal.variable, options: { ...illegal.variable.options, sync, weights } })).toEqual(
      [],
    );
  });
});

describe('a stream is refused where a stage', () => {
  test('begins in the middle of one', () => {
    expect(message(illegal.begins)).toMatchInlineSnapshot(`
      "streams.ts:34:26: error: stream-stage
        34 |     stage('attn_norm', ['attn_norm'], { over: 'tokens' }),
           |                          ^^^^^^^^^
        stage 'attn_norm' ends with attn_norm, but a stream has attn_norm*, qkv_proj as one stage over 'rows' (* recomputed).
        Legal here: stage('qkv_proj', ['attn_norm', 'qkv_proj'], { over: 'rows', recompute: ['attn_norm'] }); or sync: 'barrier', weights: direct().

      streams.ts:35:25: error: stream-stage
        35 |     stage('qkv_proj', ['qkv_proj'], { over: 'rows' }),
           |                         ^^^^^^^^
        stage 'qkv_proj' begins with qkv_proj, but a stream has attn_norm*, qkv_proj as one stage over 'rows' (* recomputed).
        Legal here: stage('qkv_proj', ['attn_norm', 'qkv_proj'], { over: 'rows', recompute: ['attn_norm'] }); or sync: 'barrier', weights: direct()."
    `);
  });

  test('goes on with the next one', () => {
    expect(message(illegal.goesOn)).toMatchInlineSnapshot(`
      "streams.ts:42:39: error: stream-stage
        42 |     stage('attn_out', ['attn_merge', 'o_proj', 'attn_add'], { over: 'rows', recompute: ['attn_merge'] }),
           |                                       ^^^^^^
        stage 'attn_out' goes on with o_proj, but a stream has attn_merge as one stage over 'q_heads'.
        Legal here: stage('merge', ['attn_merge'], { over: 'q_heads' }); or sync: 'barrier', weights: direct()."
    `);
  });

  test('ends before the end of one', () => {
    expect(message(illegal.ends)).toMatchInlineSnapshot(`
      "streams.ts:48:28: error: stream-stage
        48 |   around(stage('o_proj', ['o_proj'], { over: 'rows' }), stage('attn_add', ['attn_add'], { over: 'rows' })),
           |                            ^^^^^^
        stage 'o_proj' ends with o_proj, but a stream has o_proj, attn_add as one stage over 'rows'.
        Legal here: stage('attn_add', ['o_proj', 'attn_add'], { over: 'rows' }); or sync: 'barrier', weights: direct().

      streams.ts:48:77: error: stream-stage
        48 |   around(stage('o_proj', ['o_proj'], { over: 'rows' }), stage('attn_add', ['attn_add'], { over: 'rows' })),
           |                                                                             ^^^^^^^^
        stage 'attn_add' begins with attn_add, but a stream has o_proj, attn_add as one stage over 'rows'.
        Legal here: stage('attn_add', ['o_proj', 'attn_add'], { over: 'rows' }); or sync: 'barrier', weights: direct()."
    `);
  });

  test('does not recompute what a block keeps', () => {
    expect(message(illegal.notRecomputed)).toMatchInlineSnapshot(`
      "streams.ts:54:37: error: stream-stage
        54 |     stage('attention', ['qk_norm', 'rope', 'kv_append', 'attend'], {
           |                                     ^^^^
        stage 'attention' does not recompute rope, but a stream has qk_norm*, rope*, kv_append, attend as one stage over 'kv_heads', positions split (* recomputed).
        Legal here: stage('attention', ['qk_norm', 'rope', 'kv_append', 'attend'], { over: 'kv_heads', split: 'positions', recompute: ['qk_norm', 'rope'] }); or sync: 'barrier', weights: direct()."
    `);
  });

  test('does not split the positions', () => {
    expect(message(illegal.notSplit)).toMatchInlineSnapshot(`
      "streams.ts:64:58: error: stream-stage
        64 |     stage('attention', ['qk_norm', 'rope', 'kv_append', 'attend'], {
           |                                                          ^^^^^^
        stage 'attention' does not split the positions, but a stream has qk_norm*, rope*, kv_append, attend as one stage over 'kv_heads', positions split (* recomputed).
        Legal here: stage('attention', ['qk_norm', 'rope', 'kv_append', 'attend'], { over: 'kv_heads', split: 'positions', recompute: ['qk_norm', 'rope'] }); or sync: 'barrier', weights: direct()."
    `);
  });
});

describe('a stream that needs more shared memory than the target has', () => {
  test('for the tokens of a pass', () => {
    expect(message(illegal.manyTokens, {}, 'a100')).toMatchInlineSnapshot(`
      "streams.ts:21:102: error: shared-memory-over-budget
        21 | export const manyTokens = plan('many_tokens', stages, { sync: 'exchange', weights: stream(), tokens: 16 });
           |                                                                                                      ^^
        a pass of 16 tokens with 4 slots of 16 KiB needs 204 KiB of shared memory a block, and a100 has 163.
        Legal here: tokens: 8; or tokens: 'many'."
    `);
  });

  test('for a single one', () => {
    expect(message(illegal.whole, modelOf('qwen3-8b'), 'rtx4090')).toMatchInlineSnapshot(`
      "streams.ts:17:28: error: shared-memory-over-budget
        17 | export const whole = plan('whole', stages, { sync: 'exchange', weights: stream() });
           |                            ^^^^^
        a pass of 1 token with 4 slots of 16 KiB needs 102 KiB of shared memory a block, and rtx4090 has 99.
        Legal here: tile: 8192; or sync: 'barrier', weights: direct()."
    `);
  });
});

test('the built-in stream is legal for every model on the GPUs of data centres', () => {
  for (const dims of models) {
    for (const target of ['a100', 'h100', 'h200', 'b200']) expect(message(stream, dims, target)).toBe('');
  }
});

test('its stages are legal with barriers everywhere', () => {
  const options = { ...stream.options, sync: 'barrier', weights: direct() } as const;
  for (const { name } of targets) expect(message({ ...stream, options }, {}, name)).toBe('');
});

test('a message points at the number of the option, and at the word where the number is not written', () => {
  const carets = (made: FusionPlan, changes: Partial<ModelDims>) => {
    const [, line, marks] = message(made, changes).split('\n') as [string, string, string];
    return line.slice(marks.indexOf('^'), marks.lastIndexOf('^') + 1);
  };
  expect(carets(illegal.smallTile, {})).toBe('4096');
  expect(carets(illegal.whole, { headDim: 512 })).toBe('stream');
});
