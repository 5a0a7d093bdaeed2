// Which rows, heads and positions a block of the stream kernel has, as its program reads it: apart from what the templates are given.

import type { Launch } from './events.ts';
import { type StreamSchedule, splitsAt } from './schedule.ts';

export interface Range {
  readonly begin: number;
  readonly end: number;
}

/** Share `share` of n things. */
export function dealt(n: number, share: number, shares: number): Range {
  const at = (i: number) => Math.floor((n * i) / shares);
  return { begin: at(share), end: at(share + 1) };
}

/** What a block has of n rows that are dealt in tiles of so many. */
export function dealtRows(n: number, tileRows: number, blocks: number, block: number): Range {
  const tiles = Math.ceil(n / tileRows);
  const [each, left] = [Math.floor(tiles / blocks), tiles % blocks];
  const last = block - (blocks - left); // among those that have one of what is left
  const begin = each * block + Math.max(0, last);
  const end = begin + each + (last >= 0 ? 1 : 0);
  return { begin: Math.min(n, begin * tileRows), end: Math.min(n, end * tileRows) };
}

/** How the blocks of a head have its positions, pass after pass. */
export class HeadDeal {
  readonly #schedule: StreamSchedule;
  readonly #launch: Launch;
  readonly #block: number;

  constructor(schedule: StreamSchedule, launch: Launch, block: number) {
    this.#schedule = schedule;
    this.#launch = launch;
    this.#block = block;
  }

  /** At the position of the pass; of a batch all blocks of a head have a part in it. */
  splits(pass: number): number {
    const { splitSteps } = this.#schedule;
    if (this.#launch.rows) return this.mostSplits;
    return Math.min(
      this.mostSplits,
      splitsAt(splitSteps, this.#launch.position + pass * this.#launch.tokens),
    );
  }

  /** Blocks of a head that have all its positions, and a slice of the elements of its values each: while it is not split, for one token. */
  slices(pass: number): number {
    const isOne = this.#launch.tokens === 1 && !this.#launch.rows;
    return isOne && this.splits(pass) === 1 ? this.#ofHead(this.#schedule.slices) : 1;
  }

  /** The splits of a token; of a batch those of the blocks of a head that have some of its positions: none of a token that is no row. */
  splitsOf(pass: number, token: number): number[] {
    const all = Array.from({ length: this.splits(pass) }, (_, split) => split);
    return this.#launch.rows ? all.filter((split) => this.share(token, split) !== null) : all;
  }

  /** A batch's positions in a line: of each row the cached ones, then its own. What a block of a head has of a row, own: its last item. Rows that
   *  are whole have a block each, and blocks without one have nothing. */
  share(token: number, split: number): { cached: Range; own: boolean } | null {
    const rows = this.#launch.rows!;
    const position = rows[token];
    if (position === undefined) return null;
    if (this.#launch.wholeRows)
      return split === token ? { cached: { begin: 0, end: position }, own: true } : null;
    const items = rows.map((before) => before + 1);
    const sum = (counts: readonly number[]) => counts.reduce((total, count) => total + count, 0);
    const mine = dealt(sum(items), split, this.mostSplits);
    const before = sum(items.slice(0, token));
    const [begin, end] = [Math.max(0, mine.begin - before), Math.min(position + 1, mine.end - before)];
    if (begin >= end) return null;
    return { cached: { begin, end: Math.min(end, position) }, own: end > position };
  }

  /** Whether attention publishes whole heads where it has all positions. */
  get handsOverWhole(): boolean {
    return this.#schedule.splitSteps[0]!.splits === 1;
  }

  /** Whether the block that attends has published what others read of a token. */
  isWhole(splits: readonly number[]): boolean {
    return splits.length === 1 && this.handsOverWhole;
  }

  /** Whether this holds for every row of a batch. */
  rowsAreWhole(): boolean {
    return this.#launch.rows!.every((_, token) => this.isWhole(this.splitsOf(0, token)));
  }

  /** The most blocks that have a part of a head. */
  get mostSplits(): number {
    return this.#ofHead(this.#schedule.splits);
  }

  /** So many blocks of a head, as far as the launch has them. */
  #ofHead(wanted: number): number {
    return Math.max(1, Math.min(wanted, Math.floor(this.#launch.blocks / this.#schedule.dims.kvHeads)));
  }

  /** The head, the split of its positions and the slice of its values that this block works on, or null. */
  unit(pass: number) {
    const { dims } = this.#schedule;
    const position = this.#launch.position + pass * this.#launch.tokens;
    const [splits, slices] = [this.splits(pass), this.slices(pass)];
    const head = Math.floor(this.#block / (splits * slices));
    const [split, slice] = [this.#block % splits, this.#block % slices];
    const group = dims.qHeads / dims.kvHeads;
    return head < dims.kvHeads ? { position, head, split, splits, slice, slices, group } : null;
  }

  /** Words of one split of a head: its elements, then one for the maximum and the sum. */
  word(head: number, split: number): [lo: number, hi: number] {
    const { qHeads, kvHeads, headDim } = this.#schedule.dims;
    const size = (qHeads / kvHeads) * headDim + 1;
    const first = (head * this.mostSplits + split) * size;
    return [first, first + size];
  }
}
