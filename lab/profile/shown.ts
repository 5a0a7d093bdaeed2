// Which blocks and passes of a profile are drawn: all of them would be too many to look at.
import type { TrackEvent } from '../../runtime/engine/profile-events.ts';

/** Events of so many blocks, spread evenly over all. */
export function shownEvents(events: readonly TrackEvent[], count: number): readonly TrackEvent[] {
  const blocks = [...new Set(events.map((event) => event.block))].sort((a, b) => a - b);
  const wanted = Math.min(count, blocks.length);
  const chosen = new Set(
    Array.from({ length: wanted }, (_, i) => blocks[Math.floor((i * blocks.length) / wanted)]),
  );
  return events.filter((event) => chosen.has(event.block));
}

/** Events of the pass in the middle: the first ones may still warm up. */
export function onePass(events: readonly TrackEvent[]): readonly TrackEvent[] {
  const positions = [...new Set(events.map((event) => event.position))].sort((a, b) => a - b);
  const middle = positions[positions.length >> 1];
  return events.filter((event) => event.position === middle);
}
