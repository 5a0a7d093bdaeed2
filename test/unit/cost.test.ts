// What a plan should cost, and the table that says so.
import { describe, expect, test } from 'vitest';
import { estimate, explainTable, makeSchedule } from '../../codegen/index.ts';
import type { ModelDims } from '../../codegen/model/dims.ts';
import { decoderGraph } from '../../codegen/model/graph.ts';
import { withScheme } from '../../codegen/plan/edits.ts';
import {
  barriers,
  byContext,
  type FusionPlan,
  type StreamScheme,
  stream as streamed,
} from '../../codegen/plan/plan.ts';
import { type Cost, runsOf } from '../../codegen/schedule/cost.ts';
import type { Target } from '../../codegen/schedule/target.ts';
import { streamFacts } from '../../codegen/schemes/stream/cost.ts';
import { lowerStream } from '../../codegen/schemes/stream/lower.ts';
import { models } from '../../configs/models.ts';
import cooperative from '../../configs/plans/cooperative.ts';
import stream from '../../configs/plans/stream.ts';
import unfused from '../../configs/plans/unfused.ts';
import { targets } from '../../configs/targets.ts';

const modelOf = (name: string): ModelDims => models.find((model) => model.name === name)!;
const targetOf = (name: string): Target => targets.find((target) => target.name === name)!;
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

test('a token of qwen3-0.6b takes the time of its bytes and of 142 barriers', () => {
  const cost = estimate(scheduleOf(modelOf('qwen3-0.6b'), cooperative, 'h100'));
  expect([cost.syncsPerToken, cost.syncName]).toEqual([28 * 5 + 2, 'grid barriers']);
  expect(cost.micros).toBeCloseTo(cost.bytes.weights / 3100e3 + 142 * 1.1, 6);
  expect(cost.tokensPerSecond).toBeCloseTo(1e6 / cost.micros!, 6);
});

test('the same plan with fewer barriers is faster by their time', () => {
  const [few, many] = [cooperative, unfused].map((made) =>
    estimate(scheduleOf(modelOf('qwen3-4b'), made, 'h100')),
  );
  const barriers = many!.syncsPerToken - few!.syncsPerToken;
  expect(barriers).toBeGreaterThan(0);
  expect(many!.micros! - few!.micros!).toBeCloseTo(barriers * 1.1, 6);
});

test('a CPU of unknown bandwidth gets no time', () => {
  const cost = estimate(scheduleOf(modelOf('qwen3-tiny'), cooperative, 'cpu'));
  expect([cost.micros, cost.tokensPerSecond, cost.stages[1]!.micros]).toEqual([null, null, null]);
});

test('the table of qwen3-0.6b on h100', () => {
  expect(tableOf(modelOf('qwen3-0.6b'), cooperative, 'h100')).toMatchInlineSnapshot(`
    "qwen3-0.6b on h100, plan cooperative: 28 layers, up to 8 tokens a pass

    stage      ops (* made by every block)      over           MB a token  us of reads  us of waits  then
    embed      embed                            rows                                            1.1  grid barrier: attn_norm needs whole tokens of x, which embed makes in other blocks
    qkv        attn_norm* qkv_proj              rows               234.88         75.8         30.8  grid barrier: qk_norm needs whole q heads of q, which qkv_proj makes in other blocks
                 after norm_input                                                                    block sync: qkv_proj reads what all threads of the block put into its scratch
    attention  qk_norm* rope* kv_append attend  kv_heads x 16                                  30.8  grid barrier: attn_merge needs whole q heads of partial, which attend makes in other blocks
                 after qk_norm                                                                       block sync: rope reads what all threads of the block put into its scratch
                 after rope                                                                          block sync: kv_append reads what all threads of the block put into its scratch
                 after kv_append                                                                     block sync: attend uses what other threads of its block touched in kv_append
    attn_out   attn_merge* o_proj attn_add      rows               117.44         37.9         30.8  grid barrier: ffn_norm needs whole tokens of x, which attn_add makes in other blocks
                 after merge_input                                                                   block sync: o_proj reads what all threads of the block put into its scratch
    ffn_up     ffn_norm* gate_up swiglu         rows               352.32        113.7         30.8  grid barrier: down_proj needs all of h, which swiglu makes in other blocks
                 after norm_input                                                                    block sync: gate_up reads what all threads of the block put into its scratch
    ffn_down   down_proj ffn_add                rows               176.16         56.8         30.8  grid barrier: attn_norm needs whole tokens of x, which ffn_add makes in other blocks
                 after gather_input                                                                  block sync: down_proj reads what all threads of the block put into its scratch
    head       final_norm* lm_head              rows               311.16        100.4          1.1  grid barrier: sample needs all of logits, which lm_head makes in other blocks
                 after norm_input                                                                    block sync: lm_head reads what all threads of the block put into its scratch
    sample     sample                           once
    total                                                         1191.97        384.5        156.2  142 grid barriers a token

    blocks    132 of 16 warps; a lane has 12 loads of 128 bits in flight

    predicted 1849 tok/s at position 0, at 3100 GB/s (measured) and 1.1 us a barrier; every position before adds 114.7 kB of KV cache to read"
  `);
});

