// Who does what in a launch that is simulated: each computing warp of a block, and its producer, with the events and elements that are its own.
import type { Launch, StreamEvent } from './events.ts';
import type { Rotation } from './handoff.ts';
import { streamProgram } from './program.ts';
import type { StreamSchedule } from './schedule.ts';

export interface StreamSimulation extends Launch {
  /** Slots of the ring. */
  readonly slots: number;
  /** Chooses the interleaving. */
  readonly seed: number;
  /** Blocks that run at once: the next one starts when one of them has finished. All, if left out. */
  readonly resident?: number;
  /** `ahead: null`: words are never emptied. */
  readonly rotation?: Rotation;
  /**
   * A block is sure to see that a word was emptied when it knows what the emptying block did so many stages later. At 0 words order all that was
   * stored before them, which relaxed stores promise only in the end.
   */
  readonly delay?: number;
  /** Changes or drops (null) an event of a block, to see that it is missed. */
  readonly edit?: (event: StreamEvent, block: number) => StreamEvent | null;
}

/** A computing warp of a block, or its producer. `clock[v]`: the latest event of worker v that happened before now. */
export interface Worker {
  readonly id: number;
  readonly block: number;
  readonly warp: number | 'producer';
  readonly events: readonly StreamEvent[];
  /** Of each event: the elements that this worker touches. */
  readonly elements: readonly (readonly number[])[];
  readonly clock: Int32Array;
  /** When each of its stages began, by its own clock. */
  readonly began: { order: number; time: number }[];
  next: number;
  /** Meetings of its block that are behind it. */
  met: number;
  /** It has started to poll, or has arrived, and goes on when it can. */
  waits: boolean;
}

export function workersOf(schedule: StreamSchedule, simulation: StreamSimulation): Worker[] {
  const { blocks, warps, edit } = simulation;
  return Array.from({ length: blocks }, (_, block) => {
    const program = streamProgram(schedule, simulation, block);
    const edited = (events: readonly StreamEvent[]) =>
      edit ? events.flatMap((event) => edit(event, block) ?? []) : events;
    const consumer = edited(program.consumer);
    return [
      ...Array.from({ length: warps }, (_, warp) => ({ block, warp, events: ofWarp(consumer, warp) })),
      { block, warp: 'producer' as const, events: edited(program.producer) },
    ];
  })
    .flat()
    .map((worker, id): Worker => {
      const clock = new Int32Array(blocks * (warps + 1));
      clock[id] = 1;
      const elements = worker.events.map((event) => elementsOf(event, worker.warp, warps));
      return { ...worker, id, elements, clock, began: [], next: 0, met: 0, waits: false };
    });
}

/** Which warp takes an element that is dealt is the library's choice, so every stage deals from another one on. */
function elementsOf(event: StreamEvent, warp: Worker['warp'], warps: number): number[] {
  if (!('space' in event)) return [];
  const all = Array.from({ length: event.hi - event.lo }, (_, i) => event.lo + i);
  return event.warp === 'dealt' ? all.filter((at) => (at + event.place.order) % warps === warp) : all;
}

const ofWarp = (events: readonly StreamEvent[], warp: number): StreamEvent[] =>
  events.filter((event) => {
    if (event.kind === 'progress') return warp === 0;
    return !('warp' in event) || event.warp === 'dealt' || event.warp === warp;
  });
