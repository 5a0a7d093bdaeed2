// Runs a tiny schedule's blocks and warps as interleaved workers, and checks every access against what happened before it.

import type { Meeting } from '../../schedule/syncs.ts';
import { chooser } from '../chooser.ts';
import type { Fault } from '../scheme.ts';
import { type Machine, programOf, type Step, type Touch, type Wait } from './accesses.ts';
import type { BarrierSchedule } from './schedule.ts';

export interface Simulation extends Omit<Machine, 'watched' | 'layers'> {
  readonly warps: number;
  /** Chooses the interleaving. */
  readonly seed: number;
  /** True where a worker leaves out a sync that the others wait at. */
  readonly skips?: (sync: Meeting, block: number, warp: number) => boolean;
}

/** What goes wrong in one interleaving of one pass; empty if nothing does. One fault for each kind and pair of phases. */
export function simulate(schedule: BarrierSchedule, simulation: Simulation): Fault[] {
  return new Interleaving(schedule, simulation).run();
}

/** A worker is one warp of one block. `clock[v]`: the latest event of worker v that happened before now. */
interface Worker {
  readonly id: number;
  readonly block: number;
  readonly warp: number;
  readonly events: readonly Event[];
  next: number;
  readonly clock: Int32Array;
  waitsAt: string | null;
}

type Event =
  | { readonly kind: 'touch'; readonly touch: Touch; readonly step: Step }
  /** `passage` counts the syncs of one scope, since a sync in a loop is passed often. */
  | (Wait & { readonly passage: number });

/** Which write made a value, and of which element of its tensor. */
interface Value {
  readonly version: string;
  readonly element: number;
}

/** One element: its value, and each worker's last write and read with the step that did it. */
interface Cell {
  value: Value | null;
  readonly writes: Int32Array;
  readonly reads: Int32Array;
  readonly writers: (Step | undefined)[];
  readonly readers: (Step | undefined)[];
}

class Interleaving {
  readonly #simulation: Simulation;
  readonly #workers: readonly Worker[];
  readonly #cells = new Map<string, Cell[]>();
  readonly #turns: ReadonlyMap<string, number>;
  readonly #versions: ReadonlyMap<string, ReadonlyMap<string, number>>;
  readonly #arrived = new Map<string, Worker[]>();
  readonly #faults = new Map<string, Fault>();
  readonly #choose: (n: number) => number;

