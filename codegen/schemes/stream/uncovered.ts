// The independent check of a schedule with exchanges: words are used again only when their readers have gone on, and nobody reads what no exchange carries.
import { invariant } from '../../../errors.ts';
import type { Uncovered } from '../../schedule/uncovered.ts';
import type { Access, Launch, StreamEvent } from './events.ts';
import { type Rotation, rotations } from './handoff.ts';
import { streamProgram } from './program.ts';
import type { StreamSchedule } from './schedule.ts';
import { rowTile } from './sizes.ts';

/**
 * The conflicts between blocks that no chain of exchanges orders; empty for a correct schedule.
 *
 * A word of epoch t is emptied by whoever publishes epoch t + buffers - ahead, and polled again in epoch t + buffers. So in every copy
 *     all have read epoch t, then it is emptied, then epoch t + buffers is published and polled
 * (where words carry their epoch, without the emptying) must follow from what blocks wait for: one that polls a word knows all that its publisher knew. Launches are walked with the sizes of the
 * schedule, a few of its blocks alone: what the others tell them could only order more. Each switch to more splits is passed, behind two passes
 * without it: what one block has appended of a head another reads in the next.
 */
export function uncoveredStream(
  schedule: StreamSchedule,
  rotating = rotations[schedule.ring.handoff],
): Uncovered[] {
  const { dims, blocks, splitSteps } = schedule;
  const layers = Math.min(dims.pattern.length + 1, dims.layers);
  const few = { ...schedule, dims: { ...dims, layers } };
  // Of the first head's splits, those that append and their neighbours, which read what was appended.
  const ends = splitSteps.flatMap(({ splits }) => [splits - 2, splits - 1]);
  // Of those that pass by a product the last, and the first that does not.
  const passing = schedule.products.flatMap((p) =>
    p.passedBy ? [blocks - p.tiles - 1, blocks - p.tiles] : [],
  );
  const walked = [...new Set([0, 1, ...ends, ...passing, blocks - 1])].filter(
    (block) => block >= 0 && block < blocks,
  );
  const passes = Math.max(3, Math.ceil((2 * rotating.buffers) / layers)); // two on one side of a switch
  const launch = { blocks, tileRows: rowTile, warps: 1, tokens: 1, passes };
  const found = new Map<string, Uncovered>();
  for (const { from } of splitSteps.length > 1 ? splitSteps.slice(1) : splitSteps) {
    const position = Math.max(2, from - 2);
    for (const greedy of [true, false]) {
      findUnordered(few, { ...launch, position, greedy }, walked, rotating, found);
    }
  }
  findUnmet(
    few,
    { ...launch, warps: 2, passes: 2, position: Math.max(4, splitSteps.at(-1)!.from - 1), greedy: true },
    walked,
    found,
  );
  return [...found.values()];
}

/** Touches of shared memory by warps of one block between which they do not meet. Which thread has an element is the library's choice: alike inside a stage alone. */
function findUnmet(
  schedule: StreamSchedule,
  launch: Launch,
  walked: readonly number[],
  found: Map<string, Uncovered>,
): void {
  for (const block of walked) {
    let open: (Access & StreamEvent)[] = [];
    for (const event of streamProgram(schedule, launch, block).consumer) {
      if (event.kind === 'meet') open = [];
      if (event.kind !== 'load' && event.kind !== 'store') continue;
      for (const other of open) {
        const same = other.space === event.space && other.lo < event.hi && event.lo < other.hi;
        const oneWarp = event.warp !== 'dealt' && event.warp === other.warp;
        const alike =
          event.warp === 'dealt' && other.warp === 'dealt' && event.place.order === other.place.order;
        if (!same || oneWarp || alike || (event.kind === 'load' && other.kind === 'load')) continue;
        const end = ({ place }: StreamEvent) => ({ stage: place.stage, phase: 0, layer: place.layer });
        const why = `warps of block ${block} touch ${event.space} in ${other.place.stage} and in ${event.place.stage}, and do not meet between`;
        const key = ['block', event.space, other.place.stage, event.place.stage].join();
        if (found.has(key)) continue;
        const kind = other.kind === 'load' ? 'WAR' : event.kind === 'load' ? 'RAW' : 'WAW';
        found.set(key, {
          kind,
          tensor: event.space.split(' ')[0]!,
          from: end(other),
          to: end(event),
          scope: 'block',
          why,
        });
      }
      open.push(event);
    }
  }
}

