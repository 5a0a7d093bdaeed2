import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { describe, expect, test } from 'vitest';
import type { ReferenceTensors } from '../../runtime/reference/reference.ts';
import { type ReferenceModel, readReferenceModel } from '../../runtime/reference/weights.ts';
import { formatVerify } from '../../runtime/verify/format-verify.ts';
import { type Golden, type GoldenCase, readGolden } from '../../runtime/verify/golden.ts';
import { referenceScorer, type Scorer } from '../../runtime/verify/scorers.ts';
import { type ToleranceInput, tolerance } from '../../runtime/verify/tolerance.ts';
import { verify } from '../../runtime/verify/verify.ts';

import { fixtures } from '../support/fixtures.ts';
import { oneOf } from '../support/thorough.ts';

const root = fileURLToPath(new URL('../..', import.meta.url));
const folders = [...fixtures.map((name) => `test/fixtures/${name}`), 'models/qwen3-tiny'];

function load(folder: string): { model: ReferenceModel; golden: Golden } {
  const model = readReferenceModel(join(root, folder));
  return { model, golden: readGolden(join(root, folder, 'golden.json')) };
}

/** The case of 64 tokens of a fixture, or of 37 of the model: enough to find a mutation by. */
function loadOne(folder: string): { model: ReferenceModel; golden: Golden } {
  const { model, golden } = load(folder);
  return { model, golden: { ...golden, cases: golden.cases.slice(2, 3) } };
}

describe('an engine that stores K and V in 16 bits', () => {
  for (const dtype of ['bf16', 'fp16'] as const) {
    test.each(dtype === 'bf16' ? folders : oneOf(3, folders))(
      `%s in ${dtype} passes, with a logit error of a tenth of the tolerance or more`,
      async (folder) => {
        const { model, golden } = (folder.startsWith('models') ? loadOne : load)(folder);
        const result = await verify(referenceScorer(model, { storage: dtype }), golden, {
          dims: model.dims,
          dtype,
        });
        expect(result.cases.flatMap((c) => c.problems)).toEqual([]);
        expect(result.ok).toBe(true);
        const worst = Math.max(...result.cases.map((c) => c.logit.error));
        expect(worst).toBeGreaterThan(result.tolerance.logit / 10);
      },
    );
  }

  test.each(folders.slice(0, 4))(
    '%s with int8 and a scale for each position and head passes, as near to its tolerance',
    async (folder) => {
      const { model, golden } = loadOne(folder);
      const result = await verify(referenceScorer(model, { storage: 'int8' }), golden, {
        dims: { ...model.dims, cache: 'int8' },
        dtype: 'bf16',
      });
      expect(result.cases.flatMap((c) => c.problems)).toEqual([]);
      const worst = Math.max(...result.cases.map((c) => c.logit.error));
      expect(worst).toBeGreaterThan(result.tolerance.logit / 10);
    },
  );

  test('bf16 storage does not pass for fp16', async () => {
    const { model, golden } = loadOne(folders[1]!);
    const scorer = referenceScorer(model, { storage: 'bf16' });
    expect((await verify(scorer, golden, { dims: model.dims, dtype: 'fp16' })).ok).toBe(false);
  });
});

describe('wrong engines', () => {
  const swapped =
    (tensors: ReferenceTensors): ReferenceTensors =>
    (name) =>
      tensors(name.replace(/gate_proj|up_proj/, (part) => (part === 'up_proj' ? 'gate_proj' : 'up_proj')));
  const mutations: Record<string, (model: ReferenceModel) => ReferenceModel> = {
    'a hundredth of the rotary base': (m) => ({
      ...m,
      dims: { ...m.dims, ropeTheta: m.dims.ropeTheta * 0.01 },
    }),
    'no norm of q and k': (m) => ({ ...m, dims: { ...m.dims, qkNorm: false } }),
    'gate and up swapped': (m) => ({ ...m, tensors: swapped(m.tensors) }),
  };
  const cases = Object.keys(mutations).flatMap((mutation) => {
    const touched = mutation.includes('norm')
      ? folders.filter((folder) => folder.includes('qwen3'))
      : folders;
    return touched.map((folder) => [mutation, folder] as const);
  });
  test.each(cases)('%s is ten tolerances off on %s', async (mutation, folder) => {
    const { model, golden } = loadOne(folder);
    const scorer = referenceScorer(mutations[mutation]!(model), { storage: 'bf16' });
    const result = await verify(scorer, golden, { dims: model.dims, dtype: 'bf16' });
    expect(result.ok).toBe(false);
    expect(Math.max(...result.cases.map((c) => c.logit.error))).toBeGreaterThan(10 * result.tolerance.logit);
    expect(Math.max(...result.cases.map((c) => c.kl.mean))).toBeGreaterThan(result.tolerance.kl);
  });
});

