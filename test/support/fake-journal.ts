// Records of an experiment that never ran: variants of known speed, timed without noise.
import type { Finding } from '../../lab/findings.ts';
import { findingsOf } from '../../lab/findings.ts';
import type { JournalHeader, JournalRecord, VariantRecord } from '../../lab/journal-records.ts';
import { type Group, nextGroup, type Strategy } from '../../lab/strategy.ts';

export const header: JournalHeader = {
  ...{ kind: 'journal', format: 1, version: '0.0.0', command: 'explore', model: 'm', weights: 'checkpoint' },
  ...{ target: 'cpu', plan: 'base', base: '000000000000', vary: ['prefetch=0..3'], strategy: 'grid' },
  ...{ samples: null, seed: 0, prune: 1.5, positions: [1, 200], tokens: 64, rounds: 5, shard: null },
};

export const idOf = (index: number): string => index.toString(16).padStart(12, '0');

export const variant = (index: number, more: Partial<VariantRecord> = {}): VariantRecord => ({
  ...{ kind: 'variant', id: idOf(index), label: index === 0 ? 'base' : `base+v=${index}`, edits: {} },
  ...{ plan: { name: 'base' }, alike: [], predicted: [100, 50], unmeasured: [], pruned: null },
  ...more,
});

export const run = (device: string | null = 'a device'): JournalRecord => ({
  ...{
    kind: 'run',
    date: '2026-01-01T00:00:00.000Z',
    device,
    cpu: 'a CPU',
    machine: { kind: 'cpu', load1: 0 },
  },
});

export const timed = (
  index: number,
  round: number,
  position: number,
  tokensPerSecond: number,
  more: { readonly rung?: number; readonly group?: number; readonly tokensHash?: string } = {},
): JournalRecord => ({
  ...{ kind: 'timed', id: idOf(index), rung: 0, group: 0, round, position, order: 0, tokensPerSecond },
  ...{ tokensHash: `hash${position}`, ...more },
});

/** The rounds of a group, in which everybody has the speed that `rateOf` says. */
export function timeFake(group: Group, number: number, rateOf: (index: number) => number): JournalRecord[] {
  const indices = [0, ...group.ids.map((id) => Number.parseInt(id, 16))];
  return Array.from({ length: group.rounds }, (_, round) =>
    header.positions.flatMap((position) =>
      indices.map((index) =>
        timed(index, round, position, rateOf(index), { rung: group.rung, group: number }),
      ),
    ),
  ).flat();
}

/** Runs a strategy to its end. @param left groups after which it is broken off */
export function playOut(
  records: JournalRecord[],
  strategy: Strategy,
  rateOf: (index: number) => number,
  left = Number.POSITIVE_INFINITY,
): { readonly findings: readonly Finding[]; readonly groups: readonly Group[] } {
  const groups: Group[] = [];
  records.push(run());
  for (;;) {
    const findings = findingsOf(records, header.positions);
    const group = nextGroup(findings, strategy);
    if (!group || groups.length >= left) return { findings, groups };
    records.push(...timeFake(group, groups.length, rateOf));
    groups.push(group);
  }
}