/** A block's computing warps, or its producer. */
interface Line {
  readonly block: number;
  readonly events: readonly StreamEvent[];
  /** For each event: the meeting of its block's warps that comes next, since one warp says nothing of the others; the producer is alone.
   *  For what is appended to the cache, where it is there for all: the copy engines see no store before. */
  readonly settled: readonly number[];
  /** For each event: how many events of every other line are before it. */
  readonly known: number[][];
}

/** One touch. `rank` is its epoch among all touches of the element, when stages run one after the other. */
interface Use {
  readonly line: number;
  readonly at: number;
  readonly event: Access & StreamEvent;
  readonly verb: 'reads' | 'writes' | 'empties';
  readonly rank: number;
}

function findUnordered(
  schedule: StreamSchedule,
  launch: Launch,
  walked: readonly number[],
  rotating: Rotation,
  found: Map<string, Uncovered>,
): void {
  const lines = walked.flatMap((block): Line[] => {
    const { consumer, producer } = streamProgram(schedule, launch, block);
    return [
      { block, events: consumer, settled: settledAt(consumer), known: [] },
      { block, events: producer, settled: [...producer.keys()], known: [] },
    ];
  });
  followWords(lines);
  const reach = ranks * rotating.buffers;
  for (const uses of usesOf(lines, rotating).values()) {
    const reads = uses.filter((use) => use.verb === 'reads');
    const writes = uses.filter((use) => use.verb !== 'reads');
    const order = (one: Use, other: Use) => {
      if (Math.abs(one.rank - other.rank) > reach || !overlap(one.event, other.event)) return;
      const [from, to] = one.rank <= other.rank ? [one, other] : [other, one];
      if (!isBefore(lines, from, to)) report(lines, from, to, found);
    };
    for (const [i, write] of writes.entries()) {
      for (const read of reads) order(write, read);
      for (let other = i + 1; other < writes.length; other++) order(write, writes[other]!);
    }
  }
}

function settledAt(events: readonly StreamEvent[]): number[] {
  const settled = new Array<number>(events.length);
  let [meeting, appended] = [events.length, events.length];
  for (const [at, event] of [...events.entries()].reverse()) {
    if (event.kind === 'meet') meeting = at;
    if (event.kind === 'appended') appended = at;
    const isAppend = event.kind === 'store' && event.space.startsWith('cache ');
    settled[at] = isAppend ? Math.max(meeting, appended) : meeting;
  }
  return settled;
}

/** Works out what every event knows: whoever polls a word goes on behind its publisher, a producer behind the progress of its block. */
function followWords(lines: readonly Line[]): void {
  const told = new Map<string, { line: number; at: number; lo: number; hi: number }[]>();
  const topic = (event: StreamEvent, block: number) =>
    'space' in event
      ? `${event.space} ${event.epoch}`
      : 'epoch' in event
        ? `progress ${block} ${event.epoch}`
        : '';
  for (const [line, { events, block }] of lines.entries()) {
    for (const [at, event] of events.entries()) {
      if (event.kind !== 'publish' && event.kind !== 'progress') continue;
      const key = topic(event, block);
      const [lo, hi] = event.kind === 'publish' ? [event.lo, event.hi] : [0, 1];
      const before = told.get(key) ?? [];
      before.push({ line, at, lo, hi });
      told.set(key, before);
    }
  }
  const nothing: number[] = lines.map(() => 0);
  const advance = ({ events, known, block }: Line): boolean => {
    const event = events[known.length];
    if (!event) return false;
    const before = known.at(-1) ?? nothing;
    let now = before;
    if (event.kind === 'poll' || event.kind === 'gate') {
      const [lo, hi] = event.kind === 'poll' ? [event.lo, event.hi] : [0, 1];
      const waited = (told.get(topic(event, block)) ?? []).filter((other) => other.lo < hi && lo < other.hi);
      for (const { line, at } of waited) {
        const theirs = lines[line]!.known[at];
        if (!theirs) return false;
        if (now === before) now = before.slice();
        for (let i = 0; i < now.length; i++) now[i] = Math.max(now[i]!, i === line ? at + 1 : theirs[i]!);
      }
    }
    known.push(now);
    return true;
  };
  for (let moved = true; moved; ) {
    moved = false;
    for (const line of lines) while (advance(line)) moved = true;
  }
  for (const { block, events, known } of lines) {
    invariant(
      known.length === events.length,
      `block ${block} waits in ${events[known.length]?.place.stage} for ever`,
    );
  }
}

