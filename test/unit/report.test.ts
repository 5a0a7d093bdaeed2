// gen report: files to one page. What a browser shows of it: test/compile/report-page.test.ts.
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { memoryIo } from '../../cli/io.ts';
import { readReport } from '../../cli/report-file.ts';
import { run } from '../../cli/run.ts';
import cooperative from '../../configs/plans/cooperative.ts';
import { resolveTarget } from '../../configs/resolve.ts';
import { spreadLabels } from '../../lab/page/axes.ts';
import { barChart } from '../../lab/page/bars.ts';
import { htmlTable } from '../../lab/page/html.ts';
import { ticks } from '../../lab/page/svg.ts';
import type { ReportInput } from '../../lab/report/input.ts';
import { judged, reportPage } from '../../lab/report/page.ts';
import { costsIn, predictionsIn, predictionsOf, within } from '../../lab/report/predict.ts';
import { readInput } from '../../lab/report/read.ts';
import { experimentSections } from '../../lab/report/sections/experiments.ts';
import { roofSection } from '../../lab/report/sections/roof.ts';
import { speedSections } from '../../lab/report/sections/speed.ts';
import { journalText, writeReportFiles } from '../support/report-files.ts';

let folder: string;
let input: ReportInput;
let html: string;
beforeAll(async () => {
  folder = writeReportFiles(mkdtempSync(join(tmpdir(), 'report-')));
  input = readInput([folder]);
  html = reportPage(input, await judged(input));
});
afterAll(() => rmSync(folder, { recursive: true }));

const gen = (...args: string[]) => genUntil(new AbortController().signal, ...args);
const genUntil = async (signal: AbortSignal, ...args: string[]) => {
  const { io, written } = memoryIo({ signal });
  return { code: await run(['report', ...args], io), ...written };
};
const file = (name: string, text: string): string => {
  writeFileSync(join(folder, name), text);
  return join(folder, name);
};

