// Plans whose blocks hand words to each other: no fault in any interleaving of several passes, and every way to break the hand-over is seen.
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import type { ModelDims } from '../../codegen/model/dims.ts';
import { decoderGraph } from '../../codegen/model/graph.ts';
import { assignWork, type Schedule } from '../../codegen/schedule/schedule.ts';
import type { Target } from '../../codegen/schedule/target.ts';
import { libraryScratch } from '../../codegen/schemes/barriers/library-scratch.ts';
import { uncovered } from '../../codegen/schemes/barriers/uncovered.ts';
import type { StreamEvent } from '../../codegen/schemes/stream/program.ts';
import { type StreamSimulation, simulateStream } from '../../codegen/schemes/stream/simulate.ts';
import { rotations } from '../../codegen/schemes/stream/stream.ts';
import { uncoveredStream } from '../../codegen/schemes/stream/uncovered.ts';
import { models } from '../../configs/models.ts';
import stream from '../../configs/plans/stream.ts';
import { targets } from '../../configs/targets.ts';

const h100 = targets.find((target) => target.name === 'h100')!;
const qwen = models.find((model) => model.name === 'qwen3-0.6b')!;
const library = { attend: () => 8, sample: () => 8, staticBytes: 0 };

const schedule = (dims: ModelDims, target: Target = h100): Schedule =>
  assignWork(decoderGraph(dims), stream, target, target === h100 ? libraryScratch(h100) : library);

/** Small, but with a tile of each product for each block. */
const small = schedule({
  ...qwen,
  layers: 2,
  hidden: 64,
  ffn: 96,
  qHeads: 4,
  kvHeads: 2,
  headDim: 8,
  vocab: 64,
});

/** A model with everything a few elements long. */
const shrink = (sizes: Partial<ModelDims>): ModelDims => ({
  ...models[0]!,
  layers: 2,
  hidden: 4,
  ffn: 5,
  qHeads: 4,
  kvHeads: 2,
  headDim: 1,
  vocab: 4,
  ...sizes,
});

/** The plan on `blocks` blocks, made for sizes that deal tiles of 8 rows to all of them, with the sizes of a tiny model. */
function tiny(sizes: Partial<ModelDims>, blocks: number, splitFrom: number): Schedule {
  const dims = shrink(sizes);
  const wide = { ...dims, hidden: 16 * blocks, ffn: 16 * blocks, headDim: 8 * blocks };
  const built = schedule(wide, { ...h100, sms: blocks, sharedBytes: 1e9 });
  return { ...built, dims, stream: { ...built.stream!, splitFrom } };
}

const machine: StreamSimulation = {
  blocks: 4,
  tileRows: 1,
  warps: 2,
  tokens: 1,
  position: 2,
  passes: 3,
  greedy: true,
  slots: 2,
  seed: 1,
};

/** Six layer visits, attention split from the second pass on. */
const usual = tiny({}, 4, 3);

/** More kv heads than tiles of any product, so that some blocks make nothing but a head's attention. */
const crowded = tiny({ hidden: 1, ffn: 1, qHeads: 3, kvHeads: 3 }, 3, 0);
const crowdedMachine: StreamSimulation = { ...machine, blocks: 3, tileRows: 5, position: 1 };

const kinds = (made: Schedule, changes: Partial<StreamSimulation> = {}) =>
  new Set(simulateStream(made, { ...machine, ...changes }).map((fault) => fault.kind));
const crowdedKinds = (changes: Partial<StreamSimulation>) =>
  kinds(crowded, { ...crowdedMachine, ...changes });

