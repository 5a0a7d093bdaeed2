// Runs the warps and producers of a tiny stream kernel as interleaved workers over several passes, and checks every access against what happened before it.
import { chooser } from '../chooser.ts';
import type { Fault, TinyRun } from '../scheme.ts';
import type { Access, Place, StreamEvent } from './events.ts';
import { type Rotation, rotations } from './handoff.ts';
import type { StreamSchedule } from './schedule.ts';
import { type Cell, Memory, type Moment } from './simulated-memory.ts';
import { type StreamSimulation, type Worker, workersOf } from './simulated-workers.ts';

/** What goes wrong in one interleaving of a launch; empty if nothing does. One fault for each kind, space and pair of stages. */
export function simulateStream(schedule: StreamSchedule, simulation: StreamSimulation): Fault[] {
  return new StreamInterleaving(schedule, simulation).run();
}

/**
 * A few passes that go round the buffers, with a tile of one row. The ring is so short that it orders what it should not have to, or so long
 * that it holds nobody back: the seed chooses, as it does whether blocks sample greedily.
 */
export function simulateTiny(schedule: StreamSchedule, run: TinyRun): Fault[] {
  const { layers } = schedule.dims;
  const epochs = rotations[schedule.ring.handoff].buffers + 2;
  const slots = run.seed % 4 < 2 ? 2 : 256;
  const machine = { ...run, tileRows: 1, slots, greedy: run.seed % 2 === 0 };
  if (!run.rows) return simulateStream(schedule, { ...machine, passes: Math.ceil(epochs / layers) });
  // A batch is one pass: of as many layers as go round the buffers.
  return simulateStream(
    { ...schedule, dims: { ...schedule.dims, layers: epochs } },
    { ...machine, passes: 1 },
  );
}

class StreamInterleaving {
  readonly #simulation: StreamSimulation;
  readonly #rotation: Rotation;
  readonly #workers: readonly Worker[];
  readonly #memory: Memory;
  /** What is known at events that others wait for: slots filled and freed, progress, meetings. */
  readonly #told = new Map<string, { count: number; clock: Int32Array }>();
  readonly #faults = new Map<string, Fault>();
  readonly #choose: (n: number) => number;

  constructor(schedule: StreamSchedule, simulation: StreamSimulation) {
    this.#simulation = simulation;
    this.#rotation = simulation.rotation ?? rotations[schedule.ring.handoff];
    this.#choose = chooser(simulation.seed);
    this.#workers = workersOf(schedule, simulation);
    this.#memory = new Memory(simulation, this.#rotation, this.#workers);
  }

  run(): Fault[] {
    let running = this.#running();
    while (running.length > 0) {
      const worker = this.#next(running);
      if (!worker) {
        this.#faults.set('deadlock', { kind: 'deadlock', text: this.#waitOf(running) });
        break;
      }
      this.#advance(worker);
      if (worker.next === worker.events.length) running = this.#running();
    }
    return [...this.#faults.values()];
  }

  /** Unfinished workers of the blocks that have a multiprocessor. */
  #running(): Worker[] {
    const unfinished = this.#workers.filter((worker) => worker.next < worker.events.length);
    const { blocks, resident = blocks } = this.#simulation;
    const running = [...new Set(unfinished.map((worker) => worker.block))].slice(0, resident);
    return unfinished.filter((worker) => running.includes(worker.block));
  }

  /** Any of those that can go on. */
  #next(running: readonly Worker[]): Worker | undefined {
    const left = [...running];
    while (left.length > 0) {
      const [worker] = left.splice(this.#choose(left.length), 1);
      if (!worker!.waits || this.#canGoOn(worker!)) return worker;
    }
    return undefined;
  }

  /** One event, or the start of a wait. */
  #advance(worker: Worker): void {
    const event = worker.events[worker.next]!;
    if (!worker.waits) {
      if (worker.began.at(-1)?.order !== event.place.order) {
        worker.began.push({ order: event.place.order, time: ++worker.clock[worker.id]! });
      }
      if (event.kind === 'poll') this.#startPolling(worker, event);
      if (event.kind === 'meet') this.#tell(worker, this.#topic(worker, event));
      worker.waits = true;
      if (!this.#canGoOn(worker)) return;
    }
    worker.waits = false;
    this.#act(worker, event);
    worker.next++;
  }

  #canGoOn(worker: Worker): boolean {
    const event = worker.events[worker.next]!;
    const { warps, slots } = this.#simulation;
    const told = () => this.#told.get(this.#topic(worker, event))?.count ?? 0;
    switch (event.kind) {
      case 'poll':
        return worker.elements[worker.next]!.every((at) => this.#isThere(event, at));
      case 'meet':
        return told() >= warps;
      case 'take':
      case 'gate':
        return told() > 0;
      case 'fill':
        return event.slot < slots || told() >= warps;
      default:
        return true;
    }
  }

  #isThere(event: Access, at: number): boolean {
    const { value } = this.#memory.word(event, at);
    return this.#rotation.flagged ? value === event.version : value !== null;
  }

