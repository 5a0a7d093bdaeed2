// Slices of a head: in a pass of one token two blocks have all positions of a head that is not split, and half of its values each.
import { describe, expect, it } from 'vitest';
import { decoderGraph } from '../../codegen/model/graph.ts';
import { lowerStream } from '../../codegen/schemes/stream/lower.ts';
import { simulateStream } from '../../codegen/schemes/stream/simulate.ts';
import { tinyStream } from '../../codegen/schemes/stream/tiny.ts';
import { models } from '../../configs/models.ts';
import base from '../../configs/plans/stream.ts';
import { resolveModel } from '../../configs/resolve.ts';
import { targetNamed } from '../../configs/targets.ts';

const h100 = targetNamed('h100')!;
const { schedule, machines } = tinyStream(models[0]!, base, h100);
const launch = { tileRows: 1, slots: 2, passes: 3, greedy: true, seed: 1, warps: 2, blocks: 4 };
const ones = machines.filter(({ tokens, rows, warps }) => tokens === 1 && !rows && warps === 2);

/** Blocks that read cached positions, append to them, and publish heads, before there are splits. */
function attending(of: typeof schedule, tokens: number) {
  const blocks = { load: new Set<number>(), store: new Set<number>(), publish: new Set<number>() };
  const faults = simulateStream(of, {
    ...{ ...launch, passes: 1, position: 1, tokens },
    edit: (event, block) => {
      const { kind } = event;
      const isCache = 'space' in event && event.space.startsWith('cache');
      if ((kind === 'load' || kind === 'store') && isCache) blocks[kind].add(block);
      if (kind === 'publish' && event.space === 'att') blocks.publish.add(block);
      return event;
    },
  });
  expect(faults).toEqual([]);
  return Object.fromEntries(Object.entries(blocks).map(([kind, set]) => [kind, [...set].sort()]));
}

describe('a head that is not split', () => {
  it.each(ones)('has no fault in passes from position $position on', ({ position }) => {
    expect(simulateStream(schedule, { ...launch, position, tokens: 1 })).toEqual([]);
  });

  it('is read by two blocks for one token, of which one appends and both publish', () => {
    expect(attending(schedule, 1)).toEqual({ load: [0, 1, 2, 3], store: [0, 2], publish: [0, 1, 2, 3] });
  });

  it.each([
    ['for two tokens', schedule, 2],
    ['of a schedule of one slice', { ...schedule, slices: 1 }, 1],
  ])("is one block's %s", (_, of, tokens) => {
    expect(attending(of, tokens)).toEqual({ load: [0, 1], store: [0, 1], publish: [0, 1] });
  });

  it('lacks what one of them does not publish', () => {
    const faults = simulateStream(schedule, {
      ...{ ...launch, position: 0, tokens: 1 },
      edit: (event, block) =>
        event.kind === 'publish' && event.space === 'att' && block === 1 ? null : event,
    });
    expect(faults.map(({ kind }) => kind)).toEqual(['deadlock']);
  });
});

describe('a schedule has slices', () => {
  const slices = (change: object, plan = base) =>
    lowerStream(decoderGraph({ ...resolveModel('qwen3-0.6b').dims, ...change }), plan, h100).slices;

  it('where heads have 64 or 128 elements, and there are two blocks for each', () => {
    expect([{}, { headDim: 64 }, { headDim: 96 }, { headDim: 256 }].map((change) => slices(change))).toEqual([
      2, 2, 1, 1,
    ]);
    expect(slices({ kvHeads: 80, qHeads: 80, headDim: 64 })).toBe(1);
  });

  it('not where heads are split from the first position on', () => {
    if (base.scheme.kind !== 'stream') throw new Error('not a stream');
    const split = base.with('split', {}, { ...base.scheme, splits: [{ splits: 4, from: 0 }] });
    expect(slices({}, split)).toBe(1);
  });
});
