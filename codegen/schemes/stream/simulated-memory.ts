// What lies where in a launch that is simulated: memory and words, element by element, with who touched each and when.
import type { Access, Place } from './events.ts';
import type { Rotation } from './handoff.ts';
import type { StreamSimulation, Worker } from './simulated-workers.ts';

export interface Moment {
  readonly time: number;
  readonly place: Place;
}

/** One element of plain memory, or one word of one buffer. */
export interface Cell {
  /** The version of what is there; null: nothing, or emptied. */
  value: number | null;
  /** Of the write that put it there. */
  clock: Int32Array | null;
  /** Who emptied it last. */
  emptied: { worker: Worker; moment: Moment } | null;
  readonly writes: (Moment | undefined)[];
  readonly reads: (Moment | undefined)[];
}

export class Memory {
  readonly #simulation: StreamSimulation;
  readonly #rotation: Rotation;
  readonly #cells = new Map<string, Cell[]>();
  /** By space and epoch. */
  readonly #unread = new Map<string, number[]>();

  constructor(simulation: StreamSimulation, rotation: Rotation, workers: readonly Worker[]) {
    this.#simulation = simulation;
    this.#rotation = rotation;
    for (const { events, elements } of workers) {
      for (const [i, event] of events.entries()) {
        if (event.kind !== 'poll') continue;
        const unread = this.unreadOf(event.space, event.epoch);
        for (const at of elements[i]!) unread[at] = (unread[at] ?? 0) + 1;
      }
    }
  }

  /** One that nobody has touched holds nothing, but for positions of the cache from before the launch. */
  cell(space: string, at: number): Cell {
    const cells = this.#cells.get(space) ?? [];
    if (cells.length === 0) this.#cells.set(space, cells);
    const known = cells[at];
    if (known) return known;
    const { position, passes, tokens, rows } = this.#simulation;
    const row = rows?.[Number(/ and row (\d+)$/.exec(space)?.[1])];
    const [old, held] = row === undefined ? [position, position + passes * tokens] : [row, row + 1];
    const isOld = space.startsWith('cache') && at % held < old;
    const cell: Cell = { value: isOld ? 0 : null, clock: null, emptied: null, writes: [], reads: [] };
    cells[at] = cell;
    return cell;
  }

  /** In the buffer of the access's epoch, or so many epochs ahead. */
  word({ space, epoch }: Access, at: number, ahead = 0): Cell {
    return this.cell(`${space}, buffer ${(epoch + ahead) % this.#rotation.buffers}`, at);
  }

  /** How many have yet to read each word; who reads or overwrites one looks there. */
  unreadOf(space: string, epoch: number): number[] {
    const key = `${space} ${epoch}`;
    const unread = this.#unread.get(key) ?? [];
    if (unread.length === 0) this.#unread.set(key, unread);
    return unread;
  }
}
