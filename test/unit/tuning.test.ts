// Options of the machine: each changes what is printed for a GPU and nothing for a CPU, and those that cannot be are refused.
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { described } from '../../codegen/build/describe.ts';
import { generate, type ModelDims, optionsWithoutEffect } from '../../codegen/index.ts';
import { decoderGraph } from '../../codegen/model/graph.ts';
import { checkPlan } from '../../codegen/plan/check.ts';
import { formatIssues } from '../../codegen/plan/issue.ts';
import { barriers, type FusionPlan, type Tuning } from '../../codegen/plan/plan.ts';
import { schemeOptions } from '../../codegen/plan/shape.ts';
import type { Target } from '../../codegen/schedule/target.ts';
import { libraryScratch } from '../../codegen/schemes/barriers/library-scratch.ts';
import { lowerBarriers, sharedBytes } from '../../codegen/schemes/barriers/lower.ts';
import { simulate } from '../../codegen/schemes/barriers/simulate.ts';
import { tuningLines, tuningOf } from '../../codegen/schemes/barriers/tuning.ts';
import { uncoveredBarriers } from '../../codegen/schemes/barriers/uncovered.ts';
import { lowerStream } from '../../codegen/schemes/stream/lower.ts';
import { models } from '../../configs/models.ts';
import seed, { variants } from '../../configs/plans/seed.ts';
import stream from '../../configs/plans/stream.ts';
import unfused from '../../configs/plans/unfused.ts';
import { resolveModel } from '../../configs/resolve.ts';
import { targetNamed } from '../../configs/targets.ts';
import * as illegal from '../illegal/machine.ts';

const micro = resolveModel(join(import.meta.dirname, '../fixtures/qwen3-micro')).dims;
const qwen = models.find(({ name }) => name === 'qwen3-0.6b')!;
const targetOf = (name: string): Target => targetNamed(name)!;

/** What is printed for a model and its plan. */
async function textOf(plan: FusionPlan, target = 'h100'): Promise<string> {
  const { sources } = await generate({ dims: micro, plan: plan.with('same', {}), target: targetOf(target) });
  return Object.entries(sources)
    .filter(([name]) => name === 'model.h' || name.startsWith('kernel.'))
    .map(([, text]) => text.replace(/^(?:\/\/.*\n)+/, ''))
    .join('\n');
}

/** Another value of each option; those that need others have them. */
const ofBarriers: Readonly<Record<string, Tuning>> = {
  prefetch: { prefetch: 2 },
  prefetchBy: { prefetch: 2, prefetchBy: 'idle' },
  blocks: { blocks: 82 },
  warps: { warps: 8 },
  loadBits: { loadBits: 64 },
  loadsInFlight: { loadsInFlight: 4 },
  buffers: { buffers: 2, loadsInFlight: 4 },
  producers: { buffers: 2, loadsInFlight: 4, producers: 2 },
  barrier: { barrier: 'grid.sync' },
  inputs: { inputs: 'global' },
  tokens: { tokens: 4 },
};
/** Of a CPU alone. */
const ofCpu: Readonly<Record<string, Tuning>> = { inputBits: { inputBits: 8 } };
const ofStream: Readonly<Record<string, Tuning>> = {
  slots: { slots: 6 },
  slotBytes: { slotBytes: 8192 },
  copiesInFlight: { copiesInFlight: 3 },
  headCopiesInFlight: { headCopiesInFlight: 3 },
  handoff: { handoff: 'epoch' },
  splits: { splits: [{ splits: 2, from: 0 }] },
  copy: { copy: 'cp.async' },
  blocks: { blocks: 4 },
  pollCycles: { pollCycles: { o_proj: 300 } },
  tokens: { tokens: 4 },
};

describe.each([
  ['barriers', unfused, ofBarriers, ofCpu],
  ['stream', stream, ofStream, {}],
] as const)('each option of %s', (kind, plan, values, others) => {
  test('has another value here', () => {
    const names = Object.keys({ ...values, ...others });
    expect(names.sort()).toEqual(Object.keys(schemeOptions[kind]).sort());
  });

  test('changes what is printed for a GPU, each in its own way', async () => {
    const usual = await textOf(plan);
    const texts = await Promise.all(
      Object.values(values).map((value) => textOf(plan.with('tuned', {}, value))),
    );
    const names = Object.keys(values);
    expect(names.filter((_, i) => texts[i] === usual)).toEqual([]);
    expect(new Set(texts).size).toBe(texts.length);
  });
});

