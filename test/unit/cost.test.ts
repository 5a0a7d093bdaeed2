// What a plan should cost, and the table that says so.
import { describe, expect, test } from 'vitest';
import { described } from '../../codegen/build/describe.ts';
import { estimate, explainTable, generate, makeSchedule, type Schedule } from '../../codegen/index.ts';
import type { ModelDims } from '../../codegen/model/dims.ts';
import { decoderGraph } from '../../codegen/model/graph.ts';
import { withScheme } from '../../codegen/plan/edits.ts';
import {
  barriers,
  byContext,
  type FusionPlan,
  own,
  type StreamScheme,
  stream as streamed,
} from '../../codegen/plan/plan.ts';
import { type Cost, runsOf } from '../../codegen/schedule/cost.ts';
import type { Target } from '../../codegen/schedule/target.ts';
import { costTermNames, costTerms } from '../../codegen/schedule/terms.ts';
import { streamFacts } from '../../codegen/schemes/stream/cost.ts';
import { lowerStream } from '../../codegen/schemes/stream/lower.ts';
import { settleWeights } from '../../codegen/settle-weights.ts';
import { models } from '../../configs/models.ts';
import cooperative from '../../configs/plans/cooperative.ts';
import prefill from '../../configs/plans/prefill.ts';
import seed from '../../configs/plans/seed.ts';
import stream, { variants } from '../../configs/plans/stream.ts';
import unfused from '../../configs/plans/unfused.ts';
import { resolvePlan } from '../../configs/resolve.ts';
import { targetNamed } from '../../configs/targets.ts';

const modelOf = (name: string): ModelDims => models.find((model) => model.name === name)!;
const found = (name: string): Target => targetNamed(name)!;
/** One whose figures no calibration changes. */
const { cacheBandwidth: _, ...uncached } = found('h100');
const h100: Target = {
  ...uncached,
  bandwidth: 3100,
  pollCycles: {},
  terms: Object.fromEntries(costTermNames.map((term) => [term, costTerms[term].assumed])),
};
const targetOf = (name: string): Target => (name === 'h100' ? h100 : found(name));
const workOf = ({ waitMicros, workMicros }: Cost) => waitMicros + workMicros;
const scheduleOf = (dims: ModelDims, made: FusionPlan, name: string) =>
  makeSchedule(dims, made, targetOf(name));
const tableOf = (dims: ModelDims, made: FusionPlan, name: string, position = 0) => {
  const schedule = scheduleOf(dims, made, name);
  return explainTable(schedule, estimate(schedule, position));
};
const readOnce = (cost: Cost, dims: ModelDims) =>
  cost.stages.reduce((sum, stage) => sum + stage.weightBytes * runsOf({ dims }, stage), 0);

describe.each([cooperative, unfused])('plan $name', (made) => {
  test.each(models)('reads every weight of $name once a token', (dims) => {
    const cost = estimate(scheduleOf(dims, made, 'h100'));
    expect(readOnce(cost, dims)).toBe(cost.bytes.weights);
  });
});

test('a token of qwen3-0.6b waits at 142 barriers, and takes no less than its bytes, its waits and its work', () => {
  const cost = estimate(scheduleOf(modelOf('qwen3-0.6b'), cooperative, 'h100'));
  expect([cost.syncsPerToken, cost.syncName]).toEqual([28 * 5 + 2, 'grid barriers']);
  expect(cost.waitMicros).toBeCloseTo(142 * costTerms.barrier.assumed, 6);
  const even = cost.bytes.weights / 3100e3 + workOf(cost);
  // Where rows do not deal evenly, all wait for the busiest block.
  expect(cost.micros).toBeGreaterThan(even);
  expect(cost.micros).toBeLessThan(1.05 * even);
  expect(cost.tokensPerSecond).toBeCloseTo(1e6 / cost.micros!, 6);
});