  constructor(schedule: BarrierSchedule, simulation: Simulation) {
    this.#simulation = simulation;
    this.#choose = chooser(simulation.seed);
    const watched = Array.from({ length: simulation.tokens }, (_, token) => token);
    const machine: Machine = { ...simulation, watched, layers: schedule.dims.layers };
    this.#versions = versionsOf(schedule);
    this.#turns = new Map([...this.#versions.keys()].map((place, turn) => [place, turn]));
    const count = simulation.blocks * simulation.warps;
    this.#workers = Array.from({ length: simulation.blocks }, (_, block) =>
      programOf(schedule, machine, block),
    ).flatMap((program, block) =>
      Array.from({ length: simulation.warps }, (_, warp): Worker => {
        const id = block * simulation.warps + warp;
        const clock = new Int32Array(count);
        clock[id] = 1;
        return { id, block, warp, events: eventsOf(program), next: 0, clock, waitsAt: null };
      }),
    );
  }

  run(): Fault[] {
    for (;;) {
      const ready = this.#workers.filter((w) => w.waitsAt === null && w.next < w.events.length);
      if (ready.length === 0) break;
      this.#advance(ready[this.#choose(ready.length)]!);
    }
    const stuck = this.#workers.filter((worker) => worker.waitsAt !== null);
    if (stuck.length > 0) {
      const [{ block, warp, waitsAt }] = stuck as [Worker];
      const text = `warp ${warp} of block ${block} waits at ${waitsAt} for others that never come`;
      this.#faults.set('deadlock', { kind: 'deadlock', text });
    }
    return [...this.#faults.values()];
  }

  #advance(worker: Worker): void {
    const event = worker.events[worker.next++]!;
    if (event.kind === 'touch') this.#touch(worker, event.touch, event.step);
    else if (!this.#simulation.skips?.(event.sync, worker.block, worker.warp)) {
      this.#arrive(worker, event.sync, event.passage);
    }
  }

  /** The workers that a sync orders meet here; each then knows what all of them did. */
  #arrive(worker: Worker, sync: Meeting, passage: number): void {
    const { group, members } = this.#groupOf(worker, sync);
    const place = `${group} after ${sync.after.stage}, passage ${passage}`;
    const arrived = [...(this.#arrived.get(place) ?? []), worker];
    this.#arrived.set(place, arrived);
    worker.waitsAt = place;
    if (arrived.length < members) return;
    const joined = worker.clock.map((_, v) => Math.max(...arrived.map((other) => other.clock[v]!)));
    for (const other of arrived) {
      other.clock.set(joined);
      other.clock[other.id]!++;
      other.waitsAt = null;
    }
  }

  #groupOf(worker: Worker, sync: Meeting): { group: string; members: number } {
    switch (sync.scope) {
      case 'grid':
        return { group: 'the grid barrier', members: this.#workers.length };
      case 'block':
        return { group: `the sync of block ${worker.block}`, members: this.#simulation.warps };
      default:
        return sync.scope satisfies never;
    }
  }

  #touch(worker: Worker, touch: Touch, step: Step): void {
    const { warps } = this.#simulation;
    const { id } = worker;
    const now = worker.clock[id]!;
    // Which warp takes an item is the library's choice, so every phase deals from another warp on.
    const turn = this.#turns.get(placeOf(step))!;
    const version = this.#versionOf(touch, step);
    for (let at = touch.lo; at < touch.hi; at++) {
      const item = Math.floor((at - touch.lo) / touch.each);
      if (touch.each > 0 && (item + touch.token + turn) % warps !== worker.warp) continue;
      const cell = this.#cell(touch, at);
      this.#checkOrder(worker, cell, touch, step);
      const element = touch.first + at - touch.lo;
      if (touch.writes) {
        cell.value = { version, element };
        cell.writes[id] = now;
        cell.writers[id] = step;
      } else {
        this.#checkValue(cell, touch, { version, element }, step);
        cell.reads[id] = now;
        cell.readers[id] = step;
      }
    }
  }

  #cell(touch: Touch, at: number): Cell {
    const space = this.#cells.get(touch.space) ?? [];
    if (space.length === 0) this.#cells.set(touch.space, space);
    const known = space[at];
    if (known) return known;
    const count = this.#workers.length;
    const { position, tokens } = this.#simulation;
    const isOld = touch.tensor === 'cache' && at % (position + tokens) < position;
    const cell: Cell = {
      value: isOld ? { version: 'cache', element: at } : null,
      writes: new Int32Array(count),
      reads: new Int32Array(count),
      writers: [],
      readers: [],
    };
    space[at] = cell;
    return cell;
  }

  #checkOrder(worker: Worker, cell: Cell, touch: Touch, step: Step): void {
    for (let other = 0; other < this.#workers.length; other++) {
      if (other === worker.id) continue;
      const seen = worker.clock[other]!;
      if (cell.writes[other]! > seen) this.#race(cell.writers[other]!, true, step, touch);
      if (touch.writes && cell.reads[other]! > seen) this.#race(cell.readers[other]!, false, step, touch);
    }
  }

  #race(from: Step, writes: boolean, to: Step, touch: Touch): void {
    if (from === to && from.together) return; // the library orders what warps do together in one phase
    this.#report(
      'race',
      touch,
      from,
      to,
      () => `${nameOf(from)} ${verb(writes)}, ${nameOf(to)} ${verb(touch.writes)}`,
    );
  }

  #checkValue(cell: Cell, touch: Touch, wanted: Value, step: Step): void {
    const { value } = cell;
    if (value === null) {
      this.#report('unwritten', touch, step, step, () => `${nameOf(step)} reads what nobody wrote`);
    } else if (value.version !== wanted.version || value.element !== wanted.element) {
      this.#report(
        'stale',
        touch,
        step,
        step,
        () => `${nameOf(step)} reads ${show(value)} for ${show(wanted)}`,
      );
    }
  }

  /** Which write a value comes from, when stages run one after the other. */
  #versionOf(touch: Touch, step: Step): string {
    if (touch.tensor === 'cache') return 'cache'; // each position is written once, before this pass or in it
    const before = this.#versions.get(placeOf(step))!.get(touch.tensor) ?? 0;
    const isCopy = step.stage.phases[step.phase]!.kind === 'gather_input';
    const isOwn = touch.writes || touch.space.startsWith('register');
    return `write ${before + (isOwn && !isCopy ? 1 : 0)} of ${touch.tensor}, token ${touch.token}`;
  }

  #report(kind: Fault['kind'], touch: Touch, from: Step, to: Step, text: () => string): void {
    const ends = [from, to].map(({ stage, phase }) => `${stage.name} ${phase}`);
    const key = [kind, touch.tensor, ...ends].join();
    if (!this.#faults.has(key)) this.#faults.set(key, { kind, text: `${touch.tensor}: ${text()}` });
  }
}

function eventsOf(program: readonly (Step | Wait)[]): Event[] {
  const passages = { grid: 0, block: 0 };
  return program.flatMap((event): Event[] => {
    if (event.kind === 'wait') return [{ ...event, passage: passages[event.sync.scope]++ }];
    return event.touches.map((touch) => ({ kind: 'touch', touch, step: event }));
  });
}

const placeOf = ({ layer, stage, phase }: Step): string => `${layer} ${stage.name} ${phase}`;

/** How often each tensor was written before each phase, when stages run one after the other. */
function versionsOf(schedule: BarrierSchedule): Map<string, Map<string, number>> {
  const versions = new Map<string, Map<string, number>>();
  const counts = new Map<string, number>();
  const visit = (part: 'begin' | 'layer' | 'end', layer: number) => {
    for (const stage of schedule.stages.filter((s) => s.part === part)) {
      for (const [phase, { kind, ops }] of stage.phases.entries()) {
        versions.set(`${layer} ${stage.name} ${phase}`, new Map(counts));
        if (kind === 'gather_input') continue; // a copy keeps the version of what it copies
        for (const op of schedule.ops.filter((o) => ops.includes(o.name))) {
          for (const { tensor } of op.writes) counts.set(tensor, (counts.get(tensor) ?? 0) + 1);
        }
      }
    }
  };
  visit('begin', 0);
  for (let layer = 0; layer < schedule.dims.layers; layer++) visit('layer', layer);
  visit('end', schedule.dims.layers - 1);
  return versions;
}

const show = ({ version, element }: Value): string => `${version}, element ${element}`;
const verb = (writes: boolean): string => (writes ? 'writes' : 'reads');
const nameOf = ({ stage, phase, layer }: Step): string => `${stage.name} phase ${phase} of layer ${layer}`;