const launches = fc
  .record({
    kvHeads: fc.integer({ min: 1, max: 3 }),
    group: fc.integer({ min: 1, max: 2 }),
    headDim: fc.integer({ min: 1, max: 2 }),
    hidden: fc.integer({ min: 1, max: 6 }),
    ffn: fc.integer({ min: 1, max: 6 }),
    layers: fc.integer({ min: 1, max: 3 }),
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
  .map(({ group, tileRows, more, splitFrom, warps, tokens, position, greedy, slots, seed, ...sizes }) => {
    const { kvHeads, hidden, ffn, layers } = sizes;
    // As planStream does: a tile of every product for each block, or a block for each kv head.
    const blocks = Math.max(kvHeads, Math.min(kvHeads + more, Math.ceil(Math.min(hidden, ffn) / tileRows)));
    const passes = layers === 1 ? 6 : layers === 2 ? 4 : 3;
    const run = { blocks, tileRows, warps, tokens, position, passes, greedy, slots, seed };
    return { made: tiny({ ...sizes, qHeads: kvHeads * group }, blocks, splitFrom), run };
  });

describe('plan stream', () => {
  test('has an exchange for each tensor that crosses blocks, to the stages that read it next', () => {
    const lines = schedule(qwen).syncs.map(
      ({ after, tensors, readers }) => `${after.stage}: ${tensors!.join(' ')} to ${readers!.join(' ')}`,
    );
    expect(lines).toMatchInlineSnapshot(`
      [
        "qkv: q k v to attention",
        "attention: partial to merge",
        "merge: att to attn_out",
        "attn_out: x to ffn_up",
        "ffn_up: h to ffn_down",
        "ffn_down: x to qkv head",
        "head: logits to sample",
        "sample: next to embed",
      ]
    `);
  });

  test('uses words again as its kernel does', () => {
    const words = readFileSync(join(import.meta.dirname, '../../templates/cuda/stream/words.cuh'), 'utf8');
    const { sentinel, epoch } = rotations;
    expect(words).toContain(`constexpr int kCopies = kEpochWords ? ${epoch.copies} : ${sentinel.copies};`);
    expect(words).toContain(`store_word(copy(turn + ${sentinel.ahead}) + at, kEmptyWord);`);
  });

  test('has no fault on any sizes, blocks and interleavings, over passes that go round the copies', () => {
    fc.assert(
      fc.property(launches, ({ made, run }) => {
        expect(simulateStream(made, run)).toEqual([]);
      }),
      { numRuns: 40 },
    );
  });

  test.each(models)('orders every conflict of $name', (model) => {
    expect(uncovered(schedule(model))).toEqual([]);
  });

  test('needs every exchange, and every reader of each', () => {
    for (const sync of usual.syncs) {
      const greedy = sync.after.stage !== 'sample';
      const dropped = (syncs: Schedule['syncs']) => syncs.filter((s) => s.after.stage !== sync.after.stage);
      expect(kinds({ ...usual, syncs: dropped(usual.syncs) }, { greedy }), sync.after.stage).toContain(
        'race',
      );
      expect(uncovered({ ...small, syncs: dropped(small.syncs) }), sync.after.stage).not.toEqual([]);
      for (const reader of sync.readers!) {
        const less = (syncs: Schedule['syncs']) =>
          syncs.map((s) =>
            s.after.stage === sync.after.stage
              ? { ...s, readers: s.readers!.filter((r) => r !== reader) }
              : s,
          );
        expect(
          uncovered({ ...small, syncs: less(small.syncs) }),
          `${sync.after.stage} ${reader}`,
        ).not.toEqual([]);
        expect(kinds({ ...usual, syncs: less(usual.syncs) }, { greedy }), reader).toContain('unwritten');
      }
    }
  });
});

describe('words are used again safely', () => {
  const faultless = new Set<string>();
  const few = { ...crowded, blocks: 3, dims: { ...crowded.dims, hidden: 8, ffn: 8 } };

  test('with four copies, even if some blocks make nothing but attention', () => {
    expect(kinds(usual)).toEqual(faultless);
    expect(crowdedKinds({})).toEqual(faultless);
  });

  test.each([
    { copies: 3, ahead: 2 },
    { copies: 4, ahead: 1 },
    { copies: 2, ahead: 1 },
  ])('with $copies copies emptied $ahead ahead only if each block makes part of each product', (changed) => {
    expect(kinds(usual, { rotation: changed })).toEqual(faultless);
    expect(uncoveredStream(small, changed)).toEqual([]);
    expect(crowdedKinds({ rotation: changed })).toContain('race');
    expect(uncoveredStream(few)).toEqual([]);
    expect(uncoveredStream(few, changed)).not.toEqual([]);
  });

  test.each([1, 2])('not with copies: %i, emptied two turns ahead', (copies) => {
    expect(kinds(usual, { rotation: { copies, ahead: 2 } })).toContain('overwritten');
    expect(uncoveredStream(small, { copies, ahead: 2 })).not.toEqual([]);
  });

  test('with two copies of words that carry their turn, even if some blocks make nothing but attention', () => {
    const { epoch } = rotations;
    expect(kinds(usual, { rotation: epoch })).toEqual(faultless);
    expect(crowdedKinds({ rotation: epoch })).toEqual(faultless);
    expect(uncoveredStream(small, epoch)).toEqual([]);
  });

  test('with one copy of them only if each block makes part of each product', () => {
    const one = { ...rotations.epoch, copies: 1 };
    expect(kinds(usual, { rotation: one })).toEqual(faultless);
    expect(crowdedKinds({ rotation: one })).toContain('race');
    expect(uncoveredStream(few, rotations.epoch)).toEqual([]);
    expect(uncoveredStream(few, one)).not.toEqual([]);
  });

  test('not if they are never emptied', () => {
    const found = kinds(usual, { rotation: { copies: 4, ahead: null } });
    expect(found).toContain('race');
    expect(found).toContain('stale');
  });

  test('two turns ahead though stores are seen eight stages late, one turn ahead not', () => {
    expect(kinds(usual, { delay: 8 })).toEqual(faultless);
    expect(kinds(usual, { delay: 8, rotation: { copies: 4, ahead: 1 } })).toContain('race');
  });
});

describe('the simulator of exchanges', () => {
  const edit = (change: (event: StreamEvent, block: number) => StreamEvent | null) =>
    simulateStream(usual, { ...machine, edit: change });

  test('sees a reader that takes the copy of another turn', () => {
    const found = edit((event) =>
      event.kind === 'poll' && event.place.stage === 'ffn_down' && event.turn > 0
        ? { ...event, turn: event.turn - 1 }
        : event,
    );
    const texts = found.map((fault) => fault.text);
    expect(texts).toContainEqual(expect.stringMatching(/h of ffn_up: ffn_down of .* reads 0 for 1/));
  });

  test('sees a producer that streams cached positions before others have appended them', () => {
    const [fault] = simulateStream(usual, {
      ...machine,
      slots: 64, // those of a pass: fewer hold the producer back
      edit: (event) => (event.kind === 'gate' ? null : event),
    });
    expect(fault).toMatchInlineSnapshot(`
      {
        "kind": "race",
        "text": "cache of layer 0: attention of layer 0, pass 1 reads what attention of layer 0, pass 0 writes",
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
      `"warp 0 of block 1 waits in ffn_down of layer 0, pass 0 for word 0 of h of ffn_up, turn 0"`,
    );
  });

  test('names the word that is missing, not one that an older turn left', () => {
    const lost = (event: StreamEvent) =>
      event.kind === 'publish' && event.place.stage === 'ffn_up' && event.turn === 4 ? null : event;
    const found = simulateStream(usual, { ...machine, rotation: rotations.epoch, edit: lost });
    expect(found.at(-1)!.text).toMatch(/for word \d+ of h of ffn_up, turn 4$/);
  });

  test('sees who waits for what when not all blocks run at once', () => {
    expect(kinds(usual, { resident: 4 })).toEqual(new Set());
    for (const resident of [1, 2, 3]) expect(kinds(usual, { resident })).toContain('deadlock');
    const [fault] = simulateStream(usual, { ...machine, resident: 3 });
    expect(fault!.text).toMatchInlineSnapshot(
      `"warp 1 of block 0 waits in attention of layer 0, pass 0 for word 0 of v of qkv, turn 0"`,
    );
  });
});
