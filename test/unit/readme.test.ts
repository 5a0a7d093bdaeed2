// What the README shows is what happens; its example runs in test/compile/examples.test.ts.
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { z } from 'zod';
import { memoryIo } from '../../cli/io.ts';
import { readReports } from '../../cli/report-file.ts';
import { run } from '../../cli/run.ts';
import { packageRoot } from '../../codegen/build/package-root.ts';

const root = packageRoot();
const readme = readFileSync(join(root, 'README.md'), 'utf8');

const blocks = (language: string) =>
  [...readme.matchAll(/^```(\w*)\n(.*?)^```$/gms)]
    .filter((block) => block[1] === language)
    .map((block) => block[2]!);

describe('README', () => {
  it('shows commands and flags that exist', async () => {
    const commands = blocks('').flatMap((block) =>
      block.split('\n').filter((line) => line.startsWith('gen ')),
    );
    expect(commands.length).toBeGreaterThan(4);
    for (const line of commands) {
      const words = line.replace(/#.*/, '').trim().split(/\s+/).slice(1);
      const command = words[0]!.startsWith('-') ? 'build' : words[0]!;
      const { io, written } = memoryIo();
      expect(await run(['help', command], io)).toBe(0);
      for (const flag of words.filter((word) => word.startsWith('--'))) {
        expect(written.out, line).toContain(`${flag} `);
      }
    }
  });

  it('names scripts that package.json has', () => {
    const { scripts } = JSON.parse(readFileSync(join(root, 'package.json'), 'utf8')) as {
      scripts: Record<string, string>;
    };
    const named = [...readme.matchAll(/npm run ([\w:]+)/g)].map((match) => match[1]!);
    expect(named.length).toBeGreaterThan(1);
    for (const name of named) expect(Object.keys(scripts)).toContain(name);
  });

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