test('a CPU prints the same whatever the options of the machine, and says which it does not have', async () => {
  const usual = await textOf(unfused, 'cpu');
  const cpu = targetOf('cpu');
  expect(optionsWithoutEffect(unfused, cpu)).toEqual([]);
  for (const { tokens, ...options } of Object.values(ofBarriers) as { tokens?: number }[]) {
    if (tokens !== undefined) continue;
    const plan = unfused.with('tuned', {}, options);
    expect(await textOf(plan, 'cpu')).toBe(usual);
    expect(optionsWithoutEffect(plan, cpu).sort()).toEqual(Object.keys(options).sort());
    expect(optionsWithoutEffect(plan, targetOf('h100'))).toEqual([]);
  }
});

test('a CPU prints the same whatever the options of a stream, and says so', async () => {
  const usual = await textOf(stream, 'cpu');
  const options = { slots: 9, splits: [{ splits: 2, from: 0 }], pollCycles: { o_proj: 3 } };
  const plan = stream.with('tuned', {}, options);
  expect(await textOf(plan, 'cpu')).toBe(usual);
  expect(optionsWithoutEffect(plan, targetOf('cpu')).sort()).toEqual(Object.keys(options).sort());
  expect(optionsWithoutEffect(stream.with('few', {}, { tokens: 1 }), targetOf('cpu'))).toEqual([]);
  expect(optionsWithoutEffect(plan, targetOf('h100'))).toEqual([]);
});

test('inputs of 8 bits are another kernel of a CPU, which says so, and allow for their rounding', async () => {
  const dims = { ...micro, weights: { layers: 'int4', embedding: 'int8', head: 'int8' } as const };
  const target = targetOf('cpu');
  const bytes = unfused.with('bytes', {}, { inputBits: 8 });
  const [usual, made] = await Promise.all(
    [unfused, bytes].map((plan) => generate({ dims, plan: plan.with('same', {}), target })),
  );
  const constant = (kernel: typeof made) => /kInputBits = (\d+)/.exec(kernel!.sources['model.h']!)?.[1];
  expect([constant(usual), constant(made)]).toEqual(['16', '8']);
  expect(optionsWithoutEffect(bytes, target)).toEqual([]);
  expect(usual!.schedule.roundings).toEqual({ perLayer: 0, once: 0 });
  expect(made!.schedule.roundings).toEqual({ perLayer: 0, once: 0, inputBits: 8 });
  expect(described(usual!, []).roundings).toEqual({ perLayer: 0, once: 0 });
  expect(described(made!, []).roundings).toEqual({ perLayer: 0, once: 0, inputBits: 8 });
  const told = (plan: FusionPlan) => tuningLines({ tuning: tuningOf(plan, target), target });
  expect(told(bytes)).toEqual(['options   inputs of blocks in 8 bits']);
  expect(told(unfused)).toEqual([]);
});

test('a launch has no more blocks than the target, and splits of attention follow', () => {
  const made = (options: Tuning, target: string) =>
    lowerBarriers(decoderGraph(qwen), unfused.with('tuned', {}, options), targetOf(target));
  expect(made({ blocks: 128 }, 'h100').blocks).toBe(128);
  expect(made({ blocks: 128 }, 'rtx3090').blocks).toBe(82);
  expect(made({ blocks: 'fit' }, 'h100').blocks).toBe(132);
  const tuningFor = (blocks: number | 'fit') => made({ blocks }, 'h100').tuning;
  for (const all of [132, 1024]) expect(tuningFor(all)).toEqual(tuningFor('fit'));
  const { splits } = made({ blocks: 40 }, 'h100');
  expect(splits).toBeLessThan(made({}, 'h100').splits);
  expect(splits * qwen.kvHeads).toBeLessThanOrEqual(40);
  const blocks = (wanted: number | 'fit') =>
    lowerStream(decoderGraph(qwen), stream.with('tuned', {}, { blocks: wanted }), targetOf('h100')).blocks;
  expect([blocks(64), blocks('fit'), blocks(1024)]).toEqual([64, 128, 132]);
});