describe('files', () => {
  it('are known by what they hold; what is neither is left out of a folder', () => {
    expect(input.kernels.map(({ kernel }) => kernel).sort()).toEqual(['m-h100-cooperative', 'm-h100-stream']);
    expect(input.peers.map(({ rows }) => rows.length)).toEqual([4]);
    expect(input.experiments.map(({ header }) => header.command)).toEqual(['ablate']);
    expect(input.others).toEqual([join(folder, 'other.json')]);
  });

  it('of bench/reports are all read, the one of llama.cpp too', () => {
    const ours = readInput([join(import.meta.dirname, '..', '..', 'bench', 'reports')]);
    expect(ours.kernels.length).toBeGreaterThan(3);
    expect(ours.peers.flatMap(({ rows }) => rows.map(({ peer }) => peer))).toContain(
      'node-llama-cpp 3.22.1, F16',
    );
  });

  it.each([
    ['nothing.json', null, 'there is no file'],
    ['else.json', '{"something":"else"}', 'holds neither a journal nor figures'],
    ['broken.json', '{', 'is not JSON'],
    ['broken.jsonl', '{"kind":"journal"}\n', 'line 1'],
    ['empty.jsonl', '', 'is an empty journal'],
  ])('%s is refused by name', async (name, text, said) => {
    const path = text === null ? join(folder, name) : file(name, text);
    const out = join(folder, 'never.html');
    const { code, err } = await gen(path, '--out', out);
    expect(code).toBe(2);
    expect(err).toContain(name);
    expect(err).toContain(said);
    expect(() => readFileSync(out)).toThrow();
    if (text !== null) rmSync(path);
  });

  it.each([
    ['bench', { decode: [{}] }],
    ['bench', { decode: 'fast' }],
    ['bench', {}],
    ['quality', { texts: [{ text: 'x' }] }],
  ])('whose section %s is %o are no reports of gen bench --reports', (section, figures) => {
    const text = readFileSync(input.kernels[0]!.file, 'utf8');
    const damaged = { ...JSON.parse(text), [section]: { hash: 'a', date: 'b', ...figures } };
    const path = file('damaged.json', JSON.stringify(damaged));
    expect(readReport(path)).toBeUndefined();
    rmSync(path);
    expect(readReport(input.kernels[0]!.file)).toBeDefined();
  });

  it('make no page after Ctrl-C', async () => {
    const stop = new AbortController();
    const out = join(folder, 'interrupted.html');
    setImmediate(() => stop.abort());
    const { code, err } = await genUntil(stop.signal, folder, '--out', out);
    expect({ code, err }).toEqual({ code: 130, err: 'interrupted\n' });
    expect(existsSync(out)).toBe(false);
  });

  it('make nothing where there are none, or no place for the page', async () => {
    const nowhere = await gen(folder, '--out', join(folder, 'no', 'report.html'));
    expect(nowhere.code).toBe(2);
    expect(nowhere.err).toContain('its folder does not exist');
    const empty = mkdtempSync(join(tmpdir(), 'report-none-'));
    const none = await gen(empty, '--out', join(folder, 'never.html'));
    expect(none.code).toBe(2);
    expect(none.err).toContain('there is nothing to report yet');
    rmSync(empty, { recursive: true });
  });

  it('that are read are not written over, and count once', async () => {
    const { file: journal } = input.experiments[0]!;
    const before = readFileSync(journal, 'utf8');
    const over = await gen(folder, '--out', journal);
    expect(over.err).toContain(`error: --out is '${journal}', and so is a file that is read\n`);
    expect(over.code).toBe(2);
    expect(readFileSync(journal, 'utf8')).toBe(before);
    expect(readInput([journal, folder]).experiments).toHaveLength(1);
  });

  it('say in words why the page cannot be written, and where it can', async () => {
    const { code, err } = await gen(folder, '--out', folder);
    expect(code).toBe(2);
    expect(err).toContain(`error: --out is '${folder}', which cannot be written: it is a folder\n`);
    expect(err).toContain('hint: for example: --out report.html\n');
  });

  it('become a page; its path is the data', async () => {
    const out = join(folder, 'report.html');
    const { code, out: said, err } = await gen(folder, '--out', out);
    expect(code).toBe(0);
    expect(err).toContain(`left out, neither a journal nor figures: ${join(folder, 'other.json')}\n`);
    expect(said).toBe(`${out}\n`);
    expect(readFileSync(out, 'utf8')).toBe(html);
    rmSync(out);
  });
});

