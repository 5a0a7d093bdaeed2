// Passes of several sequences in the simulator: no interleaving has a fault, and a block that does otherwise is noticed.
import { describe, expect, it } from 'vitest';
import { simulateStream } from '../../codegen/schemes/stream/simulate.ts';
import { tinyStream } from '../../codegen/schemes/stream/tiny.ts';
import { models } from '../../configs/models.ts';
import base, { variants } from '../../configs/plans/stream.ts';
import { targetNamed } from '../../configs/targets.ts';

const tinyOf = (plan: typeof base) => {
  const { schedule, machines } = tinyStream(models[0]!, plan, targetNamed('h100')!);
  return { deep: { ...schedule, dims: { ...schedule.dims, layers: 6 } }, machines };
};
const { deep, machines } = tinyOf(base);
const unsplit = tinyOf(variants.find(({ name }) => name === 'stream-unsplit')!);
const launch = { tileRows: 1, slots: 2, passes: 1, greedy: true, seed: 1 };
const batches = machines.filter(({ rows }) => rows);
const uneven = batches.find(({ rows }) => rows!.includes(6))!;

describe('a pass of several sequences', () => {
  it.each(batches)('of rows $rows on blocks of $warps warps has no fault', (machine) => {
    expect(simulateStream(deep, { ...launch, ...machine })).toEqual([]);
  });

  it.each(unsplit.machines.filter(({ rows }) => rows))(
    'of rows $rows of which nothing is merged has no fault on blocks of $warps warps',
    (machine) => {
      expect(simulateStream(unsplit.deep, { ...launch, ...machine })).toEqual([]);
    },
  );

  it('waits for every part of a row', () => {
    const faults = simulateStream(deep, {
      ...launch,
      ...uneven,
      edit: (event, block) =>
        event.kind === 'publish' && event.space.startsWith('partial') && block === 1 ? null : event,
    });
    expect(faults.map(({ kind }) => kind)).toEqual(['deadlock']);
  });

  it('has a whole row in one block of a head, and merges nothing', () => {
    const readers = new Set<number>();
    const whole = batches.find(({ wholeRows }) => wholeRows)!;
    const faults = simulateStream(deep, {
      ...launch,
      ...whole,
      edit: (event, block) => {
        if (event.kind === 'load' && event.space.startsWith('cache')) readers.add(block);
        return event.kind === 'publish' && event.space.startsWith('partial') ? null : event;
      },
    });
    expect(faults).toEqual([]);
    expect([...readers].sort()).toEqual([0, 2]);
  });

  it('reads nothing of the cache that it appends', () => {
    const faults = simulateStream(deep, {
      ...launch,
      ...uneven,
      edit: (event) =>
        event.kind === 'load' && event.space.startsWith('cache')
          ? { ...event, lo: event.lo + 1, hi: event.hi + 1 }
          : event,
    });
    expect(faults.length).toBeGreaterThan(0);
  });
});