test('buffers, and the warps that fill them, count as shared memory', () => {
  const bytes = (options: Tuning) => {
    const tuning = tuningOf({ scheme: barriers(options as never) }, targetOf('h100'));
    return sharedBytes(libraryScratch(tuning), 0);
  };
  const usual = bytes({});
  // Two buffers of 4 loads of 16 bytes for each of 512 lanes.
  expect(bytes({ buffers: 2, loadsInFlight: 4 }) - usual).toBe(2 * 4 * 16 * 512);
  expect(bytes({ buffers: 2, loadsInFlight: 4, loadBits: 64 }) - usual).toBe(2 * 4 * 8 * 512);
  // A lane has at least a load of each of two interleaved matrices.
  expect(bytes({ buffers: 1, loadsInFlight: 1 }) - usual).toBe(2 * 16 * 512);
  // 4 of 16 warps only copy: 12 have buffers, and two mbarriers for each.
  expect(bytes({ buffers: 1, loadsInFlight: 4, producers: 2 }) - usual).toBe(4 * 16 * 32 * 12 + 2 * 8 * 12);
});

test.each(['shared', 'global'] as const)('with inputs in %s memory every sync is needed', (inputs) => {
  const made = lowerBarriers(decoderGraph(micro), seed.with('tuned', {}, { inputs }), targetOf('h100'));
  expect(uncoveredBarriers(made)).toEqual([]);
  expect(simulate(made, { blocks: 2, warps: 2, tokens: 1, position: 1, seed: 1 })).toEqual([]);
  const missed = made.syncs.filter((sync) => {
    const syncs = made.syncs.filter((other) => other !== sync);
    return uncoveredBarriers({ ...made, syncs }).length === 0;
  });
  expect(missed).toEqual([]);
});

