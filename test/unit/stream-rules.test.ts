// Each rule about streams has a smallest illegal plan, in test/illegal/streams.ts, and its whole message.
import { describe, expect, test } from 'vitest';
import type { ModelDims } from '../../codegen/model/dims.ts';
import { decoderGraph } from '../../codegen/model/graph.ts';
import { checkPlan } from '../../codegen/plan/check.ts';
import { withBarriers, withTokens } from '../../codegen/plan/edits.ts';
import { formatIssues } from '../../codegen/plan/issue.ts';
import {
  barriers,
  byContext,
  type FusionPlan,
  plan,
  type StreamScheme,
  stream as streamed,
} from '../../codegen/plan/plan.ts';
import { models } from '../../configs/models.ts';
import stream from '../../configs/plans/stream.ts';
import { targetNamed } from '../../configs/targets.ts';
import * as illegal from '../illegal/streams.ts';

const modelOf = (name: string): ModelDims => models.find((model) => model.name === name)!;
const qwen = modelOf('qwen3-0.6b');
const check = (made: FusionPlan, changes: Partial<ModelDims> = {}, target = 'h100') =>
  checkPlan(decoderGraph({ ...qwen, ...changes }), made, targetNamed(target)!);
const message = (...args: Parameters<typeof check>) => formatIssues(check(...args));

