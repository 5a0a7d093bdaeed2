// A profile as a trace that Perfetto and chrome://tracing open: blocks as processes, roles as threads, exchanges as flows.
import type { Schedule } from '../../codegen/schemes/index.ts';
import { type Phase, profileRoles, type Role, type TrackEvent } from '../../runtime/engine/profile-events.ts';
import { flowsOf } from './flows.ts';
import { mainRole } from './summary.ts';
import { type Visit, visitsOf } from './visits.ts';

/** The Trace Event Format: times in microseconds. */
export interface TraceEvent {
  /** X: a slice, M: a name, s and f: where a flow begins and ends. */
  readonly ph: 'X' | 'M' | 's' | 'f';
  readonly name: string;
  readonly pid: number;
  readonly tid: number;
  readonly ts?: number;
  readonly dur?: number;
  readonly cat?: string;
  readonly id?: number;
  readonly bp?: 'e';
  readonly args?: Readonly<Record<string, string | number>>;
}

export const phaseNames: Readonly<Record<Phase, string>> = {
  weights: 'waits for weights',
  others: 'waits for others',
  compute: 'computes',
  meet: 'waits for its warps',
  publish: 'stores',
};

/** The same in a launch of a prompt. */
export const launchPhaseNames: Readonly<Record<Phase, string>> = {
  ...phaseNames,
  weights: 'first operands',
  others: 'waits at barrier',
  meet: 'own warps',
  publish: 'makes results',
};

const roleNames: Readonly<Record<Role, string>> = {
  block: 'block',
  first: 'first computing warp',
  last: 'last computing warp',
  producer: 'producer',
  publisher: 'publisher',
};

/** @param events of the blocks and passes that are shown */
export function traceOf(
  schedule: Schedule,
  events: readonly TrackEvent[],
  names: Readonly<Record<Phase, string>> = phaseNames,
): TraceEvent[] {
  const tid = (role: Role) => profileRoles.indexOf(role);
  const place = (event: TrackEvent) => ({ pid: event.block, tid: tid(event.role) });
  const slice = (visit: Visit): TraceEvent[] => {
    const { name } = schedule.stages[visit.stage]!;
    const inside = visit.layer < schedule.dims.layers;
    const first = visit.events[0]!;
    const outer: TraceEvent = {
      ...{ ph: 'X', name: inside ? `${name} ${visit.layer}` : name, cat: 'stage', ...place(first) },
      ...{ ts: visit.begin / 1000, dur: (visit.end - visit.begin) / 1000 },
      args: { stage: name, position: visit.position, ...(inside ? { layer: visit.layer } : {}) },
    };
    const phases = visit.events.map(
      (event): TraceEvent => ({
        ...{ ph: 'X', name: names[event.phase], cat: 'phase', ...place(event) },
        ...{ ts: event.begin / 1000, dur: (event.end - event.begin) / 1000 },
      }),
    );
    return [outer, ...phases];
  };
  const main = mainRole(events);
  const flows = flowsOf(
    schedule,
    events.filter((event) => event.role === main),
  );
  return [
    ...trackNames(events, tid),
    ...visitsOf(events).flatMap(slice),
    ...flows.flatMap(({ name, from, to }, id): TraceEvent[] => [
      // Inside of the slices, which a flow is bound to.
      { ph: 's', name, cat: 'exchange', id, ...place(from), ts: (from.begin + from.end) / 2000 },
      {
        ph: 'f',
        bp: 'e',
        name,
        cat: 'exchange',
        id,
        ...place(to),
        ts: Math.min(Math.max(from.end, to.begin), to.end) / 1000,
      },
    ]),
  ];
}

function trackNames(events: readonly TrackEvent[], tid: (role: Role) => number): TraceEvent[] {
  const blocks = [...new Set(events.map((event) => event.block))].sort((a, b) => a - b);
  const roles = profileRoles.filter((role) => events.some((event) => event.role === role));
  return blocks.flatMap((pid): TraceEvent[] => [
    { ph: 'M', name: 'process_name', pid, tid: 0, args: { name: `block ${pid}` } },
    { ph: 'M', name: 'process_sort_index', pid, tid: 0, args: { sort_index: pid } },
    ...roles.map(
      (role): TraceEvent => ({
        ph: 'M',
        name: 'thread_name',
        pid,
        tid: tid(role),
        args: { name: roleNames[role] },
      }),
    ),
  ]);
}

/** The whole file. */
export const traceFile = (events: readonly TraceEvent[], about: Readonly<Record<string, string>>): string =>
  `{"displayTimeUnit":"ns","otherData":${JSON.stringify(about)},"traceEvents":[\n${events
    .map((event) => JSON.stringify(event))
    .join(',\n')}\n]}\n`;