test('a dearer term makes some kernel slower, and none faster', () => {
  const apart = { attn_norm: own({ over: 'tokens' }) };
  const copied = seed.with('copied', {}, { buffers: 2, producers: 2 });
  const merged = variants.find(({ name }) => name === 'stream-merged')!;
  const plans = [cooperative, unfused, stream, seed, copied, prefill, merged];
  const schedules = [...plans, cooperative.with('c', apart), stream.with('s', apart)].map((made) =>
    makeSchedule(modelOf('smollm2-135m'), made, h100),
  );
  schedules.push(makeSchedule(settleWeights(modelOf('smollm2-135m'), 'int4'), stream, h100));
  const [, , decoding, , , prompts] = schedules;
  for (const term of costTermNames) {
    const dearer = { ...h100, terms: { ...h100.terms, [term]: costTerms[term].assumed + 1 } };
    const micros = (schedule: Schedule) => estimate(schedule, 1000).micros!;
    const passMicros = (schedule: Schedule) => estimate(schedule, 0, 16, false).micros!;
    const shortMicros = (schedule: Schedule) => estimate(schedule, 0, 64).micros!;
    const slower = [
      ...schedules.map((schedule) => micros({ ...schedule, target: dearer }) - micros(schedule)),
      passMicros({ ...decoding!, target: dearer }) - passMicros(decoding!),
      shortMicros({ ...prompts!, target: dearer }) - shortMicros(prompts!),
    ];
    expect([term, Math.max(...slower) > 0, Math.min(...slower) >= 0]).toEqual([term, true, true]);
  }
});

test('a ring that holds less of a layer is read for longer behind attention, and one that holds all of it no longer', () => {
  const microsOf = (model: string, slots: number) =>
    estimate(makeSchedule(modelOf(model), stream.with('few', {}, { slots }), h100), 1000).micros!;
  expect(microsOf('llama-3.2-1b', 6)).toBeGreaterThan(microsOf('llama-3.2-1b', 12));
  // A layer of smollm2-135m has 7.1 MB, and six slots of its 128 blocks 12.6.
  expect(microsOf('smollm2-135m', 6)).toBe(microsOf('smollm2-135m', 12));
});

test('what nobody has measured is named, and assumed', () => {
  const [barrier, bandwidth] = ['stage', 'bandwidth'];
  const costs = ['h100', 'a100', 'rtx4090'].map((name) =>
    estimate(scheduleOf(modelOf('qwen3-0.6b'), cooperative, name)),
  );
  expect(
    costs.map(({ unmeasured }) => [unmeasured.includes(barrier!), unmeasured.includes(bandwidth!)]),
  ).toEqual([
    [false, false],
    [true, false],
    [true, true],
  ]);
  expect(costs[1]!.basis).toContain(
    'assumed, since nobody has measured them here (gen calibrate does): token',
  );
});

test.each([0, 9])('a pass of %i tokens costs nothing that can be said', (tokens) => {
  const schedule = scheduleOf(modelOf('qwen3-tiny'), cooperative, 'h100');
  expect(() => estimate(schedule, 0, tokens)).toThrow(
    `tokens is ${tokens}, and plan cooperative takes 1 to 8 at a time`,
  );
  expect(estimate(schedule, 0, 8).micros).toBeGreaterThan(0);
});

test('a model that fits the cache is read at its bandwidth, of which figures are shares', async () => {
  const tiny = modelOf('qwen3-tiny');
  const cached = { ...h100, cacheBandwidth: 2 * 3100 };
  const reads = (dims: ModelDims, target: Target) =>
    estimate(makeSchedule(dims, cooperative, target)).readMicros!;
  expect(reads(tiny, h100) / reads(tiny, cached)).toBeCloseTo(2, 6);
  expect(reads(modelOf('qwen3-0.6b'), h100) / reads(modelOf('qwen3-0.6b'), cached)).toBe(1);
  for (const [dims, bandwidth] of [
    [tiny, 6200],
    [modelOf('qwen3-0.6b'), 3100],
  ] as const)
    expect(described(await generate({ dims, plan: cooperative, target: cached }), []).bandwidth).toBe(
      bandwidth,
    );
});

test('a CPU of unknown bandwidth gets no time', () => {
  const cost = estimate(scheduleOf(modelOf('qwen3-tiny'), cooperative, 'cpu'));
  expect([cost.micros, cost.tokensPerSecond, cost.stages[1]!.micros]).toEqual([null, null, null]);
});