describe('a stream is refused', () => {
  test('for weights that the matrix instructions do not take', () => {
    expect(message(illegal.whole, { dtype: 'fp32' })).toMatchInlineSnapshot(`
      "streams.ts:7:44: error: weights-not-half
        7 | export const whole = plan('whole', stages, stream());
          |                                            ^^^^^^
        the weights of qwen3-0.6b are fp32, and the matrix instructions of a stream take bf16 or fp16.
        Legal here: barriers()."
    `);
  });

  test('for heads of an odd size', () => {
    expect(message(illegal.whole, { headDim: 127 })).toMatchInlineSnapshot(`
      "streams.ts:7:44: error: odd-head
        7 | export const whole = plan('whole', stages, stream());
          |                                            ^^^^^^
        a head of qwen3-0.6b has 127 elements, and a stream hands them over in pairs.
        Legal here: barriers()."
    `);
  });

  test('for more kv heads than blocks', () => {
    const heads = { qHeads: 133, kvHeads: 133 };
    expect(message(illegal.whole, heads)).toMatchInlineSnapshot(`
      "streams.ts:7:44: error: kv-heads-without-block
        7 | export const whole = plan('whole', stages, stream());
          |                                            ^^^^^^
        each of the 133 kv heads of qwen3-0.6b needs a block of its own, and h100 has room for 132.
        Legal here: barriers()."
    `);
    expect(check(illegal.whole, { qHeads: 132, kvHeads: 132 })).toEqual([]);
  });

  test('for more query heads of a kv head than a block has room for', () => {
    expect(message(illegal.whole, { qHeads: 65, kvHeads: 1 })).toMatchInlineSnapshot(`
      "streams.ts:7:44: error: queries-do-not-fit
        7 | export const whole = plan('whole', stages, stream());
          |                                            ^^^^^^
        65 query heads of qwen3-0.6b share a kv head, and a block of a stream has room for 64.
        Legal here: barriers()."
    `);
    expect(check(illegal.whole, { qHeads: 64, kvHeads: 1 })).toEqual([]);
  });

  test('with a number of tokens that it has no kernel for', () => {
    expect(message(illegal.tokens)).toMatchInlineSnapshot(`
      "streams.ts:8:63: error: tokens
        8 | export const tokens = plan('tokens', stages, stream({ tokens: 12 }));
          |                                                               ^^
        a pass of a stream has 1, 2, 4, 8 or 16 tokens, not 12.
        Legal here: tokens: 8; or tokens: 'many'."
    `);
    for (const tokens of [1, 2, 4, 8, 16, 'many'] as const) {
      expect(check(withTokens(stream, tokens)), String(tokens)).toEqual([]);
    }
  });

  test('with more queries in a pass than a block has room for', () => {
    expect(message(illegal.manyTokens, { qHeads: 40, kvHeads: 8 })).toMatchInlineSnapshot(`
      "streams.ts:9:72: error: tokens
        9 | export const manyTokens = plan('many_tokens', stages, stream({ tokens: 16, slotBytes: 16384 }));
          |                                                                        ^^
        16 tokens with 5 query heads a kv head are 80 queries, and a block of a stream has room for 64.
        Legal here: tokens: 8; or tokens: 'many'."
    `);
    expect(check(illegal.manyTokens, { qHeads: 32, kvHeads: 8, headDim: 64 })).toEqual([]);
  });

  test('with slots that hold too little, or parts of cells', () => {
    expect(message(illegal.smallSlots)).toMatchInlineSnapshot(`
      "streams.ts:11:75: error: slot-size
        11 | export const smallSlots = plan('small_slots', stages, stream({ slotBytes: 4096 }));
           |                                                                           ^^^^
        a slot of 4096 bytes has no room for 16 cached positions of a head of 128, which take 8192.
        Legal here: slotBytes: fit; or slotBytes: 8192; or slotBytes: 16384; or slotBytes: 32768."
    `);
    expect(message(illegal.oddSlots)).toMatchInlineSnapshot(`
      "streams.ts:12:71: error: option-value
        12 | export const oddSlots = plan('odd_slots', stages, stream({ slotBytes: 20480 }));
           |                                                                       ^^^^^
        slotBytes of stream() is 20480.
        It takes: 'fit', 4096, 8192, 16384, 32768."
    `);
    expect(check(illegal.smallSlots, { headDim: 64 })).toEqual([]);
  });

  test('with too few slots', () => {
    expect(message(illegal.fewSlots)).toMatchInlineSnapshot(`
      "streams.ts:13:67: error: option-value
        13 | export const fewSlots = plan('few_slots', stages, stream({ slots: 3 }));
           |                                                                   ^
        slots of stream() is 3.
        It takes: a whole number from 4 to 64."
    `);
  });

  test('with splits that begin late, or become fewer', () => {
    expect(message(illegal.lateSplits)).toMatchInlineSnapshot(`
      "streams.ts:14:87: error: splits
        14 | export const lateSplits = plan('late_splits', stages, stream({ splits: byContext({ 4: 64, 8: 128 }) }));
           |                                                                                       ^^
        splits begin at position 0 and grow with the context, and 4 from position 64 on do not.
        Legal here: splits: fit."
    `);
    expect(message(illegal.fewerSplits)).toMatchInlineSnapshot(`
      "streams.ts:15:95: error: splits
        15 | export const fewerSplits = plan('fewer_splits', stages, stream({ splits: byContext({ 4: 0, 2: 128 }) }));
           |                                                                                               ^^^
        splits begin at position 0 and grow with the context, and 2 from position 128 on do not.
        Legal here: splits: fit."
    `);
    const splitsOf = (splits: StreamScheme['splits']) => plan('made', stream.stages, streamed({ splits }));
    const twiceAtOnce = [
      { splits: 1, from: 0 },
      { splits: 2, from: 96 },
      { splits: 4, from: 96 },
    ];
    expect(check(splitsOf(twiceAtOnce)).map((issue) => issue.rule)).toEqual(['splits']);
    expect(check(splitsOf(byContext({ 8: 0 })))).toEqual([]);
    expect(check(splitsOf(byContext({ 1: 0, 2: 96, 16: 1024 })))).toEqual([]);
  });

  test('with a stage named like a word of C++', () => {
    expect(message(illegal.reservedName)).toMatchInlineSnapshot(`
      "streams.ts:18:11: error: stage-name
        18 |   [stage('switch', ['embed'], { over: 'rows' }), ...stages.slice(1)],
           |           ^^^^^^
        'switch' already means something in the generated code.
        Legal here: 'embed'."
    `);
  });
});