  #act(worker: Worker, event: StreamEvent): void {
    const topic = this.#topic(worker, event);
    switch (event.kind) {
      case 'poll':
        for (const at of worker.elements[worker.next]!) this.#take(worker, event, at);
        return;
      case 'publish':
        this.#publish(worker, event);
        return;
      case 'load':
      case 'store':
        for (const at of worker.elements[worker.next]!) this.#touch(worker, event, at);
        return;
      case 'free':
      case 'full':
      case 'progress':
        this.#tell(worker, topic);
        return;
      case 'appended': // stores are seen at once here: that words do not order these is for the check of syncs
        return;
      case 'meet':
        worker.met++;
        this.#learn(worker, this.#told.get(topic)!.clock);
        return;
      case 'take':
      case 'fill':
      case 'gate':
        this.#learn(worker, this.#told.get(topic)?.clock ?? null);
        return;
      default:
        event satisfies never;
    }
  }

  /** What is told at an event, or waited for. */
  #topic(worker: Worker, event: StreamEvent): string {
    switch (event.kind) {
      case 'meet':
        return `meeting ${worker.met} of block ${worker.block}`;
      case 'free':
        return `slot ${event.slot} of block ${worker.block} free`;
      case 'fill':
        return `slot ${event.slot - this.#simulation.slots} of block ${worker.block} free`;
      case 'full':
      case 'take':
        return `slot ${event.slot} of block ${worker.block} full`;
      case 'progress':
      case 'gate':
        return `progress of block ${worker.block} in epoch ${event.epoch}`;
      default:
        return '';
    }
  }

  #tell(worker: Worker, topic: string): void {
    const told = this.#told.get(topic) ?? { count: 0, clock: new Int32Array(this.#workers.length) };
    join(told.clock, worker.clock);
    worker.clock[worker.id]!++;
    this.#told.set(topic, { count: told.count + 1, clock: told.clock });
  }

  #learn(worker: Worker, clock: Int32Array | null): void {
    if (clock) join(worker.clock, clock);
    worker.clock[worker.id]!++;
  }

  /** From here on the word is read again and again: what was in it must be gone for sure. */
  #startPolling(worker: Worker, event: Access & { place: Place }): void {
    if (this.#rotation.flagged) return;
    for (const at of worker.elements[worker.next]!) {
      const { value, emptied } = this.#memory.word(event, at);
      if (value !== null && value < event.version) {
        this.#report('race', event, event, () => `polls while epoch ${value} is still there`);
      } else if (emptied && !this.#sees(worker, emptied)) {
        this.#report('race', emptied.moment, event, () => 'may poll before the word is emptied');
      }
    }
  }

  #sees(worker: Worker, emptied: NonNullable<Cell['emptied']>): boolean {
    const { delay = 0 } = this.#simulation;
    const { worker: other, moment } = emptied;
    const known = worker.clock[other.id]!;
    if (delay === 0 || other.block === worker.block) return known >= moment.time;
    const later = other.began.find(({ order }) => order >= moment.place.order + delay);
    return later !== undefined && known >= later.time;
  }

  #take(worker: Worker, event: Access & { place: Place }, at: number): void {
    const cell = this.#memory.word(event, at);
    this.#checkValue(cell, event);
    if (cell.clock) join(worker.clock, cell.clock);
    this.#mark(cell.reads, worker, event);
    this.#memory.unreadOf(event.space, event.epoch)[at]!--;
  }

  #publish(worker: Worker, event: Access & { place: Place }): void {
    const mine = worker.elements[worker.next]!;
    for (const at of mine) {
      const cell = this.#memory.word(event, at);
      this.#checkUnread(cell, event, at);
      this.#checkOrder(worker, cell, event);
      if (cell.emptied && !this.#sees(worker, cell.emptied)) {
        this.#report('race', cell.emptied.moment, event, () => 'may publish before the word is emptied');
      } else if (cell.value !== null && !this.#rotation.flagged) {
        this.#report('stale', event, event, () => `publishes over epoch ${cell.value}, which nobody emptied`);
      }
      this.#mark(cell.writes, worker, event);
      cell.value = event.version;
      cell.clock = worker.clock.slice();
    }
    worker.clock[worker.id]!++;
    for (const at of this.#rotation.ahead === null ? [] : mine) {
      const cell = this.#memory.word(event, at, this.#rotation.ahead!);
      this.#checkUnread(cell, event, at);
      this.#checkOrder(worker, cell, event);
      const moment = this.#mark(cell.writes, worker, event);
      Object.assign(cell, { value: null, clock: null, emptied: { worker, moment } });
    }
  }

  #touch(worker: Worker, event: Access & { place: Place }, at: number): void {
    const cell = this.#memory.cell(event.space, at);
    this.#checkOrder(worker, cell, event);
    if (event.kind === 'load') {
      this.#checkValue(cell, event);
      this.#mark(cell.reads, worker, event);
    } else {
      this.#mark(cell.writes, worker, event);
      cell.value = event.version;
    }
  }

  #mark(moments: (Moment | undefined)[], worker: Worker, { place }: StreamEvent): Moment {
    const moment = { time: worker.clock[worker.id]!, place };
    moments[worker.id] = moment;
    return moment;
  }

  /** What is there is about to go: all who wait for it must have read it. */
  #checkUnread({ value }: Cell, event: Access & { place: Place }, at: number): void {
    if (value === null || !this.#memory.unreadOf(event.space, value)[at]) return;
    this.#report('overwritten', event, event, () => `overwrites epoch ${value} before all have read it`);
  }

  #checkOrder(worker: Worker, cell: Cell, event: Access & { place: Place }): void {
    const reads = event.kind === 'load';
    for (const { id } of this.#workers) {
      if (id === worker.id) continue;
      const seen = worker.clock[id]!;
      const [written, read] = [cell.writes[id], cell.reads[id]];
      if (written && written.time > seen) this.#race(written, 'writes', event);
      if (!reads && read && read.time > seen) this.#race(read, 'reads', event);
    }
  }

  #race(from: Moment, verb: string, event: Access & { place: Place }): void {
    this.#report(
      'race',
      from,
      event,
      () => `${event.kind === 'load' ? 'reads' : 'writes'} what ${nameOf(from)} ${verb}`,
    );
  }

  #checkValue({ value }: Cell, event: Access & { place: Place }): void {
    if (value === null) this.#report('unwritten', event, event, () => 'reads what nobody wrote');
    else if (value !== event.version)
      this.#report('stale', event, event, () => `reads ${value} for ${event.version}`);
  }

  #report(
    kind: Fault['kind'],
    from: { place: Place },
    to: Access & { place: Place },
    text: () => string,
  ): void {
    const key = [kind, to.space, from.place.stage, to.place.stage].join();
    if (!this.#faults.has(key)) this.#faults.set(key, { kind, text: `${to.space}: ${nameOf(to)} ${text()}` });
  }

  /** Who waits for what: words rather than others of the block, who wait for words themselves. */
  #waitOf(stuck: readonly Worker[]): string {
    const worker = stuck.find((one) => one.events[one.next]!.kind === 'poll') ?? stuck[0]!;
    const event = worker.events[worker.next]!;
    const who = worker.warp === 'producer' ? 'the producer' : `warp ${worker.warp}`;
    const missing =
      event.kind === 'poll' ? worker.elements[worker.next]!.find((at) => !this.#isThere(event, at)) : null;
    const what =
      event.kind === 'poll'
        ? `word ${missing} of ${event.space}, epoch ${event.epoch}`
        : this.#topic(worker, event);
    return `${who} of block ${worker.block} waits in ${nameOf(event)} for ${what}`;
  }
}

function join(into: Int32Array, from: Int32Array): void {
  for (let i = 0; i < into.length; i++) into[i] = Math.max(into[i]!, from[i]!);
}

const nameOf = ({ place }: { place: Place }): string =>
  `${place.stage} of layer ${place.layer}, pass ${place.pass}`;
