// What may be said of paired rounds, which variants are timed next, and how they are ranked.
import { describe, expect, it } from 'vitest';
import { findingsTable } from '../../cli/findings-table.ts';
import { fitting } from '../../lab/explore.ts';
import { findingsOf } from '../../lab/findings.ts';
import type { JournalRecord } from '../../lab/journal-records.ts';
import { pruned, whyNotPredicted } from '../../lab/prune.ts';
import { randomFrom, shuffled } from '../../lab/random.ts';
import { ranked } from '../../lab/ranking.ts';
import { experimentSections } from '../../lab/report/sections/experiments.ts';
import type { Strategy } from '../../lab/strategy.ts';
import { intervalOf, overlap, verdictOf } from '../../lab/verdict.ts';
import { header, idOf, playOut, run, timed, variant } from '../support/fake-journal.ts';

const { positions } = header;

describe('an interval', () => {
  it('is all values up to five of them, and no more than it must be of more', () => {
    expect(intervalOf([3, 1, 2])).toMatchObject({ median: 2, low: 1, high: 3, coverage: 0.75, spread: 1 });
    expect(intervalOf([5, 1, 4, 2, 3])).toMatchObject({ low: 1, high: 5, coverage: 1 - 2 / 32 });
    // Source: tables of the sign test, 9 values: the second from either end.
    expect(intervalOf([9, 8, 7, 6, 5, 4, 3, 2, 1])).toMatchObject({ low: 2, high: 8 });
    expect(intervalOf([9, 8, 7, 6, 5, 4, 3, 2, 1]).coverage).toBeCloseTo(0.961, 3);
  });

  it('has the true median as often as it says, of a crooked distribution', () => {
    const next = randomFrom(7);
    const draw = () => -Math.log(1 - next());
    for (const n of [5, 9, 15]) {
      const trials = 4000;
      const hits = Array.from({ length: trials }, () => intervalOf(Array.from({ length: n }, draw))).filter(
        ({ low, high }) => low <= Math.LN2 && Math.LN2 <= high,
      ).length;
      const { coverage } = intervalOf(Array.from({ length: n }, draw));
      // Five standard deviations of so many tosses.
      const allowed = 5 * Math.sqrt((coverage * (1 - coverage)) / trials);
      expect(Math.abs(hits / trials - coverage)).toBeLessThan(allowed);
    }
  });

  it('says better, worse, equal, or that there are too few rounds', () => {
    expect(verdictOf(intervalOf([1.01, 1.02, 1.03]))).toBe('better');
    expect(verdictOf(intervalOf([0.98, 0.97, 0.99]))).toBe('worse');
    expect(verdictOf(intervalOf([0.98, 1.02, 1.03]))).toBe('equal');
    for (const same of [
      [1, 1, 1],
      [1, 1.01, 1.02],
      [0.98, 0.99, 1],
    ]) {
      expect(verdictOf(intervalOf(same))).toBe('equal');
    }
    expect(verdictOf(intervalOf([1.2, 1.3]))).toBe('unsure');
    expect(overlap({ low: 1, high: 2 }, { low: 2, high: 3 })).toBe(true);
    expect(overlap({ low: 1, high: 2 }, { low: 2.1, high: 3 })).toBe(false);
  });
});

describe('predictions', () => {
  const rates = (index: number, rate: number, more = {}) =>
    variant(index, { predicted: [rate, rate / 2], ...more });

  it('leave out what is far behind the best, and put the others in their order; the incumbent always stays', () => {
    const all = pruned([rates(0, 50), rates(1, 70), rates(2, 100), rates(3, 60)], 1.5);
    expect(all.map(({ id, pruned }) => [id, pruned])).toEqual([
      [idOf(0), null],
      [idOf(2), null],
      [idOf(1), null],
      [idOf(3), 'predicted 1.67 times slower than the best'],
    ]);
    expect(
      pruned([rates(0, 50), rates(3, 60), rates(2, 100)], null).every((one) => one.pruned === null),
    ).toBe(true);
  });

  it('are not used where something was not measured, or nothing is predicted', () => {
    const guessed = [rates(0, 100), rates(1, 10, { unmeasured: ['bandwidth'] })];
    expect(whyNotPredicted(guessed)).toBe(
      'nobody has measured the bandwidth of this target (gen calibrate does)',
    );
    expect(pruned(guessed, 1.5)).toEqual(guessed);
    const all = [rates(0, 100, { unmeasured: ['bandwidth', 'barrier', 'token', 'loads'] })];
    expect(whyNotPredicted(all)).toContain('the bandwidth, barrier and 2 others of this target');
    expect(whyNotPredicted([variant(0, { predicted: [null, null] })])).toBe(
      'no speed is predicted for this target',
    );
  });
});

