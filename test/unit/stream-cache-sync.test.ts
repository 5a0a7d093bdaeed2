// The sync of the KV cache in a stream: the check of syncs sees where a block streams what another has appended, and nothing orders the two.
import { describe, expect, test } from 'vitest';
import { decoderGraph } from '../../codegen/model/graph.ts';
import { lowerStream } from '../../codegen/schemes/stream/lower.ts';
import { uncoveredStream } from '../../codegen/schemes/stream/uncovered.ts';
import { resolveModel, resolvePlan, resolveTarget } from '../../configs/resolve.ts';

const plan = await resolvePlan('stream');

describe.each(['qwen3-tiny', 'qwen3-0.6b'])('a stream of %s', (name) => {
  const made = lowerStream(decoderGraph(resolveModel(name).dims), plan, resolveTarget('h100'));
  const ofCache = (syncs: typeof made.syncs) =>
    uncoveredStream({ ...made, syncs }).filter(({ tensor }) => tensor === 'cache');

  test('has its cache ordered, and not without the sync', () => {
    expect(uncoveredStream(made)).toEqual([]);
    const faults = ofCache(made.syncs.filter(({ scope }) => scope !== 'cache'));
    expect(new Set(faults.map(({ kind }) => kind))).toEqual(new Set(['RAW']));
  });

  test('not if blocks wait in any stage behind the one whose words say that all have appended', () => {
    const { guard } = made.syncs.find((sync) => sync.scope === 'cache')!;
    const products = made.stages.filter(({ part, body }) => part === 'layer' && body.kind === 'product');
    const behind = products.slice(products.findIndex((stage) => stage.name === guard) + 1);
    expect(behind).not.toEqual([]);
    for (const { name } of behind) {
      const syncs = made.syncs.map((sync) => (sync.scope === 'cache' ? { ...sync, guard: name } : sync));
      expect(ofCache(syncs)).not.toEqual([]);
    }
  });
});

test('a block that appends and has no rows to publish behind it is seen', () => {
  const { dims } = resolveModel('qwen3-tiny');
  const tiles = Math.ceil(dims.hidden / 8);
  const { scheme } = plan;
  if (scheme.kind !== 'stream') throw new Error('not a stream');
  const few = plan.with('few', {}, { ...scheme, blocks: tiles });
  const made = lowerStream(decoderGraph(dims), few, resolveTarget('h100'));
  expect(made.syncs.find((sync) => sync.scope === 'cache')).toMatchObject({ guard: 'attn_out' });
  // Of twice as many blocks half have no tile of attn_out, among them all that attend.
  const crowded = { ...made, blocks: 2 * tiles };
  expect(uncoveredStream(crowded).map(({ why }) => why)).toMatchInlineSnapshot(`
    [
      "block 0 writes cache of layer 0 in attention, pass 0, block 1 reads cache of layer 0 in attention, pass 1, and no exchange is between",
      "block 0 writes cache of layer 1 in attention, pass 0, block 1 reads cache of layer 1 in attention, pass 1, and no exchange is between",
    ]
  `);
});
