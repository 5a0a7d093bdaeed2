// What was predicted, beside what was measured.
import { chart } from '../../page/axes.ts';
import { escaped, figure, htmlTable } from '../../page/html.ts';
import { element, grouped, line, rate, short, ticks } from '../../page/svg.ts';
import { offBy, type Predicted, within } from '../predict.ts';

/** What a prediction should hold within. */
const wanted = 0.15;
/** Rows of the table: the worst come first. */
const mostRows = 30;

export function predictionSection(list: readonly Predicted[]): string[] {
  if (list.length === 0) return [];
  const good = within(list, wanted);
  const worst = [...list].sort((a, b) => offBy(b) - offBy(a)).slice(0, mostRows);
  return [
    '<h2>Predicted and measured</h2>',
    `<p>${good} of ${list.length} predictions are within ${100 * wanted} % of what was measured: inside the band. On the line they agree; above it the kernel was faster than predicted.</p>`,
    figure((width) => scatter(width, list)),
    htmlTable(
      [
        { wrap: 'furthest first' },
        { number: 'position' },
        { number: 'predicted' },
        { number: 'measured' },
        { number: 'off by' },
      ],
      worst.map((one) => [
        ...[
          { wrap: one.name },
          { number: grouped(one.position) },
          { number: rate(one.predicted) },
          { number: rate(one.measured.median) },
        ],
        {
          number: `${one.predicted < one.measured.median ? '−' : '+'}${(100 * offBy(one)).toFixed(1)} %`,
        },
      ]),
    ),
  ];
}

function scatter(width: number, list: readonly Predicted[]): string {
  const most = Math.max(...list.flatMap(({ predicted, measured }) => [predicted, measured.most]));
  const marks = ticks(most, width > 600 ? 6 : 3);
  const top = marks.at(-1)!;
  const size = {
    width: Math.min(width, 640),
    height: Math.min(width, 640) * 0.8,
    title: 'Predicted and measured tokens a second',
  };
  return chart(
    size,
    { name: 'predicted tok/s', ticks: marks },
    { name: 'measured tok/s', ticks: marks },
    ({ x, y }) => {
      const corner = (px: number, py: number) => `${short(x(px))} ${short(y(py))}`;
      // Predicted within the share of what was measured: p / (1 + s) to p / (1 - s).
      const [low, high] = [top / (1 + wanted), top * (1 - wanted)];
      const band = `M${corner(0, 0)}L${corner(top, low)}L${corner(top, top)}L${corner(high, top)}z`;
      return [
        element('path', { d: band, class: 'f6', 'fill-opacity': '0.16' }),
        line(x(0), y(0), x(top), y(top), 'axis'),
        ...list.flatMap(({ name, position, predicted, measured }) => [
          line(x(predicted), y(measured.least), x(predicted), y(measured.most), 'whisker'),
          element(
            'circle',
            { cx: x(predicted), cy: y(measured.median), r: 4.5, class: 'f0', 'fill-opacity': '0.8' },
            element(
              'title',
              {},
              escaped(
                `${name} at ${position}: ${rate(predicted)} predicted, ${rate(measured.median)} measured`,
              ),
            ),
          ),
        ]),
      ];
    },
  );
}