describe('findings', () => {
  it('pair what was made in one round of one run, at every position', () => {
    const half = [timed(0, 0, 1, 100), timed(1, 0, 1, 110), timed(0, 0, 200, 100)];
    // The rest came after the command was begun again: another run, another round.
    const records: JournalRecord[] = [variant(0), variant(1), run(), ...half, run(), timed(1, 0, 200, 500)];
    expect(findingsOf(records, positions)[1]).toMatchObject({ state: 'found', rounds: [] });
    records.push(timed(0, 0, 1, 50), timed(1, 0, 1, 200), timed(0, 0, 200, 500), timed(1, 0, 200, 500));
    const [, finding] = findingsOf(records, positions);
    // Geometric mean of 4 and 1.
    expect(finding).toMatchObject({
      state: 'timed',
      rounds: [{ rates: [200, 500], baseRates: [50, 500], ratio: 2 }],
    });
  });

  it('tell what became of each', () => {
    const outcome = { kind: 'verified', source: 's', worst: 1, allowed: 2 } as const;
    const built = { kind: 'built' as const, seconds: 1, resources: [] };
    const records: JournalRecord[] = [
      ...[variant(0), variant(1, { pruned: 'slow' }), variant(2), variant(3), variant(4), variant(5), run()],
      { ...built, id: idOf(2), problem: 'no' },
      { ...built, id: idOf(3), problem: null },
      { ...outcome, id: idOf(3), ok: false, problem: 'off' },
      { ...outcome, id: idOf(4), ok: true, problem: null },
      ...[timed(5, 0, 1, 9, { tokensHash: 'a' }), timed(5, 1, 1, 9, { tokensHash: 'b' })],
    ];
    const states = findingsOf(records, positions).map(({ state }) => state);
    expect(states).toEqual(['found', 'pruned', 'refused', 'wrong', 'verified', 'unrepeatable']);
  });
});

describe('a strategy', () => {
  const grid: Strategy = { strategy: 'grid', rounds: 5, together: 4, final: true };
  const rateOf = (index: number) => 100 + index;
  const variants = (count: number) => Array.from({ length: count + 1 }, (_, i) => variant(i));

  it('times all of a grid, then the best once more, side by side', () => {
    const { groups, findings } = playOut(variants(7), grid, rateOf);
    expect(groups.map(({ rung, ids, rounds }) => [rung, ids.length, rounds])).toEqual([
      ...[
        [0, 3, 5],
        [0, 3, 5],
        [0, 1, 5],
      ],
      [1, 3, 5],
    ]);
    expect(groups.at(-1)!.ids).toEqual([idOf(7), idOf(6), idOf(5)]);
    expect(
      ranked(findings)
        .map(({ label }) => label)
        .slice(0, 3),
    ).toEqual(['base+v=7', 'base+v=6', 'base+v=5']);
  });

  it('times few of a grid once, and many no more where no final is asked for', () => {
    const rungs = (count: number, final: boolean) =>
      playOut(variants(count), { ...grid, final }, rateOf).groups.map(({ rung }) => rung);
    expect(rungs(3, true)).toEqual([0]);
    expect(rungs(4, true)).toEqual([0, 0, 1]);
    expect(rungs(4, false)).toEqual([0, 0]);
  });

  it('halves the field, in ever more rounds', () => {
    const { groups } = playOut(variants(20), { ...grid, strategy: 'halving' }, rateOf);
    const sizes = [0, 1, 2, 3].map((rung) => {
      const own = groups.filter((group) => group.rung === rung);
      return [own.flatMap(({ ids }) => ids).length, own[0]!.rounds];
    });
    expect(sizes).toEqual([
      [20, 1],
      [10, 1],
      [5, 3],
      [3, 5],
    ]);
    expect(groups.at(-1)!.ids).toEqual([idOf(20), idOf(19), idOf(18)]);
  });

  it('finds the same, wherever it was broken off', () => {
    for (const strategy of ['grid', 'halving'] as const) {
      const whole = playOut(variants(9), { ...grid, strategy }, rateOf);
      for (let left = 0; left < whole.groups.length; left++) {
        const records = [...variants(9)] as JournalRecord[];
        playOut(records, { ...grid, strategy }, rateOf, left);
        // A round that was broken off: of the incumbent alone.
        records.push(timed(0, 0, 1, 1, { group: 99 }));
        const { findings } = playOut(records, { ...grid, strategy }, rateOf);
        const rows = (of: typeof findings) =>
          ranked(of).map(({ id, rank, state, ratio }) => [id, rank, state, ratio?.median]);
        expect(rows(findings)).toEqual(rows(whole.findings));
      }
    }
  });

  it('passes over what is wrong, and ends without candidates', () => {
    const records: JournalRecord[] = [variant(0), variant(1), variant(2, { pruned: 'slow' })];
    records.push({
      kind: 'verified',
      id: idOf(1),
      ok: false,
      source: 's',
      worst: 9,
      allowed: 1,
      problem: 'off',
    });
    expect(playOut(records, grid, rateOf).groups).toEqual([]);
  });
});