test('the table of qwen3-0.6b on h100', () => {
  expect(tableOf(modelOf('qwen3-0.6b'), cooperative, 'h100')).toMatchInlineSnapshot(`
    "qwen3-0.6b on h100, plan cooperative: 28 layers, up to 8 tokens a pass

    stage      ops (* made by every block)      over           MB a token  us of reads  us of waits  us of work  then
    embed      embed                            rows                                            1.2        35.4  grid barrier: attn_norm needs whole tokens of x, which embed makes in other blocks
    qkv        attn_norm* qkv_proj              rows               234.88         78.1         33.6        49.9  grid barrier: qk_norm needs whole q heads of q, which qkv_proj makes in other blocks
                 after norm_input                                                                                block sync: qkv_proj reads what all threads of the block put into its scratch
    attention  qk_norm* rope* kv_append attend  kv_heads x 16                                  33.6        82.6  grid barrier: attn_merge needs whole q heads of partial, which attend makes in other blocks
                 after qk_norm                                                                                   block sync: rope reads what all threads of the block put into its scratch
                 after rope                                                                                      block sync: kv_append reads what all threads of the block put into its scratch
                 after kv_append                                                                                 block sync: attend uses what other threads of its block touched in kv_append
    attn_out   attn_merge* o_proj attn_add      rows               117.44         39.1         33.6       124.6  grid barrier: ffn_norm needs whole tokens of x, which attn_add makes in other blocks
                 after merge_input                                                                               block sync: o_proj reads what all threads of the block put into its scratch
    ffn_up     ffn_norm* gate_up swiglu         rows               352.32        117.2         33.6        49.2  grid barrier: down_proj needs all of h, which swiglu makes in other blocks
                 after norm_input                                                                                block sync: gate_up reads what all threads of the block put into its scratch
    ffn_down   down_proj ffn_add                rows               176.16         58.6         33.6        42.2  grid barrier: attn_norm needs whole tokens of x, which ffn_add makes in other blocks
                 after gather_input                                                                              block sync: down_proj reads what all threads of the block put into its scratch
    head       final_norm* lm_head              rows               311.16        100.5          1.2         3.1  grid barrier: sample needs all of logits, which lm_head makes in other blocks
                 after norm_input                                                                                block sync: lm_head reads what all threads of the block put into its scratch
    sample     sample                           once                                                       61.1
    total                                                         1191.97        393.5        170.4       448.1  142 grid barriers a token

    blocks    132 of 16 warps; a lane has 12 loads of 128 bits in flight

    predicted 988 tok/s at position 0, 1012.0 us a token, at 3100 GB/s (measured) and the terms of this target; every position before adds 114.7 kB of KV cache to read"
  `);
});

test('the table of a CPU has neither times nor block syncs', () => {
  expect(tableOf(modelOf('qwen3-tiny'), cooperative, 'cpu')).toMatchInlineSnapshot(`
    "qwen3-tiny on cpu, plan cooperative: 6 layers, up to 64 tokens a pass

    stage      ops (* made by every block)      over      MB a token  us of reads  us of waits  us of work  then
    embed      embed                            rows                                                        grid barrier: attn_norm needs whole tokens of x, which embed makes in other blocks
    qkv        attn_norm* qkv_proj              rows            1.57                                        grid barrier: qk_norm needs whole q heads of q, which qkv_proj makes in other blocks
    attention  qk_norm* rope* kv_append attend  kv_heads                                                    grid barrier: attn_merge needs whole q heads of partial, which attend makes in other blocks
    attn_out   attn_merge* o_proj attn_add      rows            0.79                                        grid barrier: ffn_norm needs whole tokens of x, which attn_add makes in other blocks
    ffn_up     ffn_norm* gate_up swiglu         rows            4.72                                        grid barrier: down_proj needs all of h, which swiglu makes in other blocks
    ffn_down   down_proj ffn_add                rows            2.36                                        grid barrier: attn_norm needs whole tokens of x, which ffn_add makes in other blocks
    head       final_norm* lm_head              rows            2.10                                        grid barrier: sample needs all of logits, which lm_head makes in other blocks
    sample     sample                           once
    total                                                      11.53                                        32 grid barriers a token

    no predicted speed, since the bandwidth of this target is not known; every position before adds 3.1 kB of KV cache to read"
  `);
});

describe.each([cooperative, stream])('a token of plan $name', (made) => {
  const dims = modelOf('qwen3-0.6b');
  const schedule = scheduleOf(dims, made, 'h100');

  test('reads keys and values of all heads, in every layer, of each position before it', () => {
    const cost = estimate(schedule, 1000);
    expect(cost.bytes.kvPerPosition).toBe(2 * 28 * 8 * 128 * 2);
    const read = cost.stages.map((stage) => [stage.name, stage.cacheBytes * runsOf(schedule, stage)]);
    const all = 1000 * cost.bytes.kvPerPosition;
    expect(read).toEqual(schedule.stages.map(({ name, ops }) => [name, ops.includes('attend') ? all : 0]));
    expect(cost.readMicros! - estimate(schedule, 0).readMicros!).toBeCloseTo(all / 3100e3, 6);
    expect(cost.position).toBe(1000);
  });

  test('makes fewer tokens a second the later it comes', () => {
    const speeds = [0, 100, 2000, 40000].map((position) => estimate(schedule, position).tokensPerSecond!);
    expect(speeds).toEqual(speeds.toSorted((a, b) => b - a));
    expect(new Set(speeds).size).toBe(4);
  });
});

