// How near to what the memory allows: bytes of a token against tokens a second.
import { chart } from '../../page/axes.ts';
import { escaped, figure, legend } from '../../page/html.ts';
import { element, grouped, label, rate, short, ticks } from '../../page/svg.ts';
import type { ReportInput } from '../input.ts';
import type { ColorOf } from './colors.ts';

/** Bytes a token against tokens a second, beside what the bandwidth of the target allows. */
export function roofSection({ kernels }: ReportInput, colorOf: ColorOf): string[] {
  const points = kernels.flatMap(({ model, name, bench }) =>
    (bench ?? { decode: [] }).decode.flatMap(({ tokensPerSecond, gigabytesPerSecond, share }) =>
      share === null
        ? []
        : [
            {
              ...{ model, name, median: tokensPerSecond.median, share },
              megabytes: (1000 * gigabytesPerSecond) / tokensPerSecond.median,
              bandwidth: gigabytesPerSecond / share,
            },
          ],
    ),
  );
  if (points.length === 0) return [];
  // Each machine's line; equal bandwidths differ by rounding alone.
  const bandwidths = [...new Set(points.map(({ bandwidth }) => Math.round(bandwidth)))];
  const best = points.reduce((a, b) => (b.share > a.share ? b : a));
  const draw = (width: number) => {
    const most = Math.max(...points.map(({ megabytes }) => megabytes)) * 1.08;
    const xTicks = ticks(most, width > 600 ? 6 : 4);
    const yTicks = ticks(Math.max(...points.map(({ median }) => median)) * 1.2, 5);
    return chart(
      { width, height: 360, title: 'Roofline: bytes a token and tokens a second' },
      { name: 'MB a token: weights and KV cache', ticks: xTicks },
      { name: 'tok/s', ticks: yTicks },
      ({ x, y }) => [
        ...bandwidths.flatMap((bandwidth) => {
          const first = (1000 * bandwidth) / yTicks.at(-1)!;
          const steps = Array.from({ length: 60 }, (_, i) => first + ((xTicks.at(-1)! - first) * i) / 59);
          const path = steps
            .map((at, i) => `${i ? 'L' : 'M'}${short(x(at))} ${short(y((1000 * bandwidth) / at))}`)
            .join('');
          const named = first + (xTicks.at(-1)! - first) * 0.3;
          return [
            element('path', { d: path, class: 's6', 'stroke-dasharray': '6 4' }),
            label(
              x(named) + 10,
              y((1000 * bandwidth) / named) - 10,
              `${grouped(bandwidth)} GB/s of the target`,
            ),
          ];
        }),
        ...points.map(({ megabytes, median, model, name, share }) =>
          element(
            'circle',
            { cx: x(megabytes), cy: y(median), r: 5, class: `f${colorOf(name)}` },
            element(
              'title',
              {},
              escaped(
                `${model}, ${name}: ${rate(median)} tok/s, ${(100 * share).toFixed(1)} % of the bandwidth`,
              ),
            ),
          ),
        ),
      ],
    );
  };
  const above = best.share > 1 ? ', more than the probe of gen calibrate read' : '';
  const names = [...new Set(points.map(({ name }) => name))];
  return [
    '<h2>What the bandwidth allows</h2>',
    `<p>A token reads the weights once and the keys and values so far. Dashed: as many tokens as the bandwidth of the target has bytes for. The most of it: ${escaped(best.name)} of ${escaped(best.model)}, ${(100 * best.share).toFixed(1)} %${above}.</p>`,
    legend(names.map((name) => [name, colorOf(name)] as const)),
    figure(draw),
  ];
}
