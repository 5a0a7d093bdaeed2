// Ratios to one thing, each a point in its interval, around a line at 1.
import { whisker } from './bars.ts';
import { drawing, element, label, line, scale, within } from './svg.ts';

export interface IntervalRow {
  readonly name: string;
  readonly median: number;
  readonly low: number;
  readonly high: number;
  readonly color: number;
  readonly note: string;
}

const row = 26;

export function intervalChart(
  width: number,
  title: string,
  unit: string,
  rows: readonly IntervalRow[],
): string {
  const wide = width > 600;
  const height = wide ? row : row + 16;
  const left = wide ? Math.min(560, Math.max(...rows.map(({ name }) => name.length)) * 7 + 14) : 4;
  const room = wide ? Math.max(...rows.map(({ note }) => note.length)) * 6.6 + 20 : 26;
  const least = Math.min(1, ...rows.map(({ low }) => low));
  const most = Math.max(1, ...rows.map(({ high }) => high));
  const marks = around(least, most, wide ? 7 : 4);
  const x = scale(marks[0]!, marks.at(-1)!, left + 8, width - room);
  const bottom = rows.length * height + 4;
  const digits = marks[1]! - marks[0]! < 0.1 ? 2 : 1;
  const axis = marks.flatMap((mark) => [
    line(x(mark), 0, x(mark), bottom, 'grid'),
    label(x(mark), bottom + 16, mark.toFixed(digits), { anchor: 'middle' }),
  ]);
  const drawn = rows.flatMap(({ name, median, low, high, color, note }, i) => {
    const y = i * height + (wide ? 13 : 28);
    return [
      wide
        ? label(left - 8, y + 4, within(name, left - 12), { anchor: 'end', kind: '' })
        : label(left, y - 12, `${name}: ${note}`, { kind: '' }),
      whisker(x(low), x(high), y),
      element('circle', { cx: x(median), cy: y, r: 5, class: `f${color}` }),
      wide ? label(width - room + 14, y + 4, note) : '',
    ];
  });
  return drawing(width, bottom + 36, title, [
    ...axis,
    line(x(1), 0, x(1), bottom, 'axis'),
    ...drawn,
    label((left + width - room) / 2, bottom + 32, unit, { anchor: 'middle' }),
  ]);
}

/** Round numbers that least and most lie between. */
function around(least: number, most: number, wanted: number): readonly number[] {
  const rough = Math.max(most - least, 0.02) / wanted;
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 5, 10].map((factor) => factor * power).find((candidate) => candidate >= rough)!;
  const first = Math.floor(least / step + 1e-9);
  const last = Math.ceil(most / step - 1e-9);
  return Array.from({ length: last - first + 1 }, (_, i) => Number(((first + i) * step).toPrecision(12)));
}
