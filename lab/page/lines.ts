// Lines over a quantity, each named where it ends, with whiskers from the least to the most of what was measured.
import { chart, spreadLabels } from './axes.ts';
import { escaped, legend } from './html.ts';
import { element, grouped, label, line, rate, short, ticks, within } from './svg.ts';

interface Point {
  readonly x: number;
  readonly y: number;
  readonly low: number;
  readonly high: number;
}

export interface Series {
  readonly name: string;
  readonly color: number;
  readonly points: readonly Point[];
}

export function lineChart(
  width: number,
  { title, xName, yName, series }: { title: string; xName: string; yName: string; series: readonly Series[] },
): string {
  const wide = width > 600;
  const all = series.flatMap(({ points }) => points);
  const longest = Math.max(...series.map(({ name }) => name.length));
  const xTicks = [...new Set(all.map(({ x }) => x))].sort((a, b) => a - b);
  // Two positions that are near each other share a tick.
  const apart = xTicks.filter((x, i) => i === 0 || x - xTicks[0]! > xTicks.at(-1)! * 0.06);
  const room = wide ? Math.min(280, longest * 7 + 80) : 26;
  return chart(
    { width, height: wide ? 360 : 300, title, room },
    { name: xName, ticks: apart.length > 1 ? apart : [0, ...apart] },
    { name: yName, ticks: ticks(Math.max(...all.map(({ high }) => high)), 5) },
    ({ x, y, right, top, bottom }) => {
      const places = spreadLabels(
        series.map(({ points }) => y(points.at(-1)!.y)),
        top + 6,
        bottom - 4,
      );
      return series.flatMap(({ name, color, points }, i) => {
        const path = points
          .map((point, k) => `${k ? 'L' : 'M'}${short(x(point.x))} ${short(y(point.y))}`)
          .join('');
        const last = points.at(-1)!;
        return [
          element('path', { d: path, class: `s${color}` }),
          ...points.flatMap((point) => [
            line(x(point.x), y(point.low), x(point.x), y(point.high), 'whisker'),
            element(
              'circle',
              { cx: x(point.x), cy: y(point.y), r: 4, class: `f${color}` },
              element(
                'title',
                {},
                escaped(
                  `${name}: ${rate(point.y)} (${rate(point.low)} to ${rate(point.high)}) at ${grouped(point.x)}`,
                ),
              ),
            ),
          ]),
          wide
            ? label(right + 14, places[i]! + 4, `${within(name, room - 80)}  ${rate(last.y)}`, {
                kind: `f${color}`,
              })
            : '',
        ];
      });
    },
  ).concat(wide ? '' : names(series));
}

/** Under a narrow chart: there is no room beside the lines. */
const names = (series: readonly Series[]): string =>
  legend(series.map(({ name, color, points }) => [`${name}: ${rate(points.at(-1)!.y)}`, color] as const));