test('a table at a position counts the bytes of the cache with attention, and says where it stands', () => {
  const table = tableOf(modelOf('qwen3-0.6b'), cooperative, 'h100', 2000).split('\n');
  const lines = table.filter((line) => /^(stage|attention|total|predicted) /.test(line));
  expect(lines.join('\n')).toMatchInlineSnapshot(`
    "stage      ops (* made by every block)      over           MB a token  us of reads  us of waits  us of work  then
    attention  qk_norm* rope* kv_append attend  kv_heads x 16      229.38         74.0         33.6       135.1  grid barrier: attn_merge needs whole q heads of partial, which attend makes in other blocks
    total                                                         1421.34        467.5        170.4       500.6  142 grid barriers a token
    predicted 878 tok/s at position 2000, 1138.5 us a token, at 3100 GB/s (measured) and the terms of this target; every position before adds 114.7 kB of KV cache to read"
  `);
});

test('a table shows how far ahead blocks prefetch, where they do', () => {
  const ahead = withScheme(cooperative, barriers({ prefetch: 2 }));
  const lineOf = (target: string) =>
    tableOf(modelOf('qwen3-0.6b'), ahead, target)
      .split('\n')
      .find((line) => line.startsWith('prefetch'));
  expect(lineOf('h100')).toMatchInlineSnapshot(
    `"prefetch  before a barrier each block asks for its rows of the stage 2 ahead"`,
  );
  expect(lineOf('cpu')).toBeUndefined(); // a CPU's blocks have no time to ask ahead
  expect(tableOf(modelOf('qwen3-0.6b'), cooperative, 'h100')).not.toContain('prefetch');
});

