// Which syncs are derived, that they suffice for every built-in plan and model, and that fewer would not do.
import { describe, expect, test } from 'vitest';
import type { ModelDims } from '../../codegen/model/dims.ts';
import { decoderGraph } from '../../codegen/model/graph.ts';
import type { FusionPlan } from '../../codegen/plan/plan.ts';
import type { Meeting, Sync } from '../../codegen/schedule/syncs.ts';
import type { Target } from '../../codegen/schedule/target.ts';
import { lowerBarriers } from '../../codegen/schemes/barriers/lower.ts';
import type { BarrierSchedule } from '../../codegen/schemes/barriers/schedule.ts';
import { uncoveredBarriers as uncovered } from '../../codegen/schemes/barriers/uncovered.ts';
import { models } from '../../configs/models.ts';
import cooperative from '../../configs/plans/cooperative.ts';
import unfused from '../../configs/plans/unfused.ts';
import { targetNamed } from '../../configs/targets.ts';

const schedule = (dims: ModelDims, made: FusionPlan, target: Target): BarrierSchedule =>
  lowerBarriers(decoderGraph(dims), made, target);

const qwen = models.find((model) => model.name === 'qwen3-0.6b')!;
const h100 = targetNamed('h100')!;
const cpu = targetNamed('cpu')!;

const lines = (syncs: readonly Sync[]) =>
  syncs.map(
    ({ scope, after, reason }) =>
      `${scope} after ${after.stage}${scope === 'block' ? ` ${after.phase}` : ''}: ${reason}`,
  );

test('the syncs of the cooperative plan', () => {
  expect(lines(schedule(qwen, cooperative, h100).syncs)).toMatchInlineSnapshot(`
    [
      "grid after embed: attn_norm needs whole tokens of x, which embed makes in other blocks",
      "grid after qkv: qk_norm needs whole q heads of q, which qkv_proj makes in other blocks",
      "grid after attention: attn_merge needs whole q heads of partial, which attend makes in other blocks",
      "grid after attn_out: ffn_norm needs whole tokens of x, which attn_add makes in other blocks",
      "grid after ffn_up: down_proj needs all of h, which swiglu makes in other blocks",
      "grid after ffn_down: attn_norm needs whole tokens of x, which ffn_add makes in other blocks",
      "grid after head: sample needs all of logits, which lm_head makes in other blocks",
      "block after qkv 0: qkv_proj reads what all threads of the block put into its scratch",
      "block after attention 0: rope reads what all threads of the block put into its scratch",
      "block after attention 1: kv_append reads what all threads of the block put into its scratch",
      "block after attention 2: attend uses what other threads of its block touched in kv_append",
      "block after attn_out 0: o_proj reads what all threads of the block put into its scratch",
      "block after ffn_up 0: gate_up reads what all threads of the block put into its scratch",
      "block after ffn_down 0: down_proj reads what all threads of the block put into its scratch",
      "block after head 0: lm_head reads what all threads of the block put into its scratch",
    ]
  `);
});

test('the grid barriers of the unfused plan', () => {
  const { syncs } = schedule(qwen, unfused, h100);
  expect(lines(syncs.filter((sync) => sync.scope === 'grid'))).toMatchInlineSnapshot(`
    [
      "grid after embed: attn_norm needs whole tokens of x, which embed makes in other blocks",
      "grid after attn_norm: qkv_proj needs all of xn, which attn_norm makes in other blocks",
      "grid after qkv_proj: qk_norm needs whole q heads of q, which qkv_proj makes in other blocks",
      "grid after kv_append: attend needs a split of cache, which kv_append makes in other blocks",
      "grid after attend: attn_merge needs whole q heads of partial, which attend makes in other blocks",
      "grid after attn_merge: o_proj needs all of att, which attn_merge makes in other blocks",
      "grid after attn_add: ffn_norm needs whole tokens of x, which attn_add makes in other blocks",
      "grid after ffn_norm: gate_up needs all of hn, which ffn_norm makes in other blocks",
      "grid after swiglu: down_proj needs all of h, which swiglu makes in other blocks",
      "grid after ffn_add: attn_norm needs whole tokens of x, which ffn_add makes in other blocks",
      "grid after final_norm: lm_head needs all of xf, which final_norm makes in other blocks",
      "grid after lm_head: sample needs all of logits, which lm_head makes in other blocks",
    ]
  `);
});

describe.each([cooperative, unfused])('plan $name', (made) => {
  test.each(models)('orders every conflict of $name, on a GPU and on a CPU', (model) => {
    expect(uncovered(schedule(model, made, h100))).toEqual([]);
    expect(uncovered(schedule(model, made, cpu))).toEqual([]);
  });

  test('leaves a conflict uncovered without any one of its syncs', () => {
    const built = schedule(qwen, made, h100);
    for (const sync of built.syncs) {
      const less = { ...built, syncs: built.syncs.filter((other) => other !== sync) };
      expect(uncovered(less), JSON.stringify(sync.after)).not.toEqual([]);
    }
  });
});

test('five grid barriers are the fewest for the layer of the cooperative plan, and where they stand is the only way', () => {
  const built = schedule(
    { ...qwen, hidden: 64, ffn: 96, qHeads: 4, kvHeads: 2, headDim: 8, vocab: 64 },
    cooperative,
    {
      ...h100,
      sms: 6,
    },
  );
  const layer = built.stages.filter((stage) => stage.part === 'layer').map((stage) => stage.name);
  const grid = built.syncs.filter((sync) => sync.scope === 'grid');
  const others = grid.filter((sync) => !layer.includes(sync.after.stage));
  const enough = Array.from({ length: 2 ** layer.length }, (_, mask) =>
    layer.filter((_, i) => mask & (1 << i)),
  ).filter((after) => {
    const syncs = after.map(
      (stage): Meeting => ({ scope: 'grid', after: { stage, phase: -1 }, reason: '', covers: 0 }),
    );
    const missing = uncovered({ ...built, syncs: [...others, ...syncs] });
    return missing.every((conflict) => conflict.scope !== 'grid');
  });
  expect(enough).toEqual([layer]);
  expect(grid.filter((sync) => layer.includes(sync.after.stage))).toHaveLength(5);
});

test('a conflict without a sync says who does what', () => {
  const built = schedule(qwen, cooperative, h100);
  const less = { ...built, syncs: built.syncs.filter((sync) => sync.after.stage !== 'ffn_up') };
  expect(uncovered(less).map((conflict) => conflict.why)).toMatchInlineSnapshot(`
    [
      "block 0 writes hn in ffn_norm, block 0 reads it in gate_up + swiglu, and no block sync is between",
      "block 0 writes h in gate_up + swiglu, block 0 reads it in down_proj, and no block sync is between",
      "block 1 reads x in ffn_norm, block 0 writes it in down_proj + ffn_add, and no grid barrier is between",
      "block 2 writes x in down_proj + ffn_add, block 0 reads it in ffn_norm, and no grid barrier is between",
      "block 0 writes hn in ffn_norm, block 0 writes it in down_proj, and no block sync is between",
      "block 0 reads hn in gate_up + swiglu, block 0 writes it in down_proj, and no block sync is between",
      "block 0 writes h in gate_up + swiglu, block 1 reads it in down_proj, and no grid barrier is between",
      "block 2 reads h in down_proj, block 0 writes it in gate_up + swiglu, and no grid barrier is between",
    ]
  `);
});
