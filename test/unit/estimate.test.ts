// What a plan should cost, and the table that says so.
import { describe, expect, test } from 'vitest';
import type { ModelDims } from '../../codegen/model/dims.ts';
import { decoderGraph } from '../../codegen/model/graph.ts';
import { type FusionPlan, stream as streamed } from '../../codegen/plan/plan.ts';
import { estimate } from '../../codegen/schedule/estimate.ts';
import { explainTable } from '../../codegen/schedule/explain.ts';
import { assignWork } from '../../codegen/schedule/schedule.ts';
import type { Target } from '../../codegen/schedule/target.ts';
import { libraryScratch } from '../../codegen/schemes/barriers/library-scratch.ts';
import { models } from '../../configs/models.ts';
import cooperative from '../../configs/plans/cooperative.ts';
import stream from '../../configs/plans/stream.ts';
import unfused from '../../configs/plans/unfused.ts';
import { targets } from '../../configs/targets.ts';

const modelOf = (name: string): ModelDims => models.find((model) => model.name === name)!;
const targetOf = (name: string): Target => targets.find((target) => target.name === name)!;
const scheduleOn = (dims: ModelDims, made: FusionPlan, target: Target) =>
  assignWork(decoderGraph(dims), made, target, libraryScratch(target));
const scheduleOf = (dims: ModelDims, made: FusionPlan, name: string) =>
  scheduleOn(dims, made, targetOf(name));

describe.each([cooperative, unfused])('plan $name', (made) => {
  test.each(models)('reads every weight of $name once a token', (dims) => {
    const { stages, bytes } = estimate(scheduleOf(dims, made, 'h100'));
    const read = stages.map((stage) => stage.weightBytes * (stage.part === 'layer' ? dims.layers : 1));
    expect(read.reduce((sum, one) => sum + one, 0)).toBe(bytes.weights);
  });
});

test('a token of qwen3-0.6b takes the time of its bytes and of 142 barriers', () => {
  const cost = estimate(scheduleOf(modelOf('qwen3-0.6b'), cooperative, 'h100'));
  expect(cost.barriersPerToken).toBe(28 * 5 + 2);
  expect(cost.micros).toBeCloseTo(cost.bytes.weights / 3100e3 + 142 * 1.1, 6);
  expect(cost.tokensPerSecond).toBeCloseTo(1e6 / cost.micros!, 6);
});

test('the same plan with fewer barriers is faster by their time', () => {
  const [few, many] = [cooperative, unfused].map((made) =>
    estimate(scheduleOf(modelOf('qwen3-4b'), made, 'h100')),
  );
  const barriers = many!.barriersPerToken - few!.barriersPerToken;
  expect(barriers).toBeGreaterThan(0);
  expect(many!.micros! - few!.micros!).toBeCloseTo(barriers * 1.1, 6);
});

test('a CPU of unknown bandwidth gets no time', () => {
  const cost = estimate(scheduleOf(modelOf('qwen3-tiny'), cooperative, 'cpu'));
  expect([cost.micros, cost.tokensPerSecond, cost.stages[1]!.micros]).toEqual([null, null, null]);
});

