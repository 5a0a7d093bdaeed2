// Layers of named kinds: which dims are refused, that no sync is missing, what explain says, and what the reference makes of them.
import { describe, expect, test } from 'vitest';
import { estimate, explainTable, makeSchedule, type Schedule } from '../../codegen/index.ts';
import { checkDims } from '../../codegen/model/check-dims.ts';
import type { ModelDims } from '../../codegen/model/dims.ts';
import { schemeOf } from '../../codegen/schemes/index.ts';
import { models } from '../../configs/models.ts';
import { resolvePlan, resolveTarget } from '../../configs/resolve.ts';
import { type ReferenceDims, referenceForward } from '../../runtime/reference/reference.ts';
import { refusalOf } from '../support/refusal.ts';
import { twoKinds } from '../support/two-kinds.ts';

const tiny = models.find(({ name }) => name === 'qwen3-tiny')!;
/** Odd dims, five layers. */
const toy: ModelDims = {
  ...{ ...tiny, ...twoKinds, name: 'two-kinds', layers: 5, hidden: 100, ffn: 150 },
  ...{ qHeads: 6, kvHeads: 2, headDim: 20, vocab: 333 },
};
/** The same with everything a few elements long, for the simulators. */
const small: ModelDims = { ...toy, hidden: 6, ffn: 8, qHeads: 4, headDim: 2, vocab: 10 };

const plans = ['cooperative', 'unfused', 'stream'] as const;
const scheduleOf = async (dims: ModelDims, plan: string, target = 'h100'): Promise<Schedule> =>
  makeSchedule(dims, await resolvePlan(plan), resolveTarget(target));

describe('dims are refused', () => {
  const [window, full] = twoKinds.kinds as [ModelDims['kinds'][number], ModelDims['kinds'][number]];
  test.each([
    [{ pattern: [] }, 'pattern is empty, must name the kind of at least one layer'],
    [{ pattern: ['window', 'wide'] }, 'pattern names the kind "wide", known: window, full'],
    [{ kinds: [window, full, { ...full, name: 'window' }] }, 'kinds has two kinds of the name "window"'],
    [
      { kinds: [{ ...window, window: 0 }, full] },
      'kinds window: window is 0, must be null or a whole number from 1 to 16777216',
    ],
    [
      { kinds: [{ ...window, window: 2.5 }, full] },
      'kinds window: window is 2.5, must be null or a whole number from 1 to 16777216',
    ],
    [{ kinds: [{ ...window, rope: 1 }, full] }, 'kinds window: rope is 1, must be true or false'],
    [
      { kinds: [window, full, { ...full, name: 'a b' }] },
      'kinds has the name "a b", must be a lower-case word',
    ],
    [{ kinds: undefined }, 'kinds and pattern must be lists'],
  ])('%o', (patch, text) => {
    const error = refusalOf(() => checkDims({ ...toy, ...patch } as unknown as ModelDims));
    expect(error.message).toBe(`dims of two-kinds: ${text}`);
  });

  test('but not those of two kinds', () => {
    expect(checkDims(toy)).toBe(toy);
  });
});

describe.each(plans)('plan %s', (plan) => {
  test('no sync is missing, and every sync is needed where kinds take turns', async () => {
    const made = await scheduleOf(toy, plan);
    const scheme = schemeOf(made);
    expect(scheme.uncovered(made)).toEqual([]);
    for (const sync of made.syncs) {
      const less = { ...made, syncs: made.syncs.filter((other) => other !== sync) } as Schedule;
      expect(scheme.uncovered(less), JSON.stringify(sync.after)).not.toEqual([]);
    }
  });

  test('explain says what the kinds see, and counts what they read', async () => {
    const made = await scheduleOf(toy, plan);
    const table = explainTable(made, estimate(made, 100));
    expect(table.split('\n')[1]).toBe(
      'layers window, window, full and so on: window sees 5 positions, full sees all positions and is not rotated',
    );
    const attends = estimate(made, 100).stages.find((stage) => stage.cacheBytes > 0)!;
    const all = estimate(await scheduleOf({ ...toy, kinds: tiny.kinds, pattern: tiny.pattern }, plan), 100);
    // Four of five layers see four positions beside their own.
    const share = (4 * 4 + 100) / (5 * 100);
    const whole = all.stages.find((stage) => stage.name === attends.name)!;
    expect(attends.cacheBytes / whole.cacheBytes).toBeCloseTo(share);
  });
});

test('a model of one kind says nothing of kinds', async () => {
  const made = await scheduleOf(tiny, 'cooperative');
  expect(explainTable(made, estimate(made)).split('\n')[1]).toBe('');
});

describe('the reference', () => {
  const one = (kind: Partial<ModelDims['kinds'][number]>): ReferenceDims => ({
    ...{ ...small, layers: 1, vocab: 10 },
    kinds: [{ name: 'layer', window: null, rope: true, ...kind }],
    pattern: ['layer'],
  });
  /** Different numbers for every tensor, of the length that its name asks for. */
  const tensors = (name: string): Float32Array => {
    const { hidden, ffn, qHeads, kvHeads, headDim, vocab } = small;
    const rows = /q_proj/.test(name)
      ? qHeads * headDim
      : /[kv]_proj/.test(name)
        ? kvHeads * headDim
        : /gate|up_proj/.test(name)
          ? ffn
          : /embed/.test(name)
            ? vocab
            : /o_proj|down_proj/.test(name)
              ? hidden
              : 1;
    const columns = /o_proj/.test(name)
      ? qHeads * headDim
      : /down/.test(name)
        ? ffn
        : /[qk]_norm/.test(name)
          ? headDim
          : hidden;
    let seed = [...name].reduce((sum, letter) => sum * 31 + letter.charCodeAt(0), 7) % 1000;
    return Float32Array.from({ length: rows * columns }, () => {
      seed = (seed * 137 + 71) % 1009;
      return rows === 1 ? 1 : seed / 500 - 1;
    });
  };
  const last = (dims: ReferenceDims, ids: readonly number[]) =>
    referenceForward(dims, tensors, ids, { firstLogits: ids.length - 1 });

  test('of one layer sees as many positions as its window has, and no more', () => {
    const dims = one({ window: 3 });
    const plain = last(dims, [1, 2, 3, 4, 5]);
    expect(last(dims, [9, 8, 3, 4, 5])).toEqual(plain);
    expect(last(dims, [1, 2, 9, 4, 5])).not.toEqual(plain);
    expect(last(one({}), [9, 2, 3, 4, 5])).not.toEqual(last(one({}), [1, 2, 3, 4, 5]));
  });

  test('of one layer that does not rotate does not see in which order positions came', () => {
    const close = (a: Float32Array, b: Float32Array) =>
      Math.max(...a.map((x, i) => Math.abs(x - b[i]!))) < 1e-5;
    const [ids, turned] = [
      [1, 2, 3, 4, 5],
      [4, 3, 2, 1, 5],
    ];
    const still = one({ rope: false });
    expect(close(last(still, ids), last(still, turned))).toBe(true);
    expect(close(last(one({}), ids), last(one({}), turned))).toBe(false);
  });

  test('takes the kinds of the pattern in turn', () => {
    const dims = { ...one({}), layers: 2, kinds: twoKinds.kinds, pattern: ['full', 'full'] };
    const ids = [1, 2, 3, 4, 5, 6, 7, 8];
    expect(last({ ...dims, pattern: ['full'] }, ids)).toEqual(last(dims, ids));
    expect(last({ ...dims, pattern: ['full', 'window'] }, ids)).not.toEqual(last(dims, ids));
  });
});