// One case over four ids, prompt [3, 1], greedy [0, 2]; the rows after each prefix.
const expectedRows = [
  [2, 0, 1, -1],
  [0, 0.5, 3, 2.875],
];
const one: GoldenCase = {
  promptIds: [3, 1],
  greedyIds: [0, 2],
  margin: [1, 0.125],
  nll: { value: 0.842263, rows: 3 },
  expected: expectedRows.map((logits, j) => ({ row: 1 + j, kind: 'full', logits })),
};
const golden: Golden = { source: 'made by hand', vocab: 4, decimals: 3, nllDecimals: 6, cases: [one] };
const dims = { layers: 2, hidden: 64, ffn: 128, qHeads: 2, headDim: 32 };
const options = { dims, dtype: 'bf16' } as const;

/** An engine that says what it is told: rows are [0, 0, 0, 0] before the new tokens and after them. */
function scripted(rows: readonly (readonly number[])[], greedy: readonly number[] = [0, 2]): Scorer {
  return {
    vocab: 4,
    reset() {},
    async score(ids, first, onRows) {
      for (let r = first; r < ids.length; r++) onRows(r, Float32Array.from(rows[r - 1] ?? [0, 0, 0, 0]));
    },
    async greedy() {
      return greedy;
    },
  };
}

describe('the judgement', () => {
  test('the exact rows pass with no error at all', async () => {
    const result = await verify(scripted(expectedRows), golden, options);
    expect(result.cases[0]).toMatchObject({
      logit: { error: 0 },
      kl: { mean: 0, of: 'full' },
      argmax: { equal: 1, compared: 1 },
      forced: { equal: 2, compared: 2, firstDifference: null },
      free: { equal: 2, compared: 2, firstDifference: null },
      problems: [],
    });
    expect(result.cases[0]?.nll?.error).toBeLessThan(1e-6);
  });

  test('one wrong logit is found with its row and id', async () => {
    const rows = [expectedRows[0]!, [0, 0.5, 3, 5]];
    const result = await verify(scripted(rows), golden, options);
    expect(result.ok).toBe(false);
    expect(result.cases[0]?.logit).toMatchObject({ row: 2, id: 3 });
    expect(result.cases[0]?.problems[0]).toMatch(/^row 2, id 3: logit error 2.13 exceeds/);
  });

  test('a free run may part at a near tie, and what follows is not compared', async () => {
    const near = { ...golden, cases: [{ ...one, margin: [0.125, 1] }] };
    const result = await verify(scripted(expectedRows, [2, 3]), near, options);
    expect(result.ok).toBe(true);
    expect(result.cases[0]?.free).toEqual({
      equal: 0,
      compared: 1,
      firstDifference: { index: 0, expected: 0, actual: 2, margin: 0.125, withinTolerance: true },
    });
  });

  test('a free run may not part at a clear margin', async () => {
    const result = await verify(scripted(expectedRows, [2, 2]), golden, options);
    expect(result.cases[0]?.problems).toEqual(['free-running token 0 is 2, not 0 (margin 1.00)']);
  });

  test('a free run may not stop early, near tie or not', async () => {
    const result = await verify(scripted(expectedRows, [0]), golden, options);
    expect(result.cases[0]?.problems).toEqual(['free-running token 1 is missing, not 2 (margin 0.125)']);
  });

  test('without a margin a difference is not excused', async () => {
    const { margin, ...bare } = one;
    expect(margin).toBeDefined();
    const result = await verify(scripted(expectedRows, [0, 3]), { ...golden, cases: [bare] }, options);
    expect(result.cases[0]?.problems).toEqual(['free-running token 1 is 3, not 2 (unknown margin)']);
  });

  test('a best id that differs behind a clear margin fails even where no logit is listed', async () => {
    const { nll, ...bare } = one;
    expect(nll).toBeDefined();
    const blind = { ...golden, cases: [{ ...bare, expected: one.expected.slice(1) }] };
    const rows = [[0, 2, 1, -1], expectedRows[1]!];
    const result = await verify(scripted(rows), blind, options);
    expect(result.cases[0]?.argmax).toEqual({ equal: 0, compared: 1 });
    expect(result.cases[0]?.problems[0]).toMatch(/^1 best ids differ though their margin exceeds/);
    expect(result.cases[0]?.problems[1]).toBe('teacher-forced token 0 is 1, not 0 (margin 1.00)');
  });

  test('a wrong likelihood fails alone', async () => {
    const wrong = { ...golden, cases: [{ ...one, nll: { value: 2, rows: 3 } }] };
    const result = await verify(scripted(expectedRows), wrong, options);
    expect(result.cases[0]?.problems).toHaveLength(1);
    expect(result.cases[0]?.problems[0]).toMatch(/^NLL error 1.16 exceeds/);
  });

  test.each([Number.NaN, Number.POSITIVE_INFINITY])(
    'a logit of %d fails, in whichever row',
    async (value) => {
      for (const row of [0, 1]) {
        const rows = expectedRows.map((logits, i) => (i === row ? [2, value, 1, -1] : logits));
        const result = await verify(scripted(rows), golden, options);
        expect(result.ok).toBe(false);
        expect(result.cases[0]?.logit).toMatchObject({ row: 1 + row, id: 1 });
      }
    },
  );

  test('rows that do not come are an error, not a pass', async () => {
    const mute: Scorer = { ...scripted(expectedRows), async score() {} };
    await expect(verify(mute, golden, options)).rejects.toThrow('case 0: 4 of 4 rows did not come');
    const late: Scorer = {
      ...scripted(expectedRows),
      async score(_ids, _first, onRows) {
        onRows(1, Float32Array.from(expectedRows[0]!));
      },
    };
    await expect(verify(late, golden, options)).rejects.toThrow('case 0: row 1 of 4 logits came, not row 0');
  });

  test('a golden file of another vocabulary is refused', async () => {
    const other = { ...scripted(expectedRows), vocab: 5 };
    await expect(verify(other, golden, options)).rejects.toThrow('the golden file has 4 ids, the engine 5');
  });

  test('tokens generated from a masked prompt are not compared, and the report says so', async () => {
    const masked = { ...golden, cases: [{ ...one, greedyUnusable: 'id 0 was masked' }] };
    const result = await verify(scripted(expectedRows, [3, 3]), masked, options);
    expect(result.ok).toBe(true);
    expect(result.cases[0]).toMatchObject({
      argmax: null,
      forced: null,
      free: null,
      skipped: 'id 0 was masked',
    });
    expect(formatVerify(result)).toContain('case 0: tokens not compared, id 0 was masked');
  });

  test('larger logits of a wrong engine do not widen the tolerance of listed rows', async () => {
    const listed: GoldenCase = {
      ...one,
      expected: one.expected.map((row) => ({ ...row, kind: 'top', ids: [2, 3], logits: [3, 2.5] })),
    };
    const bounds = async (scale: number) => {
      const rows = expectedRows.map((row) => row.map((z) => z * scale));
      return (await verify(scripted(rows), { ...golden, cases: [listed] }, options)).tolerance.logit;
    };
    expect(await bounds(1)).toBeLessThan(await bounds(2));
    expect(await bounds(100)).toBe(await bounds(1000));
  });

  test('the KL of a row is at most half the square of its greatest logit error', async () => {
    let state = 7;
    const random = () => {
      state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
      return state / 2 ** 31 - 1;
    };
    for (let i = 0; i < 300; i++) {
      const size = 4 * Math.abs(random());
      const rows = expectedRows.map((row) => row.map((z) => z + size * random()));
      const [only] = (await verify(scripted(rows), golden, options)).cases;
      expect(only!.kl.mean).toBeLessThanOrEqual(only!.logit.error ** 2 / 2);
    }
  });

  test('the result survives JSON and prints as a table', async () => {
    const result = await verify(scripted([expectedRows[0]!, [0, 0.5, 3, 5]], [0, 3]), golden, options);
    expect(JSON.parse(JSON.stringify(result))).toEqual(result);
    expect(formatVerify(result)).toMatchInlineSnapshot(`
      "   case  prompt  new  logit error      KL  NLL error  argmax  forced  free
            0       2    2         2.13   0.256      0.481     1/1     1/2   1/2  fail
      at most                    0.0760  2.9e-3     0.0575

      tolerance of a logit 0.0760: sigmas x sigma + printed digits
        K and V stored in bf16         0.0134
        other roundings to bf16             0
        float32 sums                   5.1e-6
        sigma, their root of squares   0.0134
        sigmas for 8 logits              5.64
        printed digits                 5.0e-4
      case 0: row 2, id 3: logit error 2.13 exceeds 0.0760
      case 0: KL 0.256 exceeds 2.9e-3
      case 0: NLL error 0.481 exceeds 0.0575
      FAIL: 1 of 1 cases"
    `);
  });
});

