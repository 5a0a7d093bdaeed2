// Bars from zero on, each with its name, its value and the range of what was measured.
import { drawing, element, label, line, rate, scale, ticks, within } from './svg.ts';

export interface Bar {
  readonly name: string;
  readonly value: number;
  readonly low: number;
  readonly high: number;
  readonly color: number;
  /** Behind the value. */
  readonly note?: string;
}

const row = 26;

/** Tokens a second, in the order given. */
export function barChart(width: number, title: string, bars: readonly Bar[]): string {
  const wide = width > 600;
  // A long name has a line of its own where there is no room in front of the bar.
  const left = wide ? Math.min(560, Math.max(...bars.map(({ name }) => name.length)) * 7 + 14) : 4;
  const height = wide ? row : row + 16;
  const room = Math.max(...bars.map(({ note = '' }) => note.length)) * 6.4 + 64;
  const marks = ticks(Math.max(...bars.map(({ high }) => high)), wide ? 6 : 3);
  const x = scale(0, marks.at(-1)!, left, width - room);
  const bottom = bars.length * height + 4;
  const drawn = bars.flatMap(({ name, value, low, high, color, note }, i) => {
    const y = i * height + (wide ? 4 : 20);
    return [
      wide
        ? label(left - 8, y + 13, within(name, left - 12), { anchor: 'end', kind: '' })
        : label(left, y - 4, name, { kind: '' }),
      element('rect', { x: left, y, width: Math.max(1, x(value) - left), height: 18, class: `f${color}` }),
      whisker(x(low), x(high), y + 9),
      label(Math.max(x(value), x(high)) + 8, y + 13, [rate(value), note].filter(Boolean).join('  '), {
        kind: '',
      }),
    ];
  });
  const axis = marks.flatMap((mark) => [
    line(x(mark), 0, x(mark), bottom, 'grid'),
    label(x(mark), bottom + 16, rateTick(mark), { anchor: mark === 0 ? 'start' : 'middle' }),
  ]);
  return drawing(width, bottom + 36, title, [
    ...axis,
    ...drawn,
    label((left + width - room) / 2, bottom + 32, 'tok/s', { anchor: 'middle' }),
  ]);
}

const rateTick = (mark: number): string => mark.toLocaleString('en-US');

/** A line from end to end with small stops. */
export const whisker = (from: number, to: number, y: number): string =>
  to - from < 1.5
    ? ''
    : [
        line(from, y, to, y, 'whisker'),
        line(from, y - 4, from, y + 4, 'whisker'),
        line(to, y - 4, to, y + 4, 'whisker'),
      ].join('');
