// Files for a report of things that never ran: two kernels, a comparison with other systems, a journal.
import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { resolveModel } from '../../configs/resolve.ts';
import type { JournalHeader, JournalRecord } from '../../lab/journal-records.ts';
import type { Quality } from '../../lab/quality.ts';

export const device = 'A <GPU> & more, 128 blocks';
const around = (median: number) => ({ median, least: median * 0.98, most: median * 1.01, spread: 0.03 });
const machine = {
  kind: 'cuda',
  name: 'A GPU',
  driver: '1.2',
  smClock: 1980,
  memoryClock: 2619,
  celsius: 47,
  watts: 240,
};

const quality: Quality = {
  ...{ text: 'definitions', source: 'a reference', sequences: 2, tokens: 4000 },
  ...{ kl: { mean: 0.00012, most: 0.1 }, top1: { equal: 3990, decided: 3900, decidedEqual: 3900 } },
  ...{ nll: { ours: 2, reference: 1.99 }, perplexity: { ours: 7.389, reference: 7.316 } },
  ...{ allowed: { kl: 1, nll: 1, margin: 1 }, problems: [] },
};

/** @param rate tok/s at position 1. The bandwidth is 3,000 GB/s and a token has 1 GB, and a MB more for each position. */
const kernel = (plan: string, rate: number) => ({
  ...{ kernel: `m-h100-${plan}`, model: 'm', target: 'h100', plan, dims: resolveModel('qwen3-0.6b').dims },
  bench: {
    ...{
      hash: 'aaaaaaaaaaaa',
      date: '2026-01-02',
      kernel: `m-h100-${plan}`,
      device,
      weights: 'checkpoint',
      tokens: 100,
      runs: 3,
    },
    decode: [1, 200, 1900].map((position) => {
      const median = rate * (1 - position / 10_000);
      const gigabytesPerSecond = ((1000 + position) / 1000) * median;
      return {
        position,
        tokensPerSecond: around(median),
        gigabytesPerSecond,
        share: gigabytesPerSecond / 3000,
        tokensHash: 'x',
      };
    }),
    prefill: { tokens: 512, tokensPerSecond: around(10 * rate) },
    machine: {
      cpu: 'a CPU',
      before: { ...machine, throttleReasons: '0x0000000000000000' },
      after: { ...machine, celsius: 50, throttleReasons: '0x0000000000000000' },
    },
  },
  verify: {
    ...{ hash: 'aaaaaaaaaaaa', date: '2026-01-02', device, ok: true, source: 'a reference', cases: 3 },
    ...{ worstLogitError: 0.25, tolerance: { logit: 0.75, kl: 1, nll: 1 } },
  },
  quality: { hash: 'aaaaaaaaaaaa', date: '2026-01-02', ok: true, texts: [quality] },
});

const peers = {
  ...{ kind: 'peers', model: 'm', device, date: '2026-01-03' },
  rows: [
    { peer: 'transformers', variant: 'compiled', version: '5.0', position: 1, tokensPerSecond: around(300) },
    {
      peer: 'transformers',
      variant: 'compiled',
      version: '5.0',
      position: 200,
      tokensPerSecond: around(290),
    },
    {
      peer: 'transformers',
      variant: 'compiled',
      version: '5.0',
      prefill: 512,
      tokensPerSecond: around(20_000),
    },
    { peer: 'vLLM', version: null, position: 1, why: 'the package is not installed' },
  ],
};

export const header: JournalHeader = {
  ...{ kind: 'journal', format: 1, version: '0.0.0', command: 'ablate', model: 'm', weights: 'checkpoint' },
  ...{ target: 'cpu', plan: 'base', base: '000000000000', vary: ['prefetch=0..3'], strategy: 'grid' },
  ...{ samples: null, seed: 0, prune: 1.5, positions: [1, 200], tokens: 64, rounds: 5, shard: null },
};

const idOf = (index: number): string => String(index).padStart(12, '0');
const labels = ['base', 'base+a=1', 'base+b=2', 'base+c=3'];
/** Of the incumbent's speed. */
const speeds = [1, 1.2, 0.9, 0];

const records: JournalRecord[] = [
  {
    kind: 'run',
    date: '2026-01-04T00:00:00.000Z',
    device: 'a machine',
    cpu: 'a CPU',
    machine: { kind: 'cpu' },
  },
  ...labels.map(
    (label, i): JournalRecord => ({
      ...{
        kind: 'variant',
        id: idOf(i),
        label,
        edits: {},
        plan: { name: 'base' },
        alike: [],
        predicted: [100, 50],
      },
      ...{ unmeasured: [], pruned: i === 3 ? 'predicted 3.1 times slower than the best' : null },
    }),
  ),
  ...labels.slice(0, 3).map(
    (_, i): JournalRecord => ({
      kind: 'verified',
      id: idOf(i),
      ok: true,
      source: 's',
      worst: 0.1,
      allowed: 1,
      problem: null,
    }),
  ),
  ...Array.from({ length: 6 }, (_, round) =>
    header.positions.flatMap((position) =>
      labels.slice(0, 3).map(
        (_label, i): JournalRecord => ({
          ...{
            kind: 'timed',
            id: idOf(i),
            rung: 0,
            group: 0,
            round,
            position,
            order: i,
            tokensHash: 'ffffffffffff',
          },
          tokensPerSecond: ((100 * speeds[i]!) / (position === 1 ? 1 : 2)) * (1 + round / 100),
        }),
      ),
    ),
  ).flat(),
];

export const journalText = [header, ...records].map((record) => `${JSON.stringify(record)}\n`).join('');

/** Fills a folder. @returns it */
export function writeReportFiles(folder: string): string {
  mkdirSync(join(folder, 'h100'), { recursive: true });
  const write = (name: string, value: object) => writeFileSync(join(folder, name), JSON.stringify(value));
  write('h100/slow.json', kernel('cooperative', 1000));
  write('h100/fast.json', kernel('stream', 2500));
  write('peers.json', peers);
  write('other.json', { something: 'else' });
  writeFileSync(join(folder, 'ablate.jsonl'), journalText);
  return folder;
}
