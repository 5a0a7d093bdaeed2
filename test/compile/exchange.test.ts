// Plans whose blocks hand words to each other: no fault in any interleaving of several passes, and every way to break the hand-over is seen.
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { decoderGraph } from '../../codegen/model/graph.ts';
import type { FusionPlan } from '../../codegen/plan/plan.ts';
import type { Sync } from '../../codegen/schedule/syncs.ts';
import type { StreamEvent } from '../../codegen/schemes/stream/events.ts';
import { rotations } from '../../codegen/schemes/stream/handoff.ts';
import { lowerStream } from '../../codegen/schemes/stream/lower.ts';
import type { StreamSchedule } from '../../codegen/schemes/stream/schedule.ts';
import { simulateStream } from '../../codegen/schemes/stream/simulate.ts';
import type { StreamSimulation } from '../../codegen/schemes/stream/simulated-workers.ts';
import { uncoveredStream } from '../../codegen/schemes/stream/uncovered.ts';
import { models } from '../../configs/models.ts';
import stream from '../../configs/plans/stream.ts';
import {
  h100,
  isLegalFor,
  nameOf,
  smallDims,
  streamPlans,
  textOf,
  tinyMachine,
  tinyStream,
  unmissed,
} from '../support/stream-plans.ts';

const qwen = models.find((model) => model.name === 'qwen3-0.6b')!;
const schedule = (dims = qwen, plan: FusionPlan = stream): StreamSchedule =>
  lowerStream(decoderGraph(dims), plan, h100);

/** Small, but with a tile of each product for each block. */
const small = schedule(smallDims, stream.with('small', {}, { blocks: 8 }));

/** Six layer visits, attention split from the second pass on. */
const usual = tinyStream(stream, { headDim: 1 }, 4, 3);

/** Fewer tiles of the residual than blocks, one of which passes its products by. */
const narrow = tinyStream(stream, { hidden: 3, headDim: 1 }, 4, 3, true);

/** More kv heads than tiles of any product, so that some blocks make nothing but a head's attention. */
const crowded = tinyStream(stream, { hidden: 1, ffn: 1, qHeads: 3, kvHeads: 3, headDim: 1 }, 3, 0);
const crowdedMachine: StreamSimulation = { ...tinyMachine, blocks: 3, tileRows: 5, position: 1 };

const kinds = (made: StreamSchedule, changes: Partial<StreamSimulation> = {}) =>
  new Set(simulateStream(made, { ...tinyMachine, ...changes }).map((fault) => fault.kind));
const crowdedKinds = (changes: Partial<StreamSimulation>) =>
  kinds(crowded, { ...crowdedMachine, ...changes });

const launches = fc
  .record({
    plan: streamPlans,
    kvHeads: fc.integer({ min: 1, max: 3 }),
    group: fc.integer({ min: 1, max: 2 }),
    headDim: fc.constantFrom(4, 4, 8),
    hidden: fc.integer({ min: 1, max: 6 }),
    ffn: fc.integer({ min: 1, max: 6 }),
    layers: fc.integer({ min: 1, max: 3 }),
    qkNorm: fc.boolean(),
    tileRows: fc.integer({ min: 1, max: 3 }),
    more: fc.nat(3),
    warps: fc.integer({ min: 1, max: 3 }),
    tokens: fc.constantFrom(1, 1, 2),
    position: fc.nat(3),
    splitFrom: fc.nat(4),
    greedy: fc.boolean(),
    slots: fc.integer({ min: 1, max: 4 }),
    seed: fc.integer(),
  })
  .map(
    ({ plan, group, tileRows, more, splitFrom, warps, tokens, position, greedy, slots, seed, ...sizes }) => {
      const { kvHeads, hidden, ffn, layers } = sizes;
      // As blocksFor does: a tile of every product for each block, or a block for each kv head.
      const blocks = Math.max(kvHeads, Math.min(kvHeads + more, Math.ceil(Math.min(hidden, ffn) / tileRows)));
      const passes = layers === 1 ? 6 : layers === 2 ? 4 : 3;
      const run = { blocks, tileRows, warps, tokens, position, passes, greedy, slots, seed };
      return { made: tinyStream(plan, { ...sizes, qHeads: kvHeads * group }, blocks, splitFrom), run };
    },
  );