describe('a stream', () => {
  const qwen = modelOf('qwen3-0.6b');
  type Options = Partial<Omit<StreamScheme, 'kind'>>;
  const streamOf = (dims: ModelDims, target: Target, options: Options = {}) =>
    lowerStream(decoderGraph(dims), withScheme(stream, streamed(options)), target);
  const costOf = (dims: ModelDims, target: Target, options: Options = {}, position = 0) =>
    estimate(streamOf(dims, target, options), position);

  test.each(models)('of $name is read once a token, with its padding', (dims) => {
    const schedule = streamOf(dims, h100);
    const cost = estimate(schedule);
    const { padding } = streamFacts(schedule);
    expect(readOnce(cost, dims)).toBe(schedule.streamBytes);
    expect((1 - padding) * schedule.streamBytes).toBeCloseTo(cost.bytes.weights, 0);
    expect(padding).toBeGreaterThanOrEqual(0);
  });

  test.each(models)('of $name is dealt to blocks that differ by a tile of each product at most', (dims) => {
    const schedule = streamOf(dims, h100);
    const { products, blocks, streamBytes } = schedule;
    const { leastBytes, mostBytes } = streamFacts(schedule);
    const tiles = products.map((p) => p.tileBytes * (p.op === 'lm_head' ? 1 : dims.layers));
    expect(mostBytes - leastBytes).toBeLessThanOrEqual(tiles.reduce((sum, one) => sum + one, 0));
    expect(leastBytes * blocks).toBeLessThanOrEqual(streamBytes);
    expect(mostBytes * blocks).toBeGreaterThanOrEqual(streamBytes);
  });

  test('takes the longer of its bytes and its chain of exchanges', () => {
    const slow = costOf(qwen, { ...h100, bandwidth: 31 });
    const [layers, rest] = slow.parts;
    expect(slow.micros).toBeCloseTo((28 * layers!.bytes + rest!.bytes) / 31e3, 1);
    const fast = costOf(qwen, { ...h100, bandwidth: 1000 * 3100 });
    expect(fast.micros).toBeCloseTo(workOf(fast), 0);
    expect([slow.syncsPerToken, slow.syncName]).toEqual([142, 'exchanges']);
  });

  test('has one exchange a layer more where the splits of the positions are merged', () => {
    const later = streamOf(qwen, h100, { splits: byContext({ 1: 0, 16: 128 }) });
    const atOnce = streamOf(qwen, h100, { splits: byContext({ 16: 0 }) });
    const costs = [
      estimate(later, 127),
      estimate(later, 128),
      estimate(atOnce, 0),
      estimate(atOnce, 128),
    ].map((cost) => cost.syncsPerToken);
    expect(costs).toEqual([142, 142 + 28, 142 + 28, 142 + 28]);
  });

  test('hands att over itself where no head is split', () => {
    const { stages } = costOf({ ...modelOf('qwen3-tiny'), kvHeads: 4 }, { ...h100, sms: 7 });
    const attention = stages.find((stage) => stage.name === 'attention')!;
    expect([attention.syncs.map(({ tensors }) => tensors), attention.over]).toEqual([[['att']], 'kv_heads']);
    expect(attention.syncs).toMatchObject([{ isNeeded: true, when: '' }]);
    expect(stages.find((stage) => stage.name === 'merge')).toBeUndefined();
  });

  test('polls the input of each product, its own head, and the best logit of each block', () => {
    const layer = 1024 + (2 + 2) * 128 + 2048 + 1024 + 3072;
    const polled = (handoff: StreamScheme['handoff']) =>
      streamFacts(streamOf(qwen, h100, { handoff })).polledBytes;
    expect(polled('sentinel')).toBe(2 * 28 * layer + 128 * 8);
    expect(polled('epoch')).toBe(2 * polled('sentinel'));
  });

  test('polls what one block makes of x for all, in the first layer too, and not x itself', async () => {
    const polled = async (name: string) => {
      const schedule = makeSchedule(qwen, await resolvePlan(name), h100);
      if (schedule.scheme !== 'stream') throw new Error(`${name} is a plan of a stream`);
      return streamFacts(schedule).polledBytes;
    };
    expect((await polled('stream-norms-once')) - (await polled('stream'))).toBe(2 * 1024);
    expect(await polled('stream-ffn-norm-once')).toBe(await polled('stream'));
  });

  test('has a slot more under way while a quarter of the ring is free, and where a head is not split', () => {
    const slots = (options: Options) => {
      const schedule = streamOf(qwen, h100, {
        slots: 12,
        copiesInFlight: 2,
        headCopiesInFlight: 8,
        ...options,
      });
      const { slotBytes } = schedule.ring;
      const { layers, alone, head } = streamFacts(schedule).inFlight;
      return [layers, alone, head].map((one) => one && [one.usual / slotBytes, one.most / slotBytes]);
    };
    expect(slots({})).toEqual([
      [2, 3],
      [3, 4],
      [8, 9],
    ]);
    expect(slots({ splits: byContext({ 16: 0 }) })).toEqual([[2, 3], null, [8, 9]]);
  });

  test('fills all slots but one at most', () => {
    const schedule = streamOf(qwen, h100, { slots: 8, copiesInFlight: 6, headCopiesInFlight: 16 });
    const { layers, alone, head } = streamFacts(schedule).inFlight;
    expect(schedule.kernels[0]!.slots).toBe(8);
    // While a quarter is free the other 6 of 8 may be under way, else 7.
    expect([layers.most, alone!.most, head.most]).toEqual(
      [6, 7, 7].map((count) => count * schedule.ring.slotBytes),
    );
  });

  test('of qwen3-0.6b on h100 as a table', () => {
    expect(tableOf(qwen, stream, 'h100')).toMatchInlineSnapshot(`
      "qwen3-0.6b on h100, plan stream: 28 layers, up to 16 tokens a pass

      stage      ops (* made by every block)      over                MB a token  us of reads  us of waits  us of work  then
      embed      embed                            rows                                                 0.6        25.0
      qkv        attn_norm* qkv_proj              rows                    234.88         75.8         21.2         9.5  exchange of q, k, v: qk_norm needs whole q heads of q, which qkv_proj makes in other blocks
      attention  qk_norm* rope* kv_append attend  kv_heads x 1 to 16                                  18.4        72.8  from position 384 on: exchange of partial: attn_merge needs whole q heads of partial, which attend makes in other blocks
                                                                                                                        up to position 383: exchange of att: o_proj needs all of att, which attend makes in other blocks
      merge      attn_merge                       q_heads                                                               from position 384 on: exchange of att: o_proj needs all of att, which attn_merge makes in other blocks
                                                                                                                        block sync: o_proj reuses what attend reads: the sums of all warps
      attn_out   o_proj attn_add                  rows                    117.44         37.9         26.8         4.8  exchange of x: ffn_norm needs whole tokens of x, which attn_add makes in other blocks
      ffn_up     ffn_norm* gate_up swiglu         rows                    352.32        113.7         21.2        14.3  exchange of h: down_proj needs all of h, which swiglu makes in other blocks
                                                                                                                        cache: attend of the next pass streams positions that kv_append stores in other blocks
      ffn_down   down_proj ffn_add                rows                    176.16         56.8         32.4         7.1  exchange of x: attn_norm needs whole tokens of x, which ffn_add makes in other blocks
      head       final_norm* lm_head              rows                    311.16        100.8          0.8        12.7  exchange of logits: sample needs all of logits, which lm_head makes in other blocks
      sample     sample                           once                                                 0.6         7.6  exchange of next: embed of the next pass needs next, which sample makes in another block
      total                                                              1191.97        384.9        121.9       153.8  142 exchanges a token

      blocks  128; each streams 9.31 to 9.32 MB a token and polls 421 KiB of exchanges; 0.0 % of the stream is padding
      ring    12 slots of 16 KiB; 8, 8, 5 in passes of up to 4, 8, 16 tokens
      copies  at most 16 or 32 KiB under way, 32 or 48 in blocks that have all positions of a head, 128 or 144 in the LM head; the larger while a quarter of the ring is free
      heads   2 blocks a kv head, a slice of its values each; from position 384 on 8 blocks a kv head, whose splits are merged; from position 640 on 16 blocks a kv head, whose splits are merged
      words   announced by a sentinel, four buffers

      predicted 2558 tok/s at position 0, 390.9 us a token, since reads go on beside waits and work, at 3100 GB/s (measured) and the terms of this target; every position before adds 114.7 kB of KV cache to read"
    `);
  });

  test('of qwen3-0.6b on h100 at a position where heads are split has other lines', () => {
    const before = tableOf(qwen, stream, 'h100').split('\n');
    const lines = tableOf(qwen, stream, 'h100', 1900).split('\n');
    expect(lines.filter((line) => !before.includes(line)).join('\n')).toMatchInlineSnapshot(`
      "attention  qk_norm* rope* kv_append attend  kv_heads x 1 to 16      217.91         70.3         18.4       106.0  from position 384 on: exchange of partial: attn_merge needs whole q heads of partial, which attend makes in other blocks
      merge      attn_merge                       q_heads                                             26.8        19.6  from position 384 on: exchange of att: o_proj needs all of att, which attn_merge makes in other blocks
      total                                                              1409.88        455.2        148.7       206.6  170 exchanges a token
      predicted 2107 tok/s at position 1900, 474.5 us a token, since reads go on beside waits and work, at 3100 GB/s (measured) and the terms of this target; every position before adds 114.7 kB of KV cache to read"
    `);
  });

  test('of smollm2-135m on a100 is dealt unevenly, without padding', () => {
    const lines = tableOf(modelOf('smollm2-135m'), stream, 'a100').split('\n');
    expect(
      lines.slice(lines.findIndex((line) => line.startsWith('blocks'))).join('\n'),
    ).toMatchInlineSnapshot(`
      "blocks  96; each streams 1.97 to 3.26 MB a token and polls 211 KiB of exchanges; 0.0 % of the stream is padding
      ring    8 slots of 16 KiB; 5, 5, 4 in passes of up to 4, 8, 16 tokens
      copies  at most 16 or 32 KiB under way, 32 or 48 in blocks that have all positions of a head, 112 in the LM head; the larger while a quarter of the ring is free; by a warp with cp.async
      heads   2 blocks a kv head, a slice of its values each; from position 384 on 8 blocks a kv head, whose splits are merged; from position 640 on 16 blocks a kv head, whose splits are merged
      words   announced by a sentinel, four buffers

      predicted 3918 tok/s at position 0, 255.2 us a token, since reads go on beside waits and work, at 1383 GB/s (measured); assumed, since nobody has measured them here (gen calibrate does): hop, words, queue, slot, cells, streamAttend, streamQueries, streamChoose, streamToken; every position before adds 23.0 kB of KV cache to read"
    `);
  });
});
