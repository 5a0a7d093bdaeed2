// The pages as a browser shows them: at the width of a desk and of a phone, light and dark, with scripts and without.
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { memoryIo } from '../../cli/io.ts';
import { run } from '../../cli/run.ts';
import { packageRoot } from '../../codegen/build/package-root.ts';
import { judged, reportPage } from '../../lab/report/page.ts';
import { readInput } from '../../lab/report/read.ts';
import { Browser, findBrowser, looks } from '../support/browser.ts';
import { writeReportFiles } from '../support/report-files.ts';

const folder = mkdtempSync(join(tmpdir(), 'report-page-'));
const pages = { report: join(folder, 'report.html'), profile: join(folder, 'profile.html') };
const trace = join(folder, 'trace.json');
afterAll(() => rmSync(folder, { recursive: true, force: true }));

beforeAll(async () => {
  const input = readInput([writeReportFiles(join(folder, 'files'))]);
  writeFileSync(pages.report, reportPage(input, await judged(input)));
});

test('gen profile writes its page and its trace, and says what profiling costs', async () => {
  const { io, written } = memoryIo();
  const micro = join(packageRoot(), 'test', 'fixtures', 'qwen3-micro');
  const work = ['--tokens', '3', '--runs', '2', '--threads', '2', '--position', '4', '--target', 'cpu'];
  const code = await run(['profile', micro, ...work, '--html', pages.profile, '--trace', trace], io);
  expect(written.err).toContain('profiling costs');
  expect(code).toBe(0);
  for (const stage of [
    'embed',
    'qkv',
    'attention',
    'attn_out',
    'ffn_up',
    'ffn_down',
    'head',
    'sample',
    'all',
  ]) {
    expect(written.out).toMatch(new RegExp(`^${stage} `, 'm'));
  }
});

const browser = findBrowser();
describe.skipIf(!browser)(browser ? 'Chromium' : 'Chromium (skipped: it is not installed)', () => {
  let chromium: Browser;
  beforeAll(() => {
    chromium = new Browser(browser!);
  });
  afterAll(() => chromium.close());

  test.each(['report', 'profile'] as const)(
    'shows the page of a %s without complaint or overflow',
    async (name) => {
      const shots = new Map<string, Buffer>();
      for (const { width, scheme } of looks) {
        const seen = await chromium.look(pages[name], { width, scheme, scripts: true });
        expect(seen.complaints).toEqual([]);
        expect(seen.contentWidth, `${name} at ${width}`).toBe(width);
        shots.set(`${width} ${scheme}`, seen.png);
        // Once is enough: without scripts nothing else is different.
        if (width !== 390 || scheme !== 'dark') continue;
        const without = await chromium.look(pages[name], { width, scheme, scripts: false });
        expect(without.png.equals(seen.png), 'the same without scripts').toBe(true);
      }
      expect(shots.get('1400 light')!.equals(shots.get('1400 dark')!)).toBe(false);
      const kept = process.env['ONELAUNCH_PICTURES'];
      if (kept) mkdirSync(kept, { recursive: true });
      for (const [look, png] of kept ? shots : []) {
        writeFileSync(join(kept!, `${name}-${look.replace(' ', '-')}.png`), png);
      }
    },
  );

  test('notices a page that complains, and one that is too wide', async () => {
    const bad = join(folder, 'bad.html');
    writeFileSync(
      bad,
      '<meta name="viewport" content="width=device-width"><p style="width:2000px">x</p><img src="no.png"><script>throw 1</script>',
    );
    const seen = await chromium.look(bad, { width: 390, scheme: 'light', scripts: true });
    expect(seen.contentWidth).toBeGreaterThan(390);
    expect(seen.complaints.join()).toContain('exceptionThrown');
    expect(seen.complaints.join()).toContain('loadingFailed');
  });
});
