// What a plan should cost, and the table that says so.
import { describe, expect, test } from 'vitest';
import type { ModelDims } from '../codegen/dims.ts';
import { estimate } from '../codegen/estimate.ts';
import { explainTable } from '../codegen/explain.ts';
import { decoderGraph } from '../codegen/graph.ts';
import { libraryScratch } from '../codegen/library-scratch.ts';
import type { FusionPlan } from '../codegen/plan.ts';
import { assignWork } from '../codegen/schedule.ts';
import { models } from '../configs/models.ts';
import cooperative from '../configs/plans/cooperative.ts';
import unfused from '../configs/plans/unfused.ts';
import { targets } from '../configs/targets.ts';

const modelOf = (name: string): ModelDims => models.find((model) => model.name === name)!;
const scheduleOf = (dims: ModelDims, made: FusionPlan, name: string) => {
  const target = targets.find((one) => one.name === name)!;
  return assignWork(decoderGraph(dims), made, target, libraryScratch(target));
};

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