describe('the page', () => {
  it('is one file: no address, no script, nothing that is fetched', () => {
    expect(html).not.toMatch(/https?:|src=|<script|<link|@import|url\(/);
  });

  it('escapes what files say', () => {
    expect(html).toContain('A &lt;GPU&gt; &amp; more');
    expect(html).not.toContain('<GPU>');
    const [one] = input.peers;
    const peers = [{ ...one!, rows: one!.rows.map((row) => ({ ...row, peer: `<i>${row.peer}` })) }];
    expect(speedSections({ ...input, peers }, () => 0).join('')).not.toContain('<i>transformers');
  });

  it('has every figure in a table: ours, those of others, and why one is missing', () => {
    const cells = (text: string) =>
      text
        .replaceAll('<wbr>', '')
        .replaceAll(/<[^>]+>/g, ' ')
        .replaceAll(/\s+/g, ' ');
    const text = cells(html);
    expect(text).toContain('stream decode 1 2,500 2,450 2,525 2,502 83.4 %');
    expect(text).toContain('stream prompt 512 25,000 24,500 25,250');
    expect(text).toContain('transformers, compiled 5.0 decode 200 290.0 284.2 292.9');
    expect(text).toContain('vLLM the package is not installed');
    expect(text).toContain('m-h100-stream pass 0.250 0.750 a reference');
    expect(text).toContain('definitions 4000 1.20e-4 99.75 %');
    expect(text).toContain('driver 1.2, SM 1980 MHz, memory 2619 MHz, 47 to 50 °C, not throttled');
  });

  it('draws kernels of one plan apart: with prompts by another plan, of other formats, and one that was measured twice', () => {
    const [path] = input.kernels.filter(({ plan }) => plan === 'stream').map((one) => one.file);
    const text = readFileSync(path!, 'utf8');
    const more = ['m-h100-stream-prefill', 'm-int8-h100-stream', 'm-h100-stream'].map((kernel, i) =>
      file(`h100/${i}.json`, text.replaceAll('m-h100-stream', kernel)),
    );
    const read = readInput([path!, ...more]);
    for (const one of more) rmSync(one);
    const names = read.kernels.map(({ name }) => name);
    expect(names).toEqual([`stream, ${path}`, 'stream-prefill', 'int8-stream', `stream, ${more[2]}`]);
    const [section] = speedSections(read, () => 0).filter((part) => part.includes('Decode of'));
    expect(section!.match(/<polyline|<path/g)!.length / section!.match(/<svg/g)!.length).toBe(4);
  });

  it('has the speed of the kernel where a model drafted for it', () => {
    const text = readFileSync(input.kernels[0]!.file, 'utf8');
    const drafts = '"drafts":{"plainTokensPerSecond":{"median":900,"least":890,"most":910}},"tokensHash":';
    const path = file('drafted.json', text.replaceAll('"tokensHash":', drafts));
    const [kernel] = readInput([path]).kernels;
    rmSync(path);
    expect(kernel!.bench!.decode.map(({ tokensPerSecond }) => tokensPerSecond.median)).toEqual([
      900, 900, 900,
    ]);
  });

  it('says of a share above 1 that the probe read less: no memory has more than all', () => {
    const most = (rate: number) => {
      const kernels = input.kernels.map((one) => ({
        ...one,
        bench: { ...one.bench!, decode: one.bench!.decode.map((figure) => ({ ...figure, share: rate })) },
      }));
      return roofSection({ ...input, kernels }, () => 0).join('');
    };
    expect(most(1.032)).toContain('103.2 %, more than the probe of gen calibrate read.');
    expect(most(0.93)).toContain('93.0 %.');
  });

  it('says that a machine was throttled', () => {
    const path = join(folder, 'h100', 'fast.json');
    const text = readFileSync(path, 'utf8');
    writeFileSync(path, text.replace('0x0000000000000000', '0x0000000000000004'));
    const [kernel] = readInput([path]).kernels;
    writeFileSync(path, text);
    expect(kernel!.bench!.state).toContain('THROTTLED');
  });
});

describe('an experiment', () => {
  it('is ranked, with the interval of each ratio, and says why a variant was not timed', () => {
    const text = experimentSections(input.experiments)
      .join('')
      .replaceAll('<wbr>', '')
      .replaceAll(/<[^>]+>/g, ' ');
    const line = text.replaceAll(/\s+/g, ' ');
    expect(line).toContain('1 base+a=1 123.0 61.5 1.200 1.200 to 1.200 better');
    expect(line).toContain('base+b=2 92.3 46.1 0.900 0.900 to 0.900 worse');
    expect(line).toContain('base+c=3: pruned, predicted 3.1 times slower than the best');
    expect(line).toContain('4 variants: 3 timed, 1 pruned.');
  });

  it('that was not timed yet says nothing of how', () => {
    const path = file(
      'begun.jsonl',
      journalText
        .split('\n')
        .filter((line) => !line.includes('"timed"'))
        .join('\n'),
    );
    const text = experimentSections(readInput([path]).experiments).join('');
    rmSync(path);
    expect(text).toContain('none timed yet');
    expect(text).not.toContain('verified before');
  });

  it('has bars with the range of the rounds, the fastest first', () => {
    const rows = input.experiments[0]!.rows;
    expect(rows.find(({ label }) => label === 'base')!.ranges[0]).toMatchObject({ least: 100, most: 105 });
    const section = experimentSections(input.experiments).join('');
    const drawn = section.slice(section.indexOf('Variants at position 1'));
    expect(drawn.indexOf('+a=1')).toBeLessThan(drawn.indexOf('>base<'));
    expect(drawn.indexOf('>base<')).toBeLessThan(drawn.indexOf('+b=2'));
  });
});

describe('predictions', () => {
  it('of a journal are those it holds, beside what was timed', async () => {
    const list = predictionsIn(input.experiments, await costsIn(input.experiments));
    expect(list).toHaveLength(6);
    expect(list.find(({ name, position }) => name === 'base+a=1' && position === 1)).toMatchObject({
      ...{ predicted: 100, measured: { median: 123 } },
    });
    // 92.3 and 46.1 of 100 and 50, 102.5 and 51.3; 123 and 61.5 are more than a sixth off.
    expect(within(list, 0.15)).toBe(4);
  });

  it('of a target file that is called as a target without known speeds are those of the journal', async () => {
    const path = join(folder, 'calibrated.jsonl');
    const { functions: _, ...own } = cooperative;
    const plan = JSON.stringify(own);
    const known = journalText
      .replaceAll('{"name":"base"}', plan)
      .replace('"model":"m"', '"model":"qwen3-tiny"');
    writeFileSync(path, known);
    const { experiments } = readInput([path]);
    rmSync(path);
    const list = predictionsIn(experiments, await costsIn(experiments));
    expect(list.map(({ predicted }) => predicted)).toEqual([100, 50, 100, 50, 100, 50]);
  });

  it("of kernels are today's, and none where the plan is not known", async () => {
    const [one] = input.kernels;
    const known = await predictionsOf([one!]);
    expect(known.map(({ position }) => position)).toEqual([1, 200, 1900]);
    for (const { predicted } of known) expect(predicted).toBeGreaterThan(0);
    expect(await predictionsOf([{ ...one!, plan: 'of a file' }])).toEqual([]);
  });

  it('of a target that is not listed are for that', async () => {
    const [one] = input.kernels;
    const h100 = resolveTarget('h100');
    const slow = { ...h100, bandwidth: h100.bandwidth! / 10 };
    const [listed, own] = await Promise.all(
      [undefined, slow].map((ownTarget) => predictionsOf([{ ...one!, ownTarget }])),
    );
    expect(own![0]!.predicted).toBeLessThan(listed![0]!.predicted / 2);
  });

  it('of a plan that ships are not those of a plan file that is called so', async () => {
    const text = readFileSync(input.kernels[0]!.file, 'utf8');
    const own = file('own.json', text.replace('"plan":', '"planFile":"./mine.ts","plan":'));
    const read = readInput([own]);
    rmSync(own);
    expect(await predictionsOf(read.kernels)).toEqual([]);
  });
});

describe('drawings', () => {
  it('have round ticks from zero to beyond the most', () => {
    expect(ticks(2500, 5)).toEqual([0, 500, 1000, 1500, 2000, 2500]);
    expect(ticks(18.7, 6)).toEqual([0, 5, 10, 15, 20]);
    expect(ticks(0)).toEqual([0, 1]);
  });

  it('have labels that do not lie over each other, inside the plot', () => {
    const placed = [...spreadLabels([50, 52, 51, 200], 10, 100)].sort((a, b) => a - b);
    for (const [i, y] of placed.entries()) {
      expect(y).toBeGreaterThanOrEqual(10);
      expect(y).toBeLessThanOrEqual(100);
      if (i > 0) expect(y - placed[i - 1]!).toBeGreaterThanOrEqual(15);
    }
  });

  it('begin bars at zero: twice the value is twice the length', () => {
    const bar = (name: string, value: number) => ({ name, value, low: value, high: value, color: 0 });
    const drawing = barChart(1100, 't', [bar('a', 100), bar('b', 50)]);
    const [a, b] = [...drawing.matchAll(/<rect[^>]* width="([\d.]+)"/g)].map((found) => Number(found[1]));
    expect(a! / b!).toBeCloseTo(2, 2);
  });

  it('leave a column out that says nothing', () => {
    const table = htmlTable(
      ['a', 'b', 'c'],
      [
        ['1', null, null],
        ['2', null, '3'],
      ],
    );
    expect(table).not.toContain('<th>b</th>');
    expect(table).toContain('<th>c</th>');
    expect(table).toContain('–');
  });
});
