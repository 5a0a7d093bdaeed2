// Events that belong together: a track's visit to a stage, in one layer of one pass.
import type { TrackEvent } from '../../runtime/engine/profile-events.ts';

export interface Visit
  extends Pick<TrackEvent, 'block' | 'role' | 'stage' | 'layer' | 'position' | 'begin' | 'end'> {
  readonly events: readonly TrackEvent[];
}

/** @param events track by track, in the order of time */
export function visitsOf(events: readonly TrackEvent[]): Visit[] {
  const groups: TrackEvent[][] = [];
  for (const event of events) {
    const group = groups.at(-1);
    if (group && together(group[0]!, event)) group.push(event);
    else groups.push([event]);
  }
  return groups.map((group) => {
    const { block, role, stage, layer, position, begin } = group[0]!;
    return { block, role, stage, layer, position, begin, end: group.at(-1)!.end, events: group };
  });
}

const together = (a: TrackEvent, b: TrackEvent): boolean =>
  a.block === b.block &&
  a.role === b.role &&
  a.stage === b.stage &&
  a.layer === b.layer &&
  a.position === b.position;