test('the table of a CPU has neither times nor block syncs', () => {
  expect(tableOf(modelOf('qwen3-tiny'), cooperative, 'cpu')).toMatchInlineSnapshot(`
    "qwen3-tiny on cpu, plan cooperative: 6 layers, up to 64 tokens a pass

    stage      ops (* made by every block)      over      MB a token  us of reads  us of waits  then
    embed      embed                            rows                                            grid barrier: attn_norm needs whole tokens of x, which embed makes in other blocks
    qkv        attn_norm* qkv_proj              rows            1.57                            grid barrier: qk_norm needs whole q heads of q, which qkv_proj makes in other blocks
    attention  qk_norm* rope* kv_append attend  kv_heads                                        grid barrier: attn_merge needs whole q heads of partial, which attend makes in other blocks
    attn_out   attn_merge* o_proj attn_add      rows            0.79                            grid barrier: ffn_norm needs whole tokens of x, which attn_add makes in other blocks
    ffn_up     ffn_norm* gate_up swiglu         rows            4.72                            grid barrier: down_proj needs all of h, which swiglu makes in other blocks
    ffn_down   down_proj ffn_add                rows            2.36                            grid barrier: attn_norm needs whole tokens of x, which ffn_add makes in other blocks
    head       final_norm* lm_head              rows            2.10                            grid barrier: sample needs all of logits, which lm_head makes in other blocks
    sample     sample                           once
    total                                                      11.53                            32 grid barriers a token

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
    "stage      ops (* made by every block)      over           MB a token  us of reads  us of waits  then
    attention  qk_norm* rope* kv_append attend  kv_heads x 16      229.38         74.0         30.8  grid barrier: attn_merge needs whole q heads of partial, which attend makes in other blocks
    total                                                         1421.34        458.5        156.2  142 grid barriers a token
    predicted 1627 tok/s at position 2000, at 3100 GB/s (measured) and 1.1 us a barrier; every position before adds 114.7 kB of KV cache to read"
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
  const h100 = targetOf('h100');
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
    const slow = costOf(qwen, h100);
    expect(slow.micros).toBeCloseTo(1191968768 / 3100e3, 6);
    const fast = costOf(qwen, { ...h100, bandwidth: 100 * 3100 });
    expect(fast.micros).toBeCloseTo(fast.syncsPerToken * 0.86, 6);
    expect(slow.syncMicros).toBeCloseTo(fast.micros!, 6);
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
    ].map((cost) => [cost.syncsPerToken, cost.syncMicros.toFixed(6)]);
    const [alone, split] = [142, 142 + 28].map((count) => [count, (count * 0.86).toFixed(6)]);
    expect(costs).toEqual([alone, split, split, split]);
  });

  test('hands att over itself where no head is split', () => {
    const { stages } = costOf({ ...modelOf('qwen3-tiny'), kvHeads: 4 }, { ...h100, sms: 7 });
    const attention = stages.find((stage) => stage.name === 'attention')!;
    expect([attention.syncs.map(({ tensors }) => tensors), attention.over]).toEqual([[['att']], 'kv_heads']);
    expect(attention.syncs).toMatchObject([{ micros: 0.86, when: '' }]);
    expect(stages.find((stage) => stage.name === 'merge')).toBeUndefined();
  });

  test('takes an exchange for as dear as a barrier where it was not measured', () => {
    const { exchangeMicros: _, ...unknown } = h100;
    const chain = (target: Target) => costOf(qwen, target).syncMicros;
    expect(chain(unknown)).toBeCloseTo(142 * 1.1, 6);
    expect(chain(targetOf('h200'))).toBeCloseTo(142 * 1.1, 6);
  });

  test('polls the input of each product, its own head, and the best logit of each block', () => {
    const layer = 1024 + (2 + 2) * 128 + 2048 + 1024 + 3072;
    const polled = (handoff: StreamScheme['handoff']) =>
      streamFacts(streamOf(qwen, h100, { handoff })).polledBytes;
    expect(polled('sentinel')).toBe(2 * 28 * layer + 128 * 8);
    expect(polled('epoch')).toBe(2 * polled('sentinel'));
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

      stage      ops (* made by every block)      over                MB a token  us of reads  us of waits  then
      embed      embed                            rows
      qkv        attn_norm* qkv_proj              rows                    234.88         75.8         24.1  exchange of q, k, v: qk_norm needs whole q heads of q, which qkv_proj makes in other blocks
      attention  qk_norm* rope* kv_append attend  kv_heads x 1 to 16                                  24.1  from position 176 on: exchange of partial: attn_merge needs whole q heads of partial, which attend makes in other blocks
                                                                                                            up to position 175: exchange of att: o_proj needs all of att, which attend makes in other blocks
      merge      attn_merge                       q_heads                                                   from position 176 on: exchange of att: o_proj needs all of att, which attn_merge makes in other blocks
                                                                                                            block sync: o_proj reuses what attend reads: the sums of all warps
      attn_out   o_proj attn_add                  rows                    117.44         37.9         24.1  exchange of x: ffn_norm needs whole tokens of x, which attn_add makes in other blocks
      ffn_up     ffn_norm* gate_up swiglu         rows                    352.32        113.7         24.1  exchange of h: down_proj needs all of h, which swiglu makes in other blocks
                                                                                                            cache: attend of the next pass streams positions that kv_append stores in other blocks
      ffn_down   down_proj ffn_add                rows                    176.16         56.8         24.1  exchange of x: attn_norm needs whole tokens of x, which ffn_add makes in other blocks
      head       final_norm* lm_head              rows                    311.16        100.4          0.9  exchange of logits: sample needs all of logits, which lm_head makes in other blocks
      sample     sample                           once                                                 0.9  exchange of next: embed of the next pass needs next, which sample makes in another block
      total                                                              1191.97        384.5        122.1  142 exchanges a token

      blocks  128; each streams 9.31 to 9.32 MB a token and polls 421 KiB of exchanges; 0.0 % of the stream is padding
      ring    12 slots of 16 KiB; 8, 8, 5 in passes of up to 4, 8, 16 tokens
      copies  at most 16 or 32 KiB under way, 32 or 48 in blocks that have a head alone, 128 or 144 in the LM head; the larger while a quarter of the ring is free
      heads   one block a kv head; from position 176 on 4 blocks a kv head, whose splits are merged; from position 384 on 16 blocks a kv head, whose splits are merged
      words   announced by a sentinel, four buffers

      predicted 2601 tok/s at position 0, since the stream is the longer: at 3100 GB/s (measured) and 0.86 us an exchange; every position before adds 114.7 kB of KV cache to read"
    `);
  });

  test('of qwen3-0.6b on h100 as a table at a position where heads are split', () => {
    expect(tableOf(qwen, stream, 'h100', 1900)).toMatchInlineSnapshot(`
      "qwen3-0.6b on h100, plan stream: 28 layers, up to 16 tokens a pass

      stage      ops (* made by every block)      over                MB a token  us of reads  us of waits  then
      embed      embed                            rows
      qkv        attn_norm* qkv_proj              rows                    234.88         75.8         24.1  exchange of q, k, v: qk_norm needs whole q heads of q, which qkv_proj makes in other blocks
      attention  qk_norm* rope* kv_append attend  kv_heads x 1 to 16      217.91         70.3         24.1  from position 176 on: exchange of partial: attn_merge needs whole q heads of partial, which attend makes in other blocks
                                                                                                            up to position 175: exchange of att: o_proj needs all of att, which attend makes in other blocks
      merge      attn_merge                       q_heads                                             24.1  from position 176 on: exchange of att: o_proj needs all of att, which attn_merge makes in other blocks
                                                                                                            block sync: o_proj reuses what attend reads: the sums of all warps
      attn_out   o_proj attn_add                  rows                    117.44         37.9         24.1  exchange of x: ffn_norm needs whole tokens of x, which attn_add makes in other blocks
      ffn_up     ffn_norm* gate_up swiglu         rows                    352.32        113.7         24.1  exchange of h: down_proj needs all of h, which swiglu makes in other blocks
                                                                                                            cache: attend of the next pass streams positions that kv_append stores in other blocks
      ffn_down   down_proj ffn_add                rows                    176.16         56.8         24.1  exchange of x: attn_norm needs whole tokens of x, which ffn_add makes in other blocks
      head       final_norm* lm_head              rows                    311.16        100.4          0.9  exchange of logits: sample needs all of logits, which lm_head makes in other blocks
      sample     sample                           once                                                 0.9  exchange of next: embed of the next pass needs next, which sample makes in another block
      total                                                              1409.88        454.8        146.2  170 exchanges a token

      blocks  128; each streams 9.31 to 9.32 MB a token and polls 421 KiB of exchanges; 0.0 % of the stream is padding
      ring    12 slots of 16 KiB; 8, 8, 5 in passes of up to 4, 8, 16 tokens
      copies  at most 16 or 32 KiB under way, 32 or 48 in blocks that have a head alone, 128 or 144 in the LM head; the larger while a quarter of the ring is free
      heads   one block a kv head; from position 176 on 4 blocks a kv head, whose splits are merged; from position 384 on 16 blocks a kv head, whose splits are merged
      words   announced by a sentinel, four buffers

      predicted 2199 tok/s at position 1900, since the stream is the longer: at 3100 GB/s (measured) and 0.86 us an exchange; every position before adds 114.7 kB of KV cache to read"
    `);
  });

  test('of smollm2-135m on a100 is padded and dealt unevenly', () => {
    const lines = tableOf(modelOf('smollm2-135m'), stream, 'a100').split('\n');
    expect(
      lines.slice(lines.findIndex((line) => line.startsWith('blocks'))).join('\n'),
    ).toMatchInlineSnapshot(`
      "blocks  72; each streams 4.36 to 5.11 MB a token and polls 211 KiB of exchanges; 21.1 % of the stream is padding
      ring    8 slots of 16 KiB; 6, 5, 4 in passes of up to 4, 8, 16 tokens
      copies  at most 16 or 32 KiB under way, 32 or 48 in blocks that have a head alone, 112 in the LM head; the larger while a quarter of the ring is free; by a warp with cp.async
      heads   one block a kv head; from position 176 on 4 blocks a kv head, whose splits are merged; from position 384 on 16 blocks a kv head, whose splits are merged
      words   announced by a sentinel, four buffers

      predicted 4057 tok/s at position 0, since the stream is the longer: at 1383 GB/s (measured) and 1.3 us an exchange; every position before adds 23.0 kB of KV cache to read"
    `);
  });
});
