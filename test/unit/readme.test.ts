// What the README and the results say of speeds is what was measured.
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, it } from 'vitest';
import { z } from 'zod';
import { readReports } from '../../cli/report-file.ts';
import { packageRoot } from '../../codegen/build/package-root.ts';

const root = packageRoot();
const readme = readFileSync(join(root, 'README.md'), 'utf8');

it('the README states speeds under Results only', () => {
  const [before = ''] = readme.split(/^## Results$/m);
  expect(before).not.toMatch(/\d ?(tok\/s|GB\/s|TB\/s|ms|us)\b/);
});

it.each([
  ['h100', 'README.md'],
  ['h200', 'docs/results.md'],
])('speeds of the %s in %s are those of bench/reports', (target, file) => {
  const text = readFileSync(join(root, file), 'utf8');
  const rows = [
    ...text.matchAll(
      /^\| ([\w.-]+), `([\w-]+)` \| ([\d,]+) tok\/s \| ([\d,]+) \| ([\d,]+) \| ([\d,]+) \| ([\d.]+) \/ ([\d.]+) \|$/gm,
    ),
  ];
  expect(rows).toHaveLength(7);
  expect(rows.length).toBe(text.match(/^\| .*tok\/s/gm)?.length ?? 0);
  const { reports } = readReports();
  for (const [line, model, plan, ...figures] of rows) {
    const stated = figures.map((figure) => Number(figure.replaceAll(',', '')));
    const measured = reports
      .filter((report) => report.target === target && report.model === model && report.plan === plan)
      .filter(({ promptPlan }) => !promptPlan)
      .map(({ bench, verify }) => figuresSchema.parse({ bench, verify }))
      .map(({ bench, verify }) => [
        ...[1, 200, 1900].map((position) => {
          const figure = bench.decode.find((one) => one.position === position);
          return figure && Math.round(figure.tokensPerSecond.median);
        }),
        Math.round(bench.prefill.tokensPerSecond.median),
        Number(verify.worstLogitError.toFixed(2)),
        Number(verify.tolerance.logit.toFixed(2)),
      ]);
    expect(measured, line).toContainEqual(stated);
  }
});

it('docs/results.md states the ratios of bench/reports/peers', () => {
  const text = readFileSync(join(root, 'docs/results.md'), 'utf8');
  const [said = ''] = /^Beside transformers in one run.*$/m.exec(text) ?? [];
  const stated = [...said.matchAll(/([\d.]+)x/g)].map(([, ratio]) => ratio);
  const measured = ['h100', 'h200'].flatMap((target) => {
    const file = join(root, `bench/reports/peers/qwen3-0.6b-${target}.json`);
    const { rows } = peersSchema.parse(JSON.parse(readFileSync(file, 'utf8')));
    const ratioOf = (variant: string, at: { position: number } | { prefill: number }) =>
      rows.find((row) => row.variant === variant && Object.entries(at).every(([key, n]) => row[key] === n));
    return [
      ...['compiled', 'cuda-graph', 'eager'].map((variant) => ratioOf(variant, { position: 200 })),
      ...['cuda-graph', 'eager'].map((variant) => ratioOf(variant, { prefill: 1000 })),
    ].map((row) => String(Number(row?.ratio?.median.toPrecision(2))));
  });
  expect(stated).toEqual(measured);
});

const peersSchema = z.object({
  rows: z.array(
    z.looseObject({
      variant: z.string().nullable(),
      ratio: z.object({ median: z.number() }).optional(),
    }),
  ),
});
const rate = z.object({ tokensPerSecond: z.object({ median: z.number() }) });
const figuresSchema = z.object({
  bench: z.object({ decode: z.array(rate.extend({ position: z.number() })), prefill: rate }),
  verify: z.object({ worstLogitError: z.number(), tolerance: z.object({ logit: z.number() }) }),
});