describe('plan stream', () => {
  test('has an exchange for each tensor that crosses blocks, to the stages that read it next', () => {
    const lines = schedule().syncs.map((sync) =>
      sync.scope === 'exchange'
        ? `${sync.after.stage}: ${sync.tensors.join(' ')} to ${sync.readers.join(' ')}`
        : `${sync.scope} after ${sync.after.stage}`,
    );
    expect(lines).toMatchInlineSnapshot(`
      [
        "qkv: q k v to attention",
        "attention: partial to merge",
        "attention: att to attn_out",
        "merge: att to attn_out",
        "attn_out: x to ffn_up",
        "ffn_up: h to ffn_down",
        "ffn_down: x to qkv head",
        "head: logits to sample",
        "sample: next to embed",
        "cache after ffn_up",
        "block after merge",
      ]
    `);
  });

  test('uses words again as its kernel does', () => {
    const words = readFileSync(join(import.meta.dirname, '../../templates/cuda/stream/words.cuh'), 'utf8');
    const { sentinel, epoch } = rotations;
    expect(words).toContain(
      `constexpr int kBuffers = kFlaggedWords ? ${epoch.buffers} : ${sentinel.buffers};`,
    );
    expect(words).toContain(`store_word(buffer(epoch + ${sentinel.ahead}) + at, kSentinel);`);
  });

  test('prints nothing that is not in its schedule', () => {
    const made = schedule(smallDims);
    const text = textOf(made);
    for (const emptied of [
      { syncs: [] },
      { stages: made.stages.map((stage) => ({ ...stage, epilogue: [] })) },
      {
        stages: made.stages.map((stage) => ({
          ...stage,
          prologue: stage.body.kind === 'attend' ? stage.prologue : [],
        })),
      },
      { splitSteps: [{ splits: 1, from: 0 }] },
      { slices: made.slices + 1 },
      { kernels: made.kernels.slice(0, 1) },
      { ring: { ...made.ring, slotBytes: 8192 } },
    ]) {
      expect(textOf({ ...made, ...emptied }), Object.keys(emptied).join()).not.toBe(text);
    }
  });
});

describe('random stream plans', () => {
  test('have no fault on any sizes, blocks and interleavings, over passes that go round the buffers', () => {
    fc.assert(
      fc.property(launches, ({ made, run }) => {
        expect(simulateStream(made, run)).toEqual([]);
      }),
      { numRuns: 60 },
    );
  });

  test('are legal, and order every conflict of a real model', () => {
    fc.assert(
      fc.property(
        streamPlans,
        fc.constantFrom('qwen3-0.6b', 'llama-3.2-1b', 'qwen2.5-0.5b'),
        (plan, model) => {
          expect(isLegalFor(plan, model)).toBe(true);
          const made = schedule(
            models.find(({ name }) => name === model),
            plan,
          );
          expect(uncoveredStream(made)).toEqual([]);
        },
      ),
      { numRuns: 6 },
    );
  });

  test('miss each of their syncs: the text differs, and both checks notice', () => {
    fc.assert(
      fc.property(streamPlans, fc.constantFrom(0, 3, 4), (plan, splitFrom) => {
        expect(unmissed(plan, splitFrom)).toEqual([]);
      }),
      { numRuns: 1 }, // more of them: test/compile/stream-variants.test.ts
    );
  });
});

test('each reader of an exchange needs it', () => {
  for (const sync of usual.syncs) {
    if (sync.scope !== 'exchange') continue;
    const greedy = sync.after.stage !== 'sample';
    for (const reader of sync.readers) {
      const less = (syncs: readonly Sync[]): Sync[] =>
        syncs.map((s) =>
          s.scope === 'exchange' && nameOf(s) === nameOf(sync)
            ? { ...s, readers: s.readers.filter((r) => r !== reader) }
            : s,
        );
      expect(
        uncoveredStream({ ...small, syncs: less(small.syncs) }),
        `${nameOf(sync)} ${reader}`,
      ).not.toEqual([]);
      expect(
        kinds({ ...usual, syncs: less(usual.syncs) }, { greedy }),
        `${nameOf(sync)} ${reader}`,
      ).toContain('unwritten');
    }
  }
});

