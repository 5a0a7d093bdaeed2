// What a library that was built for profiling wrote down: from the bytes of the interface to events.
import { type EngineHandle, type Functions, layout, profilePhase, profileRole } from './bindings.ts';

export type Phase = keyof typeof profilePhase;
export type Role = keyof typeof profileRole;

/** The names of codes, by code. */
const namesOf = <K extends string>(codes: Readonly<Record<K, number>>): readonly K[] =>
  (Object.keys(codes) as K[]).sort((a, b) => codes[a] - codes[b]);

const profilePhases = namesOf(profilePhase);
/** Roles, by their code. */
export const profileRoles = namesOf(profileRole);

/** A stretch of time of one track: of a thread of the CPU, a block, or a warp of a block. */
export interface TrackEvent {
  /** [ns] from the first event on. */
  readonly begin: number;
  readonly end: number;
  readonly block: number;
  readonly role: Role;
  /** Index into the stages of the plan. */
  readonly stage: number;
  /** The number of layers where the stage is outside them. */
  readonly layer: number;
  readonly phase: Phase;
  /** Of the first token of the pass. */
  readonly position: number;
}

export interface Recorded {
  /** Track by track, each in the order of time. */
  readonly events: readonly TrackEvent[];
  /** Events that found no room. */
  readonly missed: number;
}

type Call = (start: (functions: Functions, handle: EngineHandle) => number) => void;

/** All events since this was last asked. @param call runs a function of the library, and throws what it says */
export function takeEvents(call: Call): Recorded {
  const counts = new Int32Array(2);
  for (let room = 0; ; ) {
    const words = new Int32Array((room * eventLayout.size) / 4);
    call((f, handle) => f.ol_profile(handle, room === 0 ? null : words, room, counts));
    const [count = 0, missed = 0] = counts;
    // With too little room for them all the library hands out none.
    if (count <= room) return { events: decode(words, count), missed };
    room = count;
  }
}

const eventLayout = layout.find((struct) => struct.name === 'ProfileEvent')!;

function decode(words: Int32Array, count: number): TrackEvent[] {
  const { size, offsets } = eventLayout;
  const view = new DataView(words.buffer);
  type Field = keyof typeof offsets;
  const time = (i: number, field: Field) => view.getBigInt64(i * size + offsets[field], true);
  const whole = (i: number, field: Field) => view.getInt32(i * size + offsets[field], true);
  let first = count === 0 ? 0n : time(0, 'begin');
  for (let i = 1; i < count; i++) if (time(i, 'begin') < first) first = time(i, 'begin');
  return Array.from({ length: count }, (_, i) => ({
    begin: Number(time(i, 'begin') - first),
    end: Number(time(i, 'end') - first),
    block: whole(i, 'block'),
    role: profileRoles[whole(i, 'role')]!,
    stage: whole(i, 'stage'),
    layer: whole(i, 'layer'),
    phase: profilePhases[whole(i, 'phase')]!,
    position: whole(i, 'position'),
  }));
}