describe('is refused:', () => {
  const message = (plan: FusionPlan, target = 'h100') =>
    formatIssues(checkPlan(decoderGraph(qwen), plan, targetOf(target)));

  test('producers without buffers, on a CPU too', () => {
    expect(message(illegal.noBuffers)).toMatchInlineSnapshot(`
      "machine.ts:8:75: error: producers-without-buffers
        8 | export const noBuffers = plan('no-buffers', stages, barriers({ producers: 2 }));
          |                                                                           ^
        producers copy weights into buffers in shared memory, and buffers: 0 has none.
        Legal here: buffers: 2; or producers: 0."
    `);
    expect(message(illegal.noBuffers, 'cpu')).toContain('error: producers-without-buffers');
  });
  test('inputs of 8 bits for rows that are not in blocks of whole numbers', () => {
    const told = (weights: ModelDims['weights'], target = 'cpu') =>
      formatIssues(
        checkPlan(
          decoderGraph({ ...qwen, ...(weights && { weights }) }),
          illegal.bytesOfNumbers,
          targetOf(target),
        ),
      );
    expect(told(undefined)).toMatchInlineSnapshot(`
      "machine.ts:19:75: error: bytes-without-blocks
        19 | export const bytesOfNumbers = plan('bytes', stages, barriers({ inputBits: 8 }));
           |                                                                           ^
        matrices of qwen3-0.6b are bf16, and inputs are rounded to 8 bits for rows in blocks alone, of int8, int4, int4-asym.
        Legal here: inputBits: 16."
    `);
    expect(told(undefined, 'h100')).toContain('error: bytes-without-blocks');
    const ofFile = { layers: 'int4-asym', embedding: 'bf16', head: 'bf16' } as const;
    expect(told(ofFile)).toContain('are int4-asym, embedding and head bf16, and inputs');
    expect(told({ ...ofFile, embedding: 'int8', head: 'int8' })).toBe('');
    expect(told({ layers: 'int4', qkv: 'int8', embedding: 'int8', head: 'int8' })).toBe('');
  });
  test('half a warp', () => {
    expect(message(illegal.halfAWarp)).toMatchInlineSnapshot(`
      "machine.ts:9:98: error: part-of-a-warp
        9 | export const halfAWarp = plan('half-a-warp', stages, barriers({ warps: 4, buffers: 2, producers: 1 }));
          |                                                                                                  ^
        1 of each 8 warps are 0.5 of 4, and a producer is a whole warp.
        Legal here: producers: 0; or producers: 2; or warps: 8."
    `);
  });
  test('warps that would have no part of a row', () => {
    const small = models.find(({ name }) => name === 'smollm2-135m')!;
    const told = (dims: ModelDims, target: string) =>
      formatIssues(checkPlan(decoderGraph(dims), illegal.emptySlices, targetOf(target)));
    expect(told(small, 'h100')).toMatchInlineSnapshot(`
      "machine.ts:16:75: error: warps-without-columns
        16 | export const emptySlices = plan('empty-slices', stages, barriers({ warps: 32, loadBits: 64 }));
           |                                                                           ^^
        a row of qkv_proj of smollm2-135m is 5 loads of 64 bits a lane, and of 4 warps of 32 that share it, 2 loads each, the last would have none.
        Legal here: warps: 16; or warps: 8; or loadBits: 128."
    `);
    expect(told(small, 'cpu')).toBe('');
    expect(told(qwen, 'h100')).toBe('');
  });
  test('more tokens than warps', () => {
    expect(message(illegal.tokensOfFewWarps)).toMatchInlineSnapshot(`
      "machine.ts:10:88: error: tokens
        10 | export const tokensOfFewWarps = plan('few-warps', stages, barriers({ warps: 4, tokens: 8 }));
           |                                                                                        ^
        a pass has 1 to 4 tokens on h100, not 8.
        Legal here: tokens: 4; or tokens: 'many'."
    `);
    expect(message(illegal.tokensOfFewWarps, 'cpu')).toBe('');
  });
  test('buffers that do not fit', () => {
    expect(message(illegal.largeBuffers, 'rtx4090')).toMatchInlineSnapshot(`
      "machine.ts:11:35: error: shared-memory-over-budget
        11 | export const largeBuffers = plan('large-buffers', stages, barriers({ buffers: 3, loadsInFlight: 16 }));
           |                                   ^^^^^^^^^^^^^
        a pass of 1 token needs 410 KiB of shared memory a block, and rtx4090 has 99.
        Legal here: loadsInFlight: 3; or buffers: 0, producers: 0."
    `);
  });
  test('a value that an option does not take', () => {
    expect(message(illegal.inFlight)).toMatchInlineSnapshot(`
      "machine.ts:12:77: error: option-value
        12 | export const inFlight = plan('in-flight', stages, barriers({ loadsInFlight: 17 }));
           |                                                                             ^^
        loadsInFlight of barriers() is 17.
        It takes: a whole number from 1 to 16."
    `);
    expect(message(illegal.polls)).toMatchInlineSnapshot(`
      "machine.ts:15:74: error: option-value
        15 | export const polls = plan('polls', streamed.stages, stream({ pollCycles: { o_prj: 300 } as never }));
           |                                                                          ^^^^^^^^^^^^^^
        pollCycles of stream() is {'o_prj':300}.
        It takes: 'fit', cycles from 0 to 100000 by op: { o_proj: 300 }."
    `);
  });
  test('bulk copies where there is no engine', () => {
    expect(message(illegal.bulk, 'a100')).toMatchInlineSnapshot(`
      "machine.ts:13:67: error: bulk-without-engine
        13 | export const bulk = plan('bulk', streamed.stages, stream({ copy: 'bulk' }));
           |                                                                   ^^^^
        a100 is sm_80, and the copy engine that makes bulk copies came with sm_90.
        Legal here: copy: 'cp.async'; or copy: 'fit'."
    `);
    expect(message(illegal.bulk)).toBe('');
  });
  test('a stream of fewer blocks than kv heads', () => {
    expect(message(illegal.fewBlocks)).toMatchInlineSnapshot(`
      "machine.ts:14:79: error: fewer-blocks-than-heads
        14 | export const fewBlocks = plan('few-blocks', streamed.stages, stream({ blocks: 4 }));
           |                                                                               ^
        each of the 8 kv heads of qwen3-0.6b needs a block of its own, and the plan has 4.
        Legal here: blocks: 8; or blocks: 'fit'."
    `);
  });
});

describe('the seed', () => {
  test('meets eight times a layer', () => {
    const { syncs, stages } = lowerBarriers(decoderGraph(qwen), seed, targetOf('rtx3090'));
    const layer = stages.filter(({ part }) => part === 'layer').map(({ name }) => name);
    expect(syncs.filter(({ scope, after }) => scope === 'grid' && layer.includes(after.stage)).length).toBe(
      8,
    );
  });

  test('has variants that are called after it, and are other kernels', async () => {
    const plans = [seed, ...variants];
    expect(variants.filter(({ name }) => !name.startsWith('seed-'))).toEqual([]);
    const texts = await Promise.all(plans.map((plan) => textOf(plan)));
    expect(new Set(texts).size).toBe(plans.length);
  });
});
