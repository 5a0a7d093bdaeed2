// The tracks of a profile drawn over time: a bar for each phase, a row for each track.
import type { Phase, TrackEvent } from '../../runtime/engine/profile-events.ts';
import { drawing, element, label, line, scale, short, ticks } from '../page/svg.ts';
import { phases } from './summary.ts';

/** Numbers of the page's colours. */
export const phaseColors: Readonly<Record<Phase, number>> = {
  weights: 1,
  others: 6,
  compute: 0,
  meet: 3,
  publish: 2,
};

/** A name over a stretch of time [ns]. */
export interface Span {
  readonly name: string;
  readonly begin: number;
  readonly end: number;
}

const row = 13;
const bar = 11;
const top = 34;

/**
 * @param window [ns] what is drawn; times are told from its begin on
 * @param spans names above the tracks, such as layers or stages
 */
export function timeline(
  width: number,
  title: string,
  events: readonly TrackEvent[],
  window: { readonly begin: number; readonly end: number },
  spans: readonly Span[],
): string {
  const tracks = [...new Set(events.map(trackOf))];
  const named = width > 600;
  const left = named ? 124 : 44;
  const x = scale(window.begin, window.end, left, width - 8);
  const bottom = top + tracks.length * row;
  const micros = (window.end - window.begin) / 1000;
  const rows = tracks.map((track, i) =>
    label(left - 6, top + i * row + bar - 2, nameOf(track, named), { anchor: 'end' }),
  );
  const borders = spans.flatMap((span) => {
    const [from, to] = [x(span.begin), x(span.end)];
    const fits = to - from > span.name.length * 6.2;
    return [
      line(from, top - 12, from, bottom, 'grid'),
      fits ? label((from + to) / 2, top - 6, span.name, { anchor: 'middle' }) : '',
    ];
  });
  const axis = ticks(micros, named ? 8 : 4)
    .filter((tick) => tick <= micros)
    .flatMap((tick) => {
      const at = x(window.begin + tick * 1000);
      return [
        line(at, bottom, at, bottom + 4, 'axis'),
        label(at, bottom + 17, `${short(tick)}${tick === 0 ? ' µs' : ''}`, {
          anchor: tick === 0 ? 'start' : 'middle',
        }),
      ];
    });
  return drawing(width, bottom + 24, title, [
    ...borders,
    ...phases.map((phase) => bars(phase, events, tracks, window, x)),
    ...rows,
    line(left, bottom, width - 8, bottom, 'axis'),
    ...axis,
  ]);
}

const trackOf = ({ block, role }: TrackEvent): string => `${block} ${role}`;

const nameOf = (track: string, named: boolean): string => {
  const [block, role] = track.split(' ');
  return role === 'block' || !named ? `${named ? 'block ' : ''}${block}` : `${block} ${role}`;
};

/** All bars of a phase as one path: a page of thousands of elements would be slow. */
function bars(
  phase: Phase,
  events: readonly TrackEvent[],
  tracks: readonly string[],
  window: { readonly begin: number; readonly end: number },
  x: (value: number) => number,
): string {
  const path = events
    .filter((event) => event.phase === phase && event.end > window.begin && event.begin < window.end)
    .map((event) => {
      const from = x(Math.max(event.begin, window.begin));
      const to = x(Math.min(event.end, window.end));
      const y = top + tracks.indexOf(trackOf(event)) * row;
      return `M${short(from)} ${y}h${short(Math.max(0.2, to - from))}v${bar}h${short(-Math.max(0.2, to - from))}z`;
    })
    .join('');
  return element('path', { d: path, class: `f${phaseColors[phase]}` });
}
