// What the README says of speeds is what was measured.
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { z } from 'zod';
import { readReports } from '../../cli/report-file.ts';
import { packageRoot } from '../../codegen/build/package-root.ts';

const root = packageRoot();
const readme = readFileSync(join(root, 'README.md'), 'utf8');

describe('README', () => {
  it('states speeds under Results only, and there those of bench/reports', () => {
    const [before = '', results = ''] = readme.split(/^## Results$/m);
    expect(before).not.toMatch(/\d ?(tok\/s|GB\/s|TB\/s|ms|us)\b/);
    const rows = [
      ...results.matchAll(
        /^\| ([\w.-]+), `([\w-]+)` \| ([\d,]+) tok\/s \| ([\d,]+) \| ([\d,]+) \| ([\d,]+) \| ([\d.]+) \/ ([\d.]+) \|$/gm,
      ),
    ];
    expect(rows.length).toBe(results.match(/^\| .*tok\/s/gm)?.length ?? 0);
    const reports = readReports().reports;
    for (const [line, model, plan, ...figures] of rows) {
      const stated = figures.map((figure) => Number(figure.replaceAll(',', '')));
      const measured = reports
        .filter(({ promptPlan, ...report }) => report.model === model && report.plan === plan && !promptPlan)
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
});

const rate = z.object({ tokensPerSecond: z.object({ median: z.number() }) });
const figuresSchema = z.object({
  bench: z.object({ decode: z.array(rate.extend({ position: z.number() })), prefill: rate }),
  verify: z.object({ worstLogitError: z.number(), tolerance: z.object({ logit: z.number() }) }),
});
