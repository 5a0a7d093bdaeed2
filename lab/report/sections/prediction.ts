// What was predicted, beside what was measured.
import { chart } from '../../page/axes.ts';
import { escaped, figure, htmlTable } from '../../page/html.ts';
import { element, grouped, line, rate, short, ticks } from '../../page/svg.ts';
import type { Order } from '../order.ts';
import { offBy, type Predicted, wanted, within } from '../predict.ts';

/** Rows of the table: the worst come first. */
const mostRows = 30;

export function predictionSection(list: readonly Predicted[], orders: readonly Order[]): string[] {
  if (list.length === 0) return [];
  const good = within(list, wanted);
  const worst = [...list].sort((a, b) => offBy(b) - offBy(a)).slice(0, mostRows);
  return [
    '<h2>Predicted and measured</h2>',
    `<p>${good} of ${list.length} predictions are within ${100 * wanted} % of what was measured: inside the band. On the line they agree; above it the kernel was faster than predicted.</p>`,
    figure((width) => scatter(width, list)),
    ...sharesTable(list),
    ...orders.map((order) => `<p>${escaped(orderText(order))}</p>`),
    htmlTable(
      [
        { wrap: 'furthest first' },
        { number: 'position' },
        { number: 'predicted' },
        { number: 'measured' },
        { number: 'off by' },
        { wrap: 'parts most from the incumbent in' },
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
        {
          wrap:
            one.spillBytes > 0 ? `it spills ${one.spillBytes} B, which no term counts` : (one.parting ?? ''),
        },
      ]),
    ),
  ];
}

/** How many predictions hold, by scheme and position. */
function sharesTable(list: readonly Predicted[]): string[] {
  const known = list.filter(({ scheme }) => scheme !== null);
  const schemes = [...new Set(known.map(({ scheme }) => scheme!))].sort();
  const positions = [...new Set(known.map(({ position }) => position))].sort((a, b) => a - b);
  if (schemes.length === 0) return [];
  return [
    htmlTable(
      [
        { wrap: `within ${100 * wanted} %` },
        ...positions.map((position) => ({ number: `at ${grouped(position)}` })),
      ],
      schemes.map((scheme) => [
        { wrap: scheme },
        ...positions.map((position) => {
          const cell = known.filter((one) => one.scheme === scheme && one.position === position);
          return { number: cell.length === 0 ? '' : `${within(cell, wanted)} of ${cell.length}` };
        }),
      ]),
    ),
  ];
}

/** In words: how the predictions of an experiment rank. */
export function orderText({ plan, variants, spilling, firstPlaces, pairs, tau }: Order): string {
  const left = spilling.length === 0 ? '' : `; left out, since they spill: ${spilling.join(', ')}`;
  if (tau === null) return `${variants} variants of ${plan}: no two were told apart by their rounds${left}`;
  return `${variants} variants of ${plan}: the fastest ${firstPlaces.length} measured are predicted at the places ${firstPlaces.join(', ')}; of ${grouped(pairs.all)} pairs that differ ${grouped(pairs.right)} are in the right order, Kendall's tau ${tau.toFixed(2)}${left}`;
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