describe('a ranking', () => {
  it('has the incumbent where its ratio puts it, and says who may be as good as the best', () => {
    const rates = [
      [100, 103, 104.5, 90],
      [100, 101, 102, 91],
      [100, 105, 105, 92],
    ];
    const predicted = [
      [100, 50],
      [110, 55],
      [50, 25],
      [100, null],
    ];
    const records: JournalRecord[] = [...predicted.map((of, i) => variant(i, { predicted: of })), run()];
    for (const [round, row] of rates.entries()) {
      for (const [i, rate] of row.entries())
        for (const position of positions) records.push(timed(i, round, position, rate));
    }
    const rows = ranked(findingsOf(records, positions));
    expect(rows.map(({ label, rank, equalsBest, verdict }) => [label, rank, equalsBest, verdict])).toEqual([
      ['base+v=2', 1, true, 'better'],
      ['base+v=1', 2, true, 'better'],
      ['base', 3, false, null],
      ['base+v=3', 4, false, 'worse'],
    ]);
    expect(rows[0]).toMatchObject({ rates: [104.5, 104.5], rounds: 3, hashes: ['hash1', 'hash200'] });
    expect(rows.map(({ predictedRatio }) => predictedRatio)).toEqual([0.5, expect.closeTo(1.1), 1, null]);
  });
});

it('a best of too few rounds is not told from others', () => {
  const records: JournalRecord[] = [variant(0), variant(1), run()];
  for (const position of positions) records.push(timed(0, 0, position, 100), timed(1, 0, position, 150));
  const findings = findingsOf(records, positions);
  expect(ranked(findings).map(({ label, verdict, equalsBest }) => [label, verdict, equalsBest])).toEqual([
    ['base+v=1', 'unsure', true],
    ['base', null, true],
  ]);
  const text = findingsTable(findings, { command: 'explore', positions, plan: 'base', rounds: 1 });
  expect(text).toContain('=1: the best has too few rounds, so that either may be faster');
});

it('one of too few rounds is not told from the best', () => {
  const records: JournalRecord[] = [variant(0), variant(1), variant(2), run()];
  for (const position of positions) {
    for (const round of [0, 1, 2])
      records.push(timed(0, round, position, 100), timed(1, round, position, 104));
    records.push(timed(0, 3, position, 100), timed(2, 3, position, 90));
  }
  const findings = findingsOf(records, positions);
  expect(ranked(findings).map(({ label, verdict, equalsBest }) => [label, verdict, equalsBest])).toEqual([
    ['base+v=1', 'better', true],
    ['base', null, false],
    ['base+v=2', 'unsure', true],
  ]);
  const text = findingsTable(findings, { command: 'explore', positions, plan: 'base', rounds: 3 });
  expect(text).toContain(
    '=1: its interval overlaps that of the best, or it has too few rounds, so that either may be faster',
  );
});