test('the table of qwen3-0.6b on h100', () => {
  const schedule = scheduleOf(modelOf('qwen3-0.6b'), cooperative, 'h100');
  expect(explainTable(schedule, estimate(schedule))).toMatchInlineSnapshot(`
    "qwen3-0.6b on h100, plan cooperative: 28 layers, up to 8 tokens a pass

    stage      ops (* made by every block)      over           MB a token  us a token  then
    embed      embed                            rows                              1.1  grid barrier: attn_norm needs whole tokens of x, which embed makes elsewhere
    qkv        attn_norm* qkv_proj              rows               234.88       106.6  grid barrier: qk_norm needs whole q heads of q, which qkv_proj makes elsewhere
                 after norm_input                                                      block sync: qkv_proj reads what all threads of the block put into its scratch
    attention  qk_norm* rope* kv_append attend  kv_heads x 16                    30.8  grid barrier: attn_merge needs whole q heads of partial, which attend makes elsewhere
                 after qk_norm                                                         block sync: rope reads what all threads of the block put into its scratch
                 after rope                                                            block sync: kv_append reads what all threads of the block put into its scratch
                 after kv_append                                                       block sync: attend uses what other threads of its block touched in kv_append
    attn_out   attn_merge* o_proj attn_add      rows               117.44        68.7  grid barrier: ffn_norm needs whole tokens of x, which attn_add makes elsewhere
                 after merge_input                                                     block sync: o_proj reads what all threads of the block put into its scratch
    ffn_up     ffn_norm* gate_up swiglu         rows               352.32       144.5  grid barrier: down_proj needs all of h, which swiglu makes elsewhere
                 after norm_input                                                      block sync: gate_up reads what all threads of the block put into its scratch
    ffn_down   down_proj ffn_add                rows               176.16        87.6  grid barrier: attn_norm needs whole tokens of x, which ffn_add makes elsewhere
                 after gather_input                                                    block sync: down_proj reads what all threads of the block put into its scratch
    head       final_norm* lm_head              rows               311.16       101.5  grid barrier: sample needs all of logits, which lm_head makes elsewhere
                 after norm_input                                                      block sync: lm_head reads what all threads of the block put into its scratch
    sample     sample                           once                              0.0
    total                                                         1191.97       540.7  142 grid barriers a token

    predicted 1849 tok/s, at 3100 GB/s (measured) and 1.1 us a barrier; every position before adds 114.7 kB of KV cache to read"
  `);
});

test('the table of a CPU has neither times nor block syncs', () => {
  const schedule = scheduleOf(modelOf('qwen3-tiny'), cooperative, 'cpu');
  expect(explainTable(schedule, estimate(schedule))).toMatchInlineSnapshot(`
    "qwen3-tiny on cpu, plan cooperative: 6 layers, up to 64 tokens a pass

    stage      ops (* made by every block)      over      MB a token  us a token  then
    embed      embed                            rows                              grid barrier: attn_norm needs whole tokens of x, which embed makes elsewhere
    qkv        attn_norm* qkv_proj              rows            1.57              grid barrier: qk_norm needs whole q heads of q, which qkv_proj makes elsewhere
    attention  qk_norm* rope* kv_append attend  kv_heads                          grid barrier: attn_merge needs whole q heads of partial, which attend makes elsewhere
    attn_out   attn_merge* o_proj attn_add      rows            0.79              grid barrier: ffn_norm needs whole tokens of x, which attn_add makes elsewhere
    ffn_up     ffn_norm* gate_up swiglu         rows            4.72              grid barrier: down_proj needs all of h, which swiglu makes elsewhere
    ffn_down   down_proj ffn_add                rows            2.36              grid barrier: attn_norm needs whole tokens of x, which ffn_add makes elsewhere
    head       final_norm* lm_head              rows            2.10              grid barrier: sample needs all of logits, which lm_head makes elsewhere
    sample     sample                           once
    total                                                      11.53              32 grid barriers a token

    no predicted speed, since the bandwidth of this target is not known; every position before adds 3.1 kB of KV cache to read"
  `);
});