describe('words are used again safely', () => {
  const faultless = new Set<string>();
  const few = { ...crowded, blocks: 3, dims: { ...crowded.dims, hidden: 8, ffn: 8 } };

  test('with four buffers, even if some blocks make nothing but attention', () => {
    expect(kinds(usual)).toEqual(faultless);
    expect(crowdedKinds({})).toEqual(faultless);
  });

  test('with four buffers, even if a block passes products by', () => {
    const passed = narrow.products.filter(({ passedBy }) => passedBy);
    expect(passed.map(({ op }) => op)).toEqual(['o_proj', 'down_proj']);
    expect(kinds(narrow, { passes: 4, slots: 256 })).toEqual(faultless);
    // What they append is known a layer later.
    const early = narrow.syncs.map((sync) =>
      sync.scope === 'cache' ? { ...sync, layersBefore: 0 as const } : sync,
    );
    expect(kinds({ ...narrow, syncs: early }, { passes: 4, slots: 256 })).toContain('race');
  });

  test.each([
    { buffers: 3, ahead: 2 },
    { buffers: 4, ahead: 1 },
    { buffers: 2, ahead: 1 },
  ])(
    'with $buffers buffers emptied $ahead ahead only if each block makes part of each product',
    (changed) => {
      expect(kinds(usual, { rotation: changed })).toEqual(faultless);
      expect(uncoveredStream(small, changed)).toEqual([]);
      expect(crowdedKinds({ rotation: changed })).toContain('race');
      expect(uncoveredStream(few)).toEqual([]);
      expect(uncoveredStream(few, changed)).not.toEqual([]);
    },
  );

  test.each([1, 2])('not with buffers: %i, emptied two epochs ahead', (buffers) => {
    expect(kinds(usual, { rotation: { buffers, ahead: 2 } })).toContain('overwritten');
    expect(uncoveredStream(small, { buffers, ahead: 2 })).not.toEqual([]);
  });

  test('with two buffers of flagged words, even if some blocks make nothing but attention', () => {
    const { epoch } = rotations;
    expect(kinds(usual, { rotation: epoch })).toEqual(faultless);
    expect(crowdedKinds({ rotation: epoch })).toEqual(faultless);
    expect(uncoveredStream(small, epoch)).toEqual([]);
  });

  test('with one buffer of them only if each block makes part of each product', () => {
    const one = { ...rotations.epoch, buffers: 1 };
    expect(kinds(usual, { rotation: one })).toEqual(faultless);
    expect(crowdedKinds({ rotation: one })).toContain('race');
    expect(uncoveredStream(few, rotations.epoch)).toEqual([]);
    expect(uncoveredStream(few, one)).not.toEqual([]);
  });

  test('not if they are never emptied', () => {
    const found = kinds(usual, { rotation: { buffers: 4, ahead: null } });
    expect(found).toContain('race');
    expect(found).toContain('stale');
  });

  test('two epochs ahead though stores are seen eight stages late, one epoch ahead not', () => {
    expect(kinds(usual, { delay: 8 })).toEqual(faultless);
    expect(kinds(usual, { delay: 8, rotation: { buffers: 4, ahead: 1 } })).toContain('race');
  });
});

describe('the simulator of exchanges', () => {
  const edit = (change: (event: StreamEvent, block: number) => StreamEvent | null) =>
    simulateStream(usual, { ...tinyMachine, edit: change });

  test('sees a reader that takes the buffer of another epoch', () => {
    const found = edit((event) =>
      event.kind === 'poll' && event.place.stage === 'ffn_down' && event.epoch > 0
        ? { ...event, epoch: event.epoch - 1 }
        : event,
    );
    const texts = found.map((fault) => fault.text);
    expect(texts).toContainEqual(expect.stringMatching(/h of ffn_up: ffn_down of .* reads 0 for 1/));
  });

  test('sees a producer that streams cached positions before others have appended them', () => {
    const [fault] = simulateStream(usual, {
      ...tinyMachine,
      slots: 64, // those of a pass: fewer hold the producer back
      edit: (event) => (event.kind === 'gate' ? null : event),
    });
    expect(fault).toMatchInlineSnapshot(`
      {
        "kind": "unwritten",
        "text": "cache of layer 0: attention of layer 0, pass 1 reads what nobody wrote",
      }
    `);
    expect(kinds(usual, { slots: 64 })).toEqual(new Set());
  });

  test('sees a warp that does not meet the others of its block', () => {
    const found = edit((event) => (event.kind === 'meet' && event.place.stage === 'attn_out' ? null : event));
    expect(found.map((fault) => fault.kind)).toContain('race');
  });

  test('sees a slot that nobody gives back', () => {
    const kept = edit((event) => (event.kind === 'free' && event.slot === 3 ? null : event));
    expect(kept.at(-1)!.text).toMatchInlineSnapshot(
      `"warp 0 of block 2 waits in ffn_down of layer 0, pass 0 for word 0 of h of ffn_up, epoch 0"`,
    );
  });

  test('names the word that is missing, not one that an older epoch left', () => {
    const lost = (event: StreamEvent) =>
      event.kind === 'publish' && event.place.stage === 'ffn_up' && event.epoch === 4 ? null : event;
    const found = simulateStream(usual, { ...tinyMachine, rotation: rotations.epoch, edit: lost });
    expect(found.at(-1)!.text).toMatch(/for word \d+ of h of ffn_up, epoch 4$/);
  });

  test('sees who waits for what when not all blocks run at once', () => {
    expect(kinds(usual, { resident: 4 })).toEqual(new Set());
    for (const resident of [1, 2, 3]) expect(kinds(usual, { resident })).toContain('deadlock');
    const [fault] = simulateStream(usual, { ...tinyMachine, resident: 3 });
    expect(fault!.text).toMatchInlineSnapshot(
      `"warp 1 of block 0 waits in attention of layer 0, pass 0 for word 0 of v of qkv, epoch 0"`,
    );
  });
});