/** Ranks of a epoch: emptied for it, written, read. */
const ranks = 3;

/** Touches that other blocks can conflict with, by the copy that they are in. Words that are not waited for can meet every copy. */
function usesOf(lines: readonly Line[], { buffers, ahead }: Rotation): Map<string, Use[]> {
  const found = new Map<string, Use[]>();
  const plain = new Set<string>();
  for (const { events } of lines) {
    for (const event of events) if (event.kind === 'load' || event.kind === 'store') plain.add(event.space);
  }
  const add = (space: string, epoch: number, use: Use) => {
    const key = plain.has(space) ? space : `${space}, buffer ${epoch % buffers}`;
    const uses = found.get(key) ?? [];
    found.set(key, uses);
    uses.push(use);
  };
  for (const [line, { events }] of lines.entries()) {
    for (const [at, event] of events.entries()) {
      if (!('space' in event)) continue;
      const { space, epoch, kind } = event;
      const reads = kind === 'load' || kind === 'poll';
      const rank = ranks * event.version + (reads ? 2 : 1);
      add(space, epoch, { line, at, event, verb: reads ? 'reads' : 'writes', rank });
      if (kind === 'publish' && ahead !== null) {
        add(space, epoch + ahead, { line, at, event, verb: 'empties', rank: ranks * (epoch + ahead) });
      }
    }
  }
  return found;
}

const overlap = (a: Access, b: Access): boolean => a.lo < b.hi && b.lo < a.hi;

/** Inside a block the library orders all. A polled word is its own order, but says nothing of what was there when polling began. */
function isBefore(lines: readonly Line[], from: Use, to: Use): boolean {
  const isWord = from.verb === 'writes' && from.event.kind === 'publish' && to.event.kind === 'poll';
  if (isWord && from.event.epoch === to.event.epoch) return true;
  const known = lines[to.line]!.known[to.at - 1]?.[from.line] ?? 0;
  return from.line === to.line || known > lines[from.line]!.settled[from.at]!;
}

function report(lines: readonly Line[], from: Use, to: Use, found: Map<string, Uncovered>): void {
  const kind = from.verb === 'reads' ? 'WAR' : to.verb === 'reads' ? 'RAW' : 'WAW';
  const { space } = to.event;
  const end = ({ event: { place } }: Use) => ({ stage: place.stage, phase: 0, layer: place.layer });
  const key = [kind, space, from.verb, from.event.place.stage, to.verb, to.event.place.stage].join();
  if (found.has(key)) return;
  const who = ({ line, verb, event }: Use) =>
    `block ${lines[line]!.block} ${verb} ${verb === 'empties' ? 'a word of ' : ''}${space} in ${event.place.stage}, pass ${event.place.pass}`;
  found.set(key, {
    kind,
    tensor: space.split(' ')[0]!,
    from: end(from),
    to: end(to),
    scope: 'grid',
    why: `${who(from)}, ${who(to)}, and no exchange is between`,
  });
}