it('who met the best is before who was only faster before', () => {
  const records: JournalRecord[] = [variant(0), variant(1), variant(2), run()];
  for (const position of positions) {
    for (const round of [0, 1, 2]) {
      records.push(
        timed(0, round, position, 100),
        timed(1, round, position, 104),
        timed(2, round, position, 103),
      );
      records.push(timed(0, round, position, 100, { rung: 1 }), timed(1, round, position, 101, { rung: 1 }));
    }
  }
  // The incumbent beside which it was faster stands with those of the last rung.
  expect(ranked(findingsOf(records, positions)).map(({ label, rung }) => [label, rung])).toEqual([
    ...[
      ['base+v=1', 1],
      ['base', 1],
      ['base+v=2', 0],
    ],
  ]);
});

it('a table says who was timed once more, and so is before who was faster', () => {
  const records: JournalRecord[] = [variant(0), variant(1), variant(2), run()];
  const told = () =>
    findingsTable(findingsOf(records, positions), { command: 'explore', positions, plan: 'base', rounds: 1 });
  for (const position of positions)
    records.push(timed(0, 0, position, 100), timed(1, 0, position, 104), timed(2, 0, position, 103));
  expect(told()).not.toContain('once more');
  for (const position of positions)
    records.push(timed(0, 0, position, 100, { rung: 1 }), timed(1, 0, position, 90, { rung: 1 }));
  const text = '1 to 2 were timed once more, side by side: they stand before others, whatever the ratios';
  expect(told()).toContain(text);
  const rows = ranked(findingsOf(records, positions)).map((row) => ({ ...row, plan: {}, ranges: [] }));
  const experiment = { file: 'j.jsonl', header, runs: [], rows } as never;
  expect(experimentSections([experiment]).join('')).toContain(`Places ${text}.`);
});

it('a table of a halving says it of every rung', () => {
  const { findings } = playOut(
    Array.from({ length: 9 }, (_, i) => variant(i)),
    { strategy: 'halving', rounds: 4, together: 3, final: true },
    (index) => 100 + index,
  );
  const told = findingsTable(findings, { command: 'explore', positions, plan: 'base', rounds: 4 });
  expect(told).toContain('1 to 3, then 4 to 5 were timed once more, side by side');
});

it('a rung that was broken off counts for nothing', () => {
  const records: JournalRecord[] = [variant(0), variant(1), run()];
  for (const position of positions) {
    for (const round of [0, 1, 2])
      records.push(timed(0, round, position, 100), timed(1, round, position, 104));
    records.push(timed(0, 0, position, 100, { rung: 1 }), timed(1, 0, position, 90, { rung: 1 }));
  }
  const row = ranked(findingsOf(records, positions)).find(({ label }) => label === 'base+v=1');
  expect(row).toMatchObject({ rung: 0, rounds: 3, verdict: 'better', rates: [104, 104] });
});

it('of a group within a budget those begin that are expected to end there, by what the one before took', () => {
  const group = { rung: 0, ids: [idOf(1), idOf(2)], rounds: 5 };
  const within = (left: number, replyMillis: number) => fitting(group, left, replyMillis)?.ids.length ?? null;
  expect([within(150, 10), within(149, 10), within(100, 10), within(99, 10)]).toEqual([2, 1, 1, null]);
  expect([within(1, 0), within(0, 0), within(0, 10)]).toEqual([1, null, null]);
});

it('a shuffle has every number once, the same for the same seed', () => {
  expect([...shuffled(50, 3)].sort((a, b) => a - b)).toEqual([...Array(50).keys()]);
  expect([...shuffled(50, 3)]).toEqual([...shuffled(50, 3)]);
  expect([...shuffled(50, 3)]).not.toEqual([...shuffled(50, 4)]);
});

it.each([
  ['explore', true],
  ['ablate', false],
] as const)('a table of %s says what =1 is where it has one', (command, has) => {
  const records = [variant(0), variant(1), run()];
  const rates = [100, 90, 110, 95, 105];
  for (const [round, rate] of rates.entries()) {
    for (const position of header.positions) {
      records.push(timed(0, round, position, 100), timed(1, round, position, rate));
    }
  }
  const told = findingsTable(findingsOf(records, header.positions), { ...header, command });
  expect([told.includes(' =1 '), told.includes('=1: ')]).toEqual([has, has]);
});