describe('a stream is refused where a stage', () => {
  test('norms heads behind their product and does not rotate them', () => {
    expect(message(illegal.normedAlone)).toMatchInlineSnapshot(`
      "stream.ts:9:37: error: stream-stage
        9 |     stage('attention', ['qk_norm', 'rope', 'kv_append', 'attend'], {
          |                                     ^^^^
        stage 'attention' has one of qk_norm and rope, which go together; a stream can have qk_norm*, rope*, kv_append, attend as one stage over 'kv_heads' (* recomputed), or qk_norm and rope after qkv_proj.

      streams.ts:24:34: error: stream-stage
        24 | export const normedAlone = legal.with('normed_alone', { qk_norm: into('qkv') });
           |                                  ^^^^
        stage 'qkv' norms queries and keys, and leaves their rotation to others; a stream can have 'rope' after it."
    `);
  });

  test('rotates rows of heads that no four divide', () => {
    expect(message(illegal.rotated, { headDim: 126 })).toMatchInlineSnapshot(`
      "streams.ts:23:30: error: stream-stage
        23 | export const rotated = legal.with('rotated', { qk_norm: into('qkv'), rope: into('qkv') });
           |                              ^^^^
        stage 'qkv' rotates rows, of which a head of qwen3-0.6b has 126: no multiple of four; a stream can have qk_norm and rope in the stage of attend."
    `);
    expect(check(illegal.rotated)).toEqual([]);
  });

  test('has the head norm without the rotation', () => {
    expect(message(illegal.normApart)).toMatchInlineSnapshot(`
      "stream.ts:9:37: error: stream-stage
        9 |     stage('attention', ['qk_norm', 'rope', 'kv_append', 'attend'], {
          |                                     ^^^^
        stage 'attention' has one of qk_norm and rope, which go together; a stream can have qk_norm*, rope*, kv_append, attend as one stage over 'kv_heads' (* recomputed), or qk_norm and rope after qkv_proj.
        Legal here: barriers().

      streams.ts:25:32: error: stream-stage
        25 | export const normApart = legal.with('norm_apart', { qk_norm: own({ over: 'kv_heads' }) });
           |                                ^^^^
        stage 'qk_norm' has no kv_append, and the block that reads cached positions appends the new one; a stream can have qk_norm*, rope*, kv_append, attend as one stage over 'kv_heads' (* recomputed), or qk_norm and rope after qkv_proj.
        Legal here: barriers()."
    `);
  });

  test('attends without appending, or appends without attending', () => {
    expect(message(illegal.appendApart)).toMatchInlineSnapshot(`
      "streams.ts:34:48: error: stream-stage
        34 |           stage('append', ['qk_norm', 'rope', 'kv_append'], { over: 'kv_heads' }),
           |                                                ^^^^^^^^^
        stage 'append' has no attend, and the block that reads cached positions appends the new one; a stream can have qk_norm*, rope*, kv_append, attend as one stage over 'kv_heads' (* recomputed), or qk_norm and rope after qkv_proj.
        Legal here: barriers().

      streams.ts:35:29: error: stream-stage
        35 |           stage('attend', ['attend'], { over: 'kv_heads', split: 'positions' }),
           |                             ^^^^^^
        stage 'attend' has no kv_append, and the block that reads cached positions appends the new one; a stream can have qk_norm*, rope*, kv_append, attend as one stage over 'kv_heads' (* recomputed), or qk_norm and rope after qkv_proj.
        Legal here: barriers()."
    `);
  });

  test('goes on behind attention', () => {
    expect(message(illegal.mergedInAttention)).toMatchInlineSnapshot(`
      "streams.ts:46:48: error: stream-stage
        46 |           stage('append', ['qk_norm', 'rope', 'kv_append'], { over: 'kv_heads' }),
           |                                                ^^^^^^^^^
        stage 'append' has no attend, and the block that reads cached positions appends the new one; a stream can have qk_norm*, rope*, kv_append, attend as one stage over 'kv_heads' (* recomputed), or qk_norm and rope after qkv_proj.
        Legal here: barriers().

      streams.ts:47:39: error: stream-stage
        47 |           stage('attend', ['attend', 'attn_merge'], { over: 'q_heads' }),
           |                                       ^^^^^^^^^^
        stage 'attend' goes on with attn_merge after attention; a stream can have qk_norm*, rope*, kv_append, attend as one stage over 'kv_heads' (* recomputed), or qk_norm and rope after qkv_proj.
        Legal here: barriers()."
    `);
  });

  test('does not recompute what a block keeps', () => {
    expect(message(illegal.kept)).toMatchInlineSnapshot(`
      "streams.ts:26:27: error: stream-stage
        26 | export const kept = legal.with('kept', {
           |                           ^^^^
        stage 'attention' stores qr, which stays in the block: recompute it; a stream can have qk_norm*, rope*, kv_append, attend as one stage over 'kv_heads' (* recomputed), or qk_norm and rope after qkv_proj.
        Legal here: recompute: ['qk_norm', 'rope']; or barriers()."
    `);
  });
});

