// What a measurement says beside its figure: the machine, its state before and after, and how far the runs spread.
import { spawnSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { cpus, loadavg } from 'node:os';
import { smiIdOf } from '../codegen/build/gpus.ts';

export interface Spread {
  readonly median: number;
  readonly least: number;
  readonly most: number;
  /** (most - least) / median. */
  readonly spread: number;
}

export function spreadOf(values: readonly number[]): Spread {
  const sorted = [...values].sort((a, b) => a - b);
  const middle = sorted.length >> 1;
  const median = sorted.length % 2 ? sorted[middle]! : (sorted[middle - 1]! + sorted[middle]!) / 2;
  const least = sorted[0]!;
  const most = sorted.at(-1)!;
  return { median, least, most, spread: (most - least) / median };
}

/** Twelve hexadecimal digits that tell two lists of token ids apart. */
export const tokensHash = (ids: readonly number[]): string =>
  createHash('sha256').update(ids.join()).digest('hex').slice(0, 12);

/** Ids spread over the vocabulary, the same every time. */
export const promptOf = (tokens: number, vocab: number): number[] =>
  Array.from({ length: tokens }, (_, i) => (17 + i * 7919) % vocab);

/** Positions of the context at which decode is timed where nobody says which; those beyond `most` become that. */
export const usualPositions = (most = Number.POSITIVE_INFINITY): number[] => [
  ...new Set([1, 200, 1900].map((position) => Math.min(position, most))),
];

/** What may change while it is measured. */
export type MachineState =
  | { readonly kind: 'cpu'; readonly load1: number }
  | {
      readonly kind: 'cuda';
      readonly name: string;
      readonly driver: string;
      /** [MHz] */
      readonly smClock: number | null;
      readonly memoryClock: number | null;
      readonly throttleReasons: string;
      readonly celsius: number | null;
      readonly watts: number | null;
    };

const fields = [
  ...['name', 'driver_version', 'clocks.sm', 'clocks.mem'],
  ...['clocks_throttle_reasons.active', 'temperature.gpu', 'power.draw'],
];

/** @param gpu ordinal, or null for the CPU */
export function machineState(gpu: number | null): MachineState {
  if (gpu === null) return { kind: 'cpu', load1: Number(loadavg()[0]!.toFixed(2)) };
  const { stdout } = spawnSync(
    'nvidia-smi',
    [`--id=${smiIdOf(gpu)}`, `--query-gpu=${fields.join()}`, '--format=csv,noheader,nounits'],
    { encoding: 'utf8', timeout: 20_000 },
  );
  const [name = 'unknown', driver = 'unknown', sm, memory, throttleReasons = 'unknown', celsius, watts] = (
    stdout ?? ''
  )
    .trim()
    .split(', ');
  const number = (text: string | undefined) => (text && Number.isFinite(Number(text)) ? Number(text) : null);
  return {
    kind: 'cuda',
    ...{ name, driver, smClock: number(sm), memoryClock: number(memory) },
    ...{ throttleReasons, celsius: number(celsius), watts: number(watts) },
  };
}

export const cpuName = (): string =>
  `${cpus()[0]?.model.trim() ?? 'unknown CPU'}, ${cpus().length} logical CPUs`;
