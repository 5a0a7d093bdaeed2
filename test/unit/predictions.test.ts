// What predictions are worth, by the kernels of the H100 that were measured: as docs/what-worked.md says.
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { beforeAll, describe, expect, test } from 'vitest';
import { packageRoot } from '../../codegen/build/package-root.ts';
import { targetNamed } from '../../configs/targets.ts';
import type { JournalHeader } from '../../lab/journal-records.ts';
import { meanOf } from '../../lab/prune.ts';
import type { VariantRow } from '../../lab/report/input.ts';
import { orderOf } from '../../lab/report/order.ts';
import { judged } from '../../lab/report/page.ts';
import { costsIn, offBy, type Predicted, predictionsIn, wanted, within } from '../../lab/report/predict.ts';
import { readInput } from '../../lab/report/read.ts';
import { orderText } from '../../lab/report/sections/prediction.ts';
import { intervalOf } from '../../lab/verdict.ts';

const root = packageRoot();
const docs = readFileSync(join(root, 'docs', 'what-worked.md'), 'utf8');
const input = readInput([join(root, 'bench', 'reports', 'h100')]);
let all: Awaited<ReturnType<typeof judged>>;
beforeAll(async () => {
  all = await judged(input);
});

const positions = [1, 200, 1900];
const ofScheme = (scheme: string) => all.predicted.filter((one) => one.scheme === scheme);
const share = (list: readonly Predicted[]) => `${within(list, wanted)} of ${list.length}`;

describe.each(['barriers', 'stream'])('of ten predictions of %s', (scheme) => {
  test.each(positions)('nine are within the band at position %i', (position) => {
    const list = ofScheme(scheme).filter((one) => one.position === position);
    expect(list.length).toBeGreaterThan(20);
    expect(within(list, wanted) / list.length).toBeGreaterThanOrEqual(0.9);
  });
});

test('what is out of the band spills registers, or has blocks that pass products by: no term knows of either', () => {
  const passing = 'smollm2-135m-h100-stream'; // near the edge of the band: one measurement falls within, the next does not
  const out = all.predicted.filter((one) => offBy(one) > wanted && one.name !== passing);
  expect(new Set(out.map(({ name }) => name))).toEqual(new Set(['seed+warps=32']));
  expect(Math.min(...out.map(({ spillBytes }) => spillBytes))).toBeGreaterThan(0);
});

test('the fastest five of each experiment are the first five predicted, the fastest first', () => {
  expect(all.orders.map(({ plan }) => plan)).toEqual(['seed', 'bad-start']);
  for (const { firstPlaces } of all.orders) {
    expect(firstPlaces.toSorted((a, b) => a - b)).toEqual([1, 2, 3, 4, 5]);
    expect(firstPlaces[0]).toBe(1);
  }
  expect(all.orders[0]!.firstPlaces).toEqual([1, 2, 3, 4, 5]);
});

test('the document has the figures of today', () => {
  expect(docs).toContain(`${orderText(all.orders[0]!)}.`);
  expect(docs).toContain(
    `${share(all.predicted)} predictions are within ${100 * wanted} % (barriers ${share(ofScheme('barriers'))}, streams ${share(ofScheme('stream'))})`,
  );
  const sorted = all.predicted.map(offBy).sort((a, b) => a - b);
  const [half, most] = [0.5, 0.9].map((part) =>
    (100 * sorted[Math.floor(part * (sorted.length - 1))]!).toFixed(1),
  );
  expect(docs).toContain(`half within ${half} %, nine of ten within ${most} %`);
});

test('so has its table of the ablation', async () => {
  const [ablation] = input.experiments.filter(({ header }) => header.command === 'ablate');
  const costs = await costsIn([ablation!]);
  const rateOf = (row: VariantRow) => meanOf(costs.get(row)!.costs.map((cost) => cost.tokensPerSecond))!;
  const base = ablation!.rows.find(({ isBase }) => isBase)!;
  const ratios = ablation!.rows
    // As many blocks as there are multiprocessors, by another number: the table has them once.
    .filter((row) => row !== base && row.label !== 'seed+blocks=164')
    .map((row) => (rateOf(row) / rateOf(base)).toFixed(3));
  const [table] = docs.split(/^And in the plan/m);
  const said = [...table!.matchAll(/^\| .*$/gm)].flatMap(
    ([line]) => line.split(' | ')[5]!.match(/\d\.\d{3}/g) ?? [],
  );
  expect(said.toSorted()).toEqual(ratios.toSorted());
});

test('an order that is turned round has the opposite tau', async () => {
  const [experiment] = input.experiments;
  const costs = await costsIn([experiment!]);
  const turned = new Map(
    [...costs].map(([row, { scheme, costs }]) => [
      row,
      { scheme, costs: costs.map((cost) => ({ ...cost, tokensPerSecond: 1 / cost.tokensPerSecond! })) },
    ]),
  );
  const [order, opposite] = [orderOf(experiment!, costs)!, orderOf(experiment!, turned)!];
  expect(opposite.tau).toBeCloseTo(-order.tau!, 12);
  expect(opposite.pairs.right).toBe(order.pairs.wrong);
});

test('variants of another format are predicted in it', async () => {
  const explored = input.experiments.find(({ header }) => header.command === 'explore')!;
  const [row] = explored.rows.filter(({ rates }) => rates[0] !== null);
  const ratesWith = async (formats: object) => {
    const header = { ...explored.header, formats };
    return [...(await costsIn([{ ...explored, header, rows: [row!] }])).values()].map(
      ({ costs }) => costs[0]!.tokensPerSecond!,
    );
  };
  const [plain, int8] = [await ratesWith({}), await ratesWith({ weights: 'int8' })];
  expect(int8[0]!).toBeGreaterThan(plain[0]!);
});

test('variants of a target that is not the listed one of its name are predicted by it', async () => {
  const [experiment] = input.experiments;
  const row = experiment!.rows.find(({ isBase }) => isBase)!;
  const rateWith = async (more: Partial<JournalHeader>) => {
    const asked = { ...experiment!, header: { ...experiment!.header, ...more }, rows: [row] };
    const costs = await costsIn([asked]);
    return predictionsIn([asked], costs)[0]!.predicted;
  };
  const listed = targetNamed(experiment!.header.target)!;
  const slower = { ...listed, bandwidth: listed.bandwidth! / 4 };
  expect(await rateWith({ ownTarget: slower })).toBeLessThan((await rateWith({})) * 0.8);
});

test('variants of too few rounds are no pair that differs, and without a pair there is no tau', async () => {
  const [experiment] = input.experiments;
  const costs = new Map(await costsIn([experiment!]));
  const shortened = (rounds: number) => {
    const rows = experiment!.rows.map((row) => {
      if (row.ratio === null) return row;
      const short = { ...row, ratio: intervalOf(Array(rounds).fill(row.ratio.median)) };
      costs.set(short, costs.get(row)!);
      return short;
    });
    return orderOf({ ...experiment!, rows }, costs)!;
  };
  expect(shortened(3).pairs.all).toBeGreaterThan(0);
  expect(shortened(3).tau).not.toBeNull();
  for (const few of [1, 2]) {
    expect(shortened(few)).toMatchObject({ pairs: { all: 0, right: 0, wrong: 0 }, tau: null });
    expect(orderText(shortened(few))).toMatch(/: no two were told apart by their rounds/);
  }
});