describe('a stream', () => {
  const qwen = modelOf('qwen3-0.6b');
  const costOf = (dims: ModelDims, target: Target, options: Partial<FusionPlan['options']> = {}) =>
    estimate(scheduleOn(dims, { ...stream, options: { ...stream.options, ...options } }, target));

  test.each(models)('of $name is read once a token, with its padding', (dims) => {
    const schedule = scheduleOf(dims, stream, 'h100');
    const { stages, bytes, stream: cost } = estimate(schedule);
    const read = stages.map((stage) => stage.weightBytes * (stage.part === 'layer' ? dims.layers : 1));
    expect(read.reduce((sum, one) => sum + one, 0)).toBe(schedule.stream!.bytes);
    expect((1 - cost!.padding) * schedule.stream!.bytes).toBeCloseTo(bytes.weights, 0);
    expect(cost!.padding).toBeGreaterThanOrEqual(0);
  });

  test.each(models)('of $name is dealt to blocks that differ by a tile of each product at most', (dims) => {
    const schedule = scheduleOf(dims, stream, 'h100');
    const { leastBytes, mostBytes, blocks } = estimate(schedule).stream!;
    const tiles = schedule.stream!.products.map((p) => p.tileBytes * (p.op === 'lm_head' ? 1 : dims.layers));
    expect(mostBytes - leastBytes).toBeLessThanOrEqual(tiles.reduce((sum, one) => sum + one, 0));
    expect(leastBytes * blocks).toBeLessThanOrEqual(schedule.stream!.bytes);
    expect(mostBytes * blocks).toBeGreaterThanOrEqual(schedule.stream!.bytes);
  });

  test('takes the longer of its bytes and its chain of exchanges', () => {
    const h100 = targetOf('h100');
    const slow = costOf(qwen, h100);
    expect(slow.micros).toBeCloseTo(1191968768 / 3100e3, 6);
    const fast = costOf(qwen, { ...h100, bandwidth: 100 * 3100 });
    expect(fast.micros).toBeCloseTo(fast.exchangesPerToken * 0.86, 6);
    expect(slow.stream!.chainMicros).toBeCloseTo(fast.micros!, 6);
    expect(slow.barriersPerToken).toBe(0);
  });

  test('has one exchange a layer more where the parts of the positions are merged at once', () => {
    const [later, atOnce] = [128, 0].map((splitFrom) => costOf(qwen, targetOf('h100'), { splitFrom }));
    expect(atOnce!.exchangesPerToken - later!.exchangesPerToken).toBe(28);
    expect(atOnce!.stream!.chainMicros - later!.stream!.chainMicros).toBeCloseTo(28 * 0.86, 6);
  });

  test('hands att over itself where no head is split', () => {
    const { stages } = costOf({ ...modelOf('qwen3-tiny'), kvHeads: 4 }, { ...targetOf('h100'), sms: 7 });
    const attention = stages.find((stage) => stage.name === 'attention')!;
    expect([attention.tensors, attention.over]).toEqual([['att'], 'kv_heads']);
    expect(stages.find((stage) => stage.name === 'merge')).toMatchObject({ sync: null, syncMicros: 0 });
  });

  test('takes an exchange for as dear as a barrier where it was not measured', () => {
    const { exchangeMicros: _, ...unknown } = targetOf('h100');
    expect(costOf(qwen, unknown).stream!.exchangeMicros).toBe(1.1);
    expect(costOf(qwen, targetOf('h200')).stream!.exchangeMicros).toBe(1.1);
  });

  test('polls the input of each product, its own head, and the best logit of each block', () => {
    const layer = 1024 + (2 + 2) * 128 + 2048 + 1024 + 3072;
    expect(costOf(qwen, targetOf('h100')).stream!.polledBytes).toBe(2 * 28 * layer + 128 * 8);
  });

  test('has a slot more under way while a quarter of the ring is free, and where a head is not split', () => {
    const slots = (options: Partial<FusionPlan['options']>) => {
      const { inFlightBytes, slotBytes } = costOf(qwen, targetOf('h100'), options).stream!;
      return Object.values(inFlightBytes).map((one) => one && [one.usual / slotBytes, one.most / slotBytes]);
    };
    const weights = streamed({ stages: 12, inFlight: 2, inFlightHead: 8 });
    expect(slots({ weights })).toEqual([
      [2, 3],
      [3, 4],
      [8, 9],
    ]);
    expect(slots({ weights, splitFrom: 0 })).toEqual([[2, 3], null, [8, 9]]);
  });

  test('fills all slots but one at most', () => {
    const weights = streamed({ stages: 8, inFlight: 6, inFlightHead: 16 });
    const { inFlightBytes, slotBytes, rings } = costOf(qwen, targetOf('h100'), { weights }).stream!;
    const { layers, alone, head } = inFlightBytes;
    expect(rings[0]!.slots).toBe(8);
    // While a quarter is free the other 6 of 8 may be under way, else 7.
    expect([layers.most, alone!.most, head.most]).toEqual([6, 7, 7].map((count) => count * slotBytes));
  });

  test('of qwen3-0.6b on h100 as a table', () => {
    const schedule = scheduleOf(qwen, stream, 'h100');
    expect(explainTable(schedule, estimate(schedule))).toMatchInlineSnapshot(`
      "qwen3-0.6b on h100, plan stream: 28 layers, up to 16 tokens a pass

      stage      ops (* made by every block)      over           MB a token  us of stream  us of chain  then
      embed      embed                            rows
      qkv        attn_norm* qkv_proj              rows               234.88          75.8         24.1  exchange of q, k, v: qk_norm needs whole q heads of q, which qkv_proj makes elsewhere
      attention  qk_norm* rope* kv_append attend  kv_heads x 16                                   24.1  exchange of partial: attn_merge needs whole q heads of partial, which attend makes elsewhere
      merge      attn_merge                       q_heads                                               from position 192 on: exchange of att: o_proj needs all of att, which attn_merge makes elsewhere
      attn_out   o_proj attn_add                  rows               117.44          37.9         24.1  exchange of x: ffn_norm needs whole tokens of x, which attn_add makes elsewhere
      ffn_up     ffn_norm* gate_up swiglu         rows               352.32         113.7         24.1  exchange of h: down_proj needs all of h, which swiglu makes elsewhere
      ffn_down   down_proj ffn_add                rows               176.16          56.8         24.1  exchange of x: attn_norm needs whole tokens of x, which ffn_add makes elsewhere
      head       final_norm* lm_head              rows               311.16         100.4          0.9  exchange of logits: sample needs all of logits, which lm_head makes elsewhere
      sample     sample                           once                                             0.9  exchange of next: embed of the next pass needs next, which sample makes elsewhere
      total                                                         1191.97         384.5        122.1  142 exchanges a token

      blocks  128; each streams 9.31 to 9.32 MB a token and polls 421 KiB of exchanges; 0.0 % of the stream is padding
      ring    12 slots of 16 KiB; 8, 8, 5 in passes of up to 4, 8, 16 tokens
      copies  at most 16 or 32 KiB under way, 32 or 48 in blocks that have a head alone, 128 or 144 in the LM head; the larger while a quarter of the ring is free
      heads   one block a kv head; from position 192 on 16 blocks a kv head, whose parts are merged

      predicted 2601 tok/s, since the stream is the longer: at 3100 GB/s (measured) and 0.86 us an exchange; every position before adds 114.7 kB of KV cache to read"
    `);
  });

  test('of smollm2-135m on a100 is padded and dealt unevenly', () => {
    const schedule = scheduleOf(modelOf('smollm2-135m'), stream, 'a100');
    const lines = explainTable(schedule, estimate(schedule)).split('\n');
    expect(
      lines.slice(lines.findIndex((line) => line.startsWith('blocks'))).join('\n'),
    ).toMatchInlineSnapshot(`
      "blocks  72; each streams 4.36 to 5.11 MB a token and polls 211 KiB of exchanges; 21.1 % of the stream is padding
      ring    8 slots of 16 KiB; 6, 5, 4 in passes of up to 4, 8, 16 tokens
      copies  at most 16 or 32 KiB under way, 32 or 48 in blocks that have a head alone, 112 in the LM head; the larger while a quarter of the ring is free
      heads   one block a kv head; from position 192 on 16 blocks a kv head, whose parts are merged

      predicted 4057 tok/s, since the stream is the longer: at 1383 GB/s (measured) and 1.3 us an exchange; every position before adds 23.0 kB of KV cache to read"
    `);
  });
});
