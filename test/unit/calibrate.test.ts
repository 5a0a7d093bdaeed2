// From timed tokens to the terms of a target, and from rates to poll delays.
import { mkdtempSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { needReplies, tellCut } from '../../cli/calibrate.ts';
import { memoryIo } from '../../cli/io.ts';
import { run } from '../../cli/run.ts';
import { packageRoot } from '../../codegen/build/package-root.ts';
import { estimate, makeSchedule } from '../../codegen/index.ts';
import type { Target } from '../../codegen/schedule/target.ts';
import { type CostTerm, costTermNames, costTerms, tokenMicros } from '../../codegen/schedule/terms.ts';
import { models } from '../../configs/models.ts';
import cooperative from '../../configs/plans/cooperative.ts';
import stream from '../../configs/plans/stream.ts';
import unfused from '../../configs/plans/unfused.ts';
import { resolveTarget } from '../../configs/resolve.ts';
import { targetText } from '../../configs/target-file.ts';
import { targetNamed } from '../../configs/targets.ts';
import { isTimedAt, measureTarget } from '../../lab/calibrate/calibrate.ts';
import { descendDelays } from '../../lab/calibrate/delays.ts';
import { errorOf, fitTerms, type TimedToken } from '../../lab/calibrate/fit.ts';
import { positionsWithin } from '../../lab/calibrate/kernels.ts';
import { cacheOf, figureOf } from '../../lab/calibrate/probe.ts';
import { type CalibrationRecord, readFigures, readRecord } from '../../lab/calibrate/record.ts';
import { refit } from '../../lab/calibrate/refit.ts';

const h100 = targetNamed('h100')!;
const dims = models.find(({ name }) => name === 'smollm2-135m')!;

/** Tokens of a target whose terms are known: what a calibration would measure there. */
function tokensOf(terms: Target['terms']): TimedToken[] {
  const target = { ...h100, bandwidth: 3000, terms: terms! };
  return [cooperative, unfused, stream].flatMap((plan) => {
    const schedule = makeSchedule(dims, plan, target);
    return [1, 150, 700, 1900].map((position) => {
      const { parts, micros } = estimate(schedule, position);
      return { parts, bandwidth: 3000, micros: micros! };
    });
  });
}

describe('terms', () => {
  const truth = Object.fromEntries(
    costTermNames.map((term, i) => [term, costTerms[term].assumed * (0.5 + (i % 4) * 0.5)]),
  );
  const tokens = tokensOf(truth);

  test('that are fitted predict what was timed, and what was not', () => {
    const fitted = fitTerms(tokens);
    const errors = tokens.map((token) => Math.abs(errorOf(token, fitted)));
    expect(Math.max(...errors)).toBeLessThan(0.02);
    const other = estimate(makeSchedule(dims, cooperative, { ...h100, bandwidth: 3000, terms: truth }), 1200);
    const predicted = tokenMicros(other.parts, fitted, 3000);
    expect(Math.abs(predicted / other.micros! - 1)).toBeLessThan(0.02);
    // The assumed ones are far off: there was something to learn.
    expect(Math.max(...tokens.map((token) => Math.abs(errorOf(token, {}))))).toBeGreaterThan(0.05);
  });

  test('that are known stay as they are, and those that do not occur get no value', () => {
    const barriers = tokens.slice(0, 8);
    const fitted = fitTerms(barriers, { barrier: 0.5 });
    expect(fitted.barrier).toBe(0.5);
    const absent = costTermNames.filter((term) => fitted[term] === undefined);
    expect(absent).toEqual(expect.arrayContaining<CostTerm>(['hop', 'streamAttend', 'gridSync']));
    expect(absent).not.toContain('product');
  });

  test('are none below zero', () => {
    const faster = tokens.map((token) => ({ ...token, micros: token.micros / 20 }));
    expect(Math.min(...Object.values(fitTerms(faster)))).toBe(0);
  });
});

test.each(['h100', 'h200'])(
  'the target %s that ships is what its record gives, and predicts what was timed',
  (name) => {
    const record = readRecord(join(packageRoot(), 'bench', 'calibration', `${name}.json`));
    const shipped = targetNamed(name)!;
    const { target, points } = refit(shipped, record);
    expect(targetText(target)).toBe(targetText(shipped));
    const close = points.filter(({ error }) => Math.abs(error) <= 0.15);
    expect(close.length / points.length).toBeGreaterThanOrEqual(0.9);
  },
);

test('what was timed with codes is predicted as that', () => {
  const record = readRecord(join(packageRoot(), 'bench', 'calibration', 'h200.json'));
  const points = record.points.filter(({ weights }) => weights === 'int4');
  expect(points).toHaveLength(3);
  const unpackOf = (some: typeof points) =>
    refit(targetNamed('h200')!, { ...record, points: some, prompts: [] }).target.terms?.unpack;
  expect(unpackOf(points)).toBeGreaterThan(0);
  expect(unpackOf(points.map(({ weights: _, ...plain }) => plain))).toBeUndefined();
});

test('a record makes no target of another kind, nor of another architecture', () => {
  const record = readRecord(join(packageRoot(), 'bench', 'calibration', 'h100.json'));
  const cpu = targetNamed('cpu')!;
  expect(() => refit(cpu, record)).toThrow('makes no target cpu: it is of sm_90a');
  const { arch: _, ...older } = record;
  expect(() => refit(cpu, older)).toThrow(/makes no target cpu: it times .*, a plan that is not timed there/);
  const cooperative = record.points.filter(({ plan }) => plan === 'cooperative');
  const ofCpu = { ...record, arch: cpu.arch, points: cooperative, prompts: [] };
  expect(() => refit(targetNamed('h100')!, ofCpu)).toThrow('makes no target h100: it is of a CPU');
});

describe('gen calibrate --prompts', () => {
  const gen = async (...args: readonly string[]) => {
    const { io, written } = memoryIo();
    return { code: await run(['calibrate', '--prompts', ...args], io), ...written };
  };

  test('is refused where a target has no launches of prompts', async () => {
    const { code, err } = await gen('--target', 'cpu');
    expect(err).toContain('--prompts times launches of prompts, and cpu has none');
    expect(code).toBe(2);
  });

  test.each([
    [null, null, 'is not there'],
    [{ points: [] }, {}, 'has no timed replies'],
    [{}, { tokens: 1 }, 'is of NVIDIA H100 80GB HBM3'],
  ])('needs the replies of a record: %j %j', (found, other, why) => {
    const record = readRecord(join(packageRoot(), 'bench', 'calibration', 'h100.json'));
    const one: CalibrationRecord | null = found && { ...record, ...found };
    expect(() =>
      needReplies('x.points.json', one, { device: record.device, tokens: record.tokens, ...other }),
    ).toThrow(why);
  });
});

describe('poll delays', () => {
  const schedule = makeSchedule(dims, stream, h100);
  const at = (name: string) => schedule.stages.findIndex((stage) => stage.name === name);
  const best: readonly [number, number][] = [
    [at('qkv'), 700],
    [at('ffn_down'), 1100],
  ];
  const rateOf = async (cycles: readonly number[]) =>
    1000 - best.reduce((loss, [stage, value]) => loss + Math.abs(cycles[stage]! - value) / 20, 0);

  test('are moved while tokens become faster', async () => {
    const tried: number[] = [];
    const target = { ...h100, pollCycles: { down_proj: 300 } };
    const found = await descendDelays({ ...schedule, target }, rateOf, (_, rate) => tried.push(rate));
    expect(found.cycles.qkv_proj).toBeGreaterThanOrEqual(500);
    expect(found.cycles.qkv_proj).toBeLessThanOrEqual(900);
    expect(found.cycles.down_proj).toBeGreaterThanOrEqual(900);
    expect(found.cycles.o_proj).toBeUndefined();
    expect(found.tried).toBe(tried.length);
    expect(found.gain).toBeCloseTo(Math.max(...tried) / tried[0]!, 6);
  });

  test('stay as they are where nothing is faster, and are asked for no stage outside the layers', async () => {
    const touched = new Set<number>();
    const flat = async (cycles: readonly number[]) => {
      for (const [stage, value] of cycles.entries()) if (value > 0) touched.add(stage);
      return 1000 + (touched.size % 3); // within the spread
    };
    const { cycles } = await descendDelays({ ...schedule, target: { ...h100, pollCycles: {} } }, flat);
    expect(cycles).toEqual({});
    expect([at('embed'), at('head'), at('sample')].filter((stage) => touched.has(stage))).toEqual([]);
  });

  test('of a record that is gone on with are told of as they were found', async () => {
    const before = readRecord(join(packageRoot(), 'bench', 'calibration', 'h200.json'));
    const from = targetNamed('h200')!;
    const records: CalibrationRecord[] = [];
    const record = await measureTarget(from, {
      ...{ models: [], before, date: '2026-11-30', deviceName: before.device, positions: [1], tokens: 4 },
      ...{ replies: 1, device: 0, threads: 1, seeksDelays: true, isQuick: false, onlyPrompts: true },
      signal: new AbortController().signal,
      onProgress: () => {},
      onLine: () => {},
      onRecord: (made) => records.push(made),
    });
    // The fit of what was timed is another's matter, and slow.
    const tells = (made: CalibrationRecord) =>
      refit(from, { ...made, points: made.points.slice(0, 1), prompts: [] }).target.origin?.['pollCycles'];
    expect(tells(before)).toContain('together');
    for (const made of [record, ...records]) expect(tells(made)).toBe(tells(before));
  });
});

describe('the lines of a probe', () => {
  const line = (term: string, x: number, value: number) =>
    JSON.stringify({ term, x, value, least: value, most: value });
  const text = [
    line('bandwidth', 1, 2000),
    line('bandwidth', 12, 3000),
    ...[2, 16, 32, 64].map((x) => line('cacheBandwidth', x, x > 16 ? 3100 : 6000)),
  ].join('\n');

  test('are figures; of several the one with the most is taken', () => {
    expect(figureOf(readFigures(`${text}\n`), 'bandwidth')).toBe(3000);
    expect(() => figureOf(readFigures(text), 'barrier')).toThrow('the probe printed no barrier');
  });

  test('say how much a cache holds', () => {
    expect(cacheOf(readFigures(text))).toEqual({ l2Bytes: 16 * 2 ** 20, cacheBandwidth: 6000 });
    expect(cacheOf(readFigures(line('bandwidth', 0, 10)))).toBeNull();
  });
});

test('a kernel is timed again where a record lacks a position that is asked for', () => {
  const points = [{ position: 1 }, { position: 200 }];
  expect(isTimedAt(points, [1, 200])).toBe(true);
  expect(isTimedAt(points, [200])).toBe(true);
  expect(isTimedAt(points, [1, 400])).toBe(false);
  expect(isTimedAt([], [1])).toBe(false);
});

test('a model that ends before a position is timed at its last one', () => {
  const usual = [1, 200, 1900];
  expect(positionsWithin({ maxPositions: 8192 }, usual, 64)).toEqual(usual);
  expect(positionsWithin({ maxPositions: 1024 }, usual, 64)).toEqual([1, 200, 959]);
  expect(positionsWithin({ maxPositions: 128 }, usual, 64)).toEqual([1, 63]);
});

describe('a machine that was not steady', () => {
  const spread = (share: number) => ({ median: 100, least: 100, most: 100 * (1 + share), spread: share });
  const record = readRecord(join(packageRoot(), 'bench', 'calibration', 'h200.json'));
  const noisy: CalibrationRecord = {
    ...record,
    figures: record.figures.map((one) =>
      one.term === 'bandwidth' ? { ...one, least: one.value * 0.8, most: one.value * 1.2 } : one,
    ),
    points: record.points.map((one, i) => ({ ...one, tokensPerSecond: spread(i % 3 === 0 ? 0.5 : 0.2) })),
    prompts: [],
  };
  const gen = async (of: CalibrationRecord) => {
    const folder = mkdtempSync(join(tmpdir(), 'onelaunch-record-'));
    const [from, out] = [join(folder, 'points.json'), join(folder, 'out.json')];
    writeFileSync(from, JSON.stringify(of));
    const { io, written } = memoryIo();
    const code = await run(['calibrate', '--target', 'h200', '--refit', from, '--out', out], io);
    return { code, file: out, err: written.err, origin: resolveTarget(out).origin! };
  };

  test('is told when its target is written, and in the file', async () => {
    const { code, err, origin, file } = await gen(noisy);
    expect(code).toBe(0);
    expect(err).toMatch(
      new RegExp(
        `^note: the machine was not steady \\(bandwidth from \\d+\\.?\\d* to .* GB/s; half of 198 figures of replies spread by 20\\.0 % or more\\): predictions by ${file} are no better; measure again while nothing else runs, `,
        'm',
      ),
    );
    expect(origin['terms']).toMatch(/; half of them spread by up to 20\.0 %, all by up to 50\.0 %$/);
  });

  test('is not one whose figures stay within what predictions are to hold', async () => {
    const { err, origin } = await gen(record);
    expect(err).not.toContain('steady');
    expect(origin['terms']).toMatch(/; half of them spread by up to 0\.1 %, all by up to 0\.8 %$/);
    const once = record.points.map((one) => ({ ...one, tokensPerSecond: spread(0) }));
    expect((await gen({ ...record, points: once })).origin['terms']).toMatch(/; timed once each$/);
  });
});

describe('positions and tokens that a model has no room for', () => {
  const found = (positions: readonly number[] | undefined, tokens = 64) =>
    tellCut(
      [
        { name: 'small', maxPositions: 1024 },
        { name: 'large', maxPositions: 8192 },
      ],
      {
        positions,
        tokens,
      },
    );

  test('are told where they were asked for, with the one that is timed', () => {
    expect(found([1, 2000, 5000])).toEqual(['small has 1024 positions: 2000 and 5000 are timed at 959']);
    expect(found([1, 9000])).toEqual([
      'small has 1024 positions: 9000 is timed at 959',
      'large has 8192 positions: 9000 is timed at 8127',
    ]);
    expect(found([1, 959])).toEqual([]);
    expect(found(undefined)).toEqual([]);
  });

  test('are refused before anything is timed where not one is left', () => {
    expect(found([1], 1022)).toEqual([]);
    expect(() => found([1], 1023)).toThrow(
      '1023 tokens are more than small has positions for, which are 1024',
    );
  });

  test('on the command line', async () => {
    const { io, written } = memoryIo();
    const args = ['calibrate', '--target', 'cpu', '--models', 'qwen3-tiny', '--tokens', '1023'];
    expect(await run([...args, '--out', join(tmpdir(), 'never.json')], io)).toBe(2);
    expect(written.err).toBe(
      'error: 1023 tokens are more than qwen3-tiny has positions for, which are 1024\nhint: ask for at most --tokens 1022\n',
    );
  });
});