describe('the tolerance', () => {
  const input: ToleranceInput = {
    dims,
    dtype: 'bf16',
    positions: 100,
    counted: 1000,
    logitRms: 2,
    decimals: null,
    nll: { cases: 1, targets: 8, decimals: null },
  };
  const term = (name: string, change: Partial<ToleranceInput> = {}) =>
    tolerance({ ...input, ...change }).terms.find((t) => t.name.startsWith(name))!.value;

  test('stored K and V: two roundings a layer, in squares, times the size of the logits', () => {
    expect(term('K and V')).toBeCloseTo(2 ** -8 * Math.sqrt(2 * 2) * 2, 12);
    expect(term('K and V', { dims: { ...dims, layers: 8 } })).toBeCloseTo(2 * term('K and V'), 12);
    expect(term('K and V', { dtype: 'fp16' })).toBeCloseTo(term('K and V') / 8, 12);
  });

  test('in int8 they are as large as half a 127th of the largest of a Gaussian row', () => {
    const int8 = term('K and V', { dims: { ...dims, cache: 'int8' } });
    const halfStep = Math.sqrt(2 * Math.log(2 * dims.headDim)) / 127 / 2;
    expect(int8 / term('K and V')).toBeCloseTo(halfStep / 2 ** -8, 12);
    expect(term('K and V', { dtype: 'fp16', dims: { ...dims, cache: 'int8' } })).toBe(int8);
    const extraRoundings = { perLayer: 2, once: 0 };
    const both = { extraRoundings, dims: { ...dims, cache: 'int8' as const } };
    expect(term('other roundings', both)).toBe(term('K and V'));
  });

  test('sums of 2 layers of hidden 64, ffn 128, heads 2 x 32, 100 positions, on both sides', () => {
    const sums = 2 * (5 * 64 + 32 + 100 + 2 * 32 + 128) + 2 * 64;
    expect(term('float32 sums')).toBeCloseTo(2 ** -24 * Math.sqrt(2 * sums) * 2, 12);
  });

  test('extra roundings count as stored ones do', () => {
    const extraRoundings = { perLayer: 2, once: 0 };
    expect(term('other roundings', { extraRoundings })).toBe(term('K and V'));
    expect(tolerance({ ...input, extraRoundings }).logit).toBeCloseTo(tolerance(input).logit * Math.SQRT2, 6);
  });

  test('inputs of rows in blocks are rounded to 16 bits: four products a layer and the head', () => {
    const inBlocks = { dims: { ...dims, weights: { attention: 'int8' } } };
    const halfStep = 2 ** -16 * Math.sqrt(32);
    expect(term('inputs of blocks', inBlocks)).toBeCloseTo(halfStep * Math.sqrt(4 * 2 + 1) * 2, 12);
    expect(tolerance(input).terms.map(({ name }) => name)).not.toContain('inputs of blocks in 16 bits');
    // The largest of 32 is 127 steps, and each is off by half a one.
    const extraRoundings = { perLayer: 0, once: 0, inputBits: 8 as const };
    const inBytes = (Math.sqrt(32) / 127 / 2) * Math.sqrt(4 * 2 + 1) * 2;
    expect(term('inputs of blocks in 8 bits', { ...inBlocks, extraRoundings })).toBeCloseTo(inBytes, 12);
  });

  test('more logits need more sigmas, printed digits add half a unit', () => {
    expect(term('sigmas')).toBeCloseTo(Math.sqrt(2 * Math.log(1000 / 1e-6)), 12);
    expect(tolerance({ ...input, decimals: 3 }).logit - tolerance(input).logit).toBeCloseTo(0.0005, 12);
  });

  test('KL, margin and likelihood follow from the logit and sigma', () => {
    const bounds = tolerance(input);
    expect(bounds.kl).toBe(bounds.logit ** 2 / 2);
    expect(bounds.margin).toBe(2 * bounds.logit);
    expect(bounds.nll).toBeCloseTo(Math.sqrt(2 * Math.log(1e6)) * 0.5 * term('sigma, '), 12);
    const { nll, ...none } = input;
    expect(nll).toBeDefined();
    expect(tolerance(none).nll).toBeNull();
  });
});