describe('a stream that needs more shared memory than the target has', () => {
  test('for the tokens of a pass', () => {
    expect(message(illegal.manyTokens, {}, 'a100')).toMatchInlineSnapshot(`
      "streams.ts:9:72: error: shared-memory-over-budget
        9 | export const manyTokens = plan('many_tokens', stages, stream({ tokens: 16, slotBytes: 16384 }));
          |                                                                        ^^
        a pass of 16 tokens with 4 slots of 16 KiB needs 204 KiB of shared memory a block, and a100 has 163.
        Legal here: tokens: 8; or tokens: 'many'; or barriers()."
    `);
  });

  test('for a single one', () => {
    expect(message(illegal.wideSlots, modelOf('qwen3-8b'), 'rtx4090')).toMatchInlineSnapshot(`
      "streams.ts:10:32: error: shared-memory-over-budget
        10 | export const wideSlots = plan('wide_slots', stages, stream({ slotBytes: 16384 }));
           |                                ^^^^^^^^^^
        a pass of 1 token with 4 slots of 16 KiB needs 100 KiB of shared memory a block, and rtx4090 has 99.
        Legal here: slotBytes: 8192; or barriers()."
    `);
    expect(check(illegal.whole, modelOf('qwen3-8b'), 'rtx4090')).toEqual([]);
  });

  test('whatever its slots', () => {
    const large = { ...modelOf('qwen3-8b'), ffn: 65536 };
    expect(message(illegal.whole, large, 'rtx4090')).toMatchInlineSnapshot(`
      "streams.ts:7:28: error: shared-memory-over-budget
        7 | export const whole = plan('whole', stages, stream());
          |                            ^^^^^
        a pass of 1 token with 4 slots of 8 KiB needs 172 KiB of shared memory a block, and rtx4090 has 99."
    `);
  });
});

test('what no stage of a stream can be is legal at barriers, and on a CPU', () => {
  const { normApart, appendApart, mergedInAttention, kept } = illegal;
  for (const made of [normApart, appendApart, mergedInAttention, kept]) {
    const [atBarriers] = withBarriers({ plan: made }).plans();
    expect(check(atBarriers!), made.name).toEqual([]);
    expect(check(made, {}, 'cpu'), made.name).toEqual([]);
  }
});

test('a stream is lowered with barriers on a CPU, whatever only a stream refuses', () => {
  for (const changes of [{ dtype: 'fp32' }, { headDim: 127 }, { qHeads: 133, kvHeads: 133 }] as const) {
    expect(check(illegal.whole, changes, 'cpu')).toEqual([]);
  }
  for (const made of [illegal.smallSlots, illegal.rotated]) {
    expect(check(made, {}, 'cpu'), made.name).toEqual([]);
  }
});

test('a message points at the number of the option, and at the word where the number is not written', () => {
  const carets = (made: FusionPlan, changes: Partial<ModelDims>) => {
    const [, line, marks] = message(made, changes).split('\n') as [string, string, string];
    return line.slice(marks.indexOf('^'), marks.lastIndexOf('^') + 1);
  };
  expect(carets(illegal.smallSlots, {})).toBe('4096');
  expect(carets(illegal.whole, { headDim: 512, dtype: 'fp32' })).toBe('stream');
});

test('a stage can be called like a variable of its kernel', () => {
  for (const name of ['step', 'cta', 'words', 'best']) {
    const [embed, ...others] = stream.stages;
    for (const scheme of [stream.scheme, barriers()]) {
      expect(check(plan('named', [{ ...embed!, name }, ...others], scheme)), name).toEqual([]);
    }
  }
});
