// How fast: tokens a second by position and of a prompt, ours and other systems'.
import { type Bar, barChart } from '../../page/bars.ts';
import { escaped, figure, type HtmlCell, htmlTable } from '../../page/html.ts';
import { lineChart, type Series } from '../../page/lines.ts';
import { grouped, rate } from '../../page/svg.ts';
import type { KernelFigures, PeerRow, Range, ReportInput } from '../input.ts';
import type { ColorOf } from './colors.ts';

interface Named {
  readonly name: string;
  readonly tokensPerSecond: Range;
}

/** One model on one machine, everybody's figures. */
interface Place {
  readonly title: string;
  readonly kernels: readonly KernelFigures[];
  readonly peers: readonly PeerRow[];
}

export function speedSections(input: ReportInput, colorOf: ColorOf): string[] {
  return placesOf(input).flatMap(({ title, kernels, peers }) => {
    const series = seriesOf(kernels, peers, colorOf);
    const prefill = prefillBars(kernels, peers, colorOf);
    const missing = peers.filter(({ tokensPerSecond }) => tokensPerSecond === null);
    return [
      `<h2>${escaped(title)}</h2>`,
      ...decodeFigure(title, series),
      ...(prefill.length > 0
        ? ['<h3>Prompt</h3>', figure((width) => barChart(width, `Prompt of ${title}`, prefill))]
        : []),
      figuresTable(kernels, peers),
      ...(missing.length > 0 ? [missingTable(missing)] : []),
    ];
  });
}

/** Lines over the context, or bars where all was measured at one position. */
function decodeFigure(title: string, series: readonly Series[]): string[] {
  const positions = new Set(series.flatMap(({ points }) => points.map(({ x }) => x)));
  if (positions.size === 0) return [];
  if (positions.size === 1) {
    const bars = series.map(({ name, color, points: [point] }) => ({
      name,
      color,
      value: point!.y,
      low: point!.low,
      high: point!.high,
    }));
    bars.sort((a, b) => b.value - a.value);
    return [
      `<h3>Decode, with ${grouped([...positions][0]!)} tokens in the context</h3>`,
      figure((width) => barChart(width, `Decode of ${title}`, bars)),
    ];
  }
  const names = { title: `Decode of ${title}`, xName: 'tokens in the context', yName: 'tok/s' };
  return [
    '<h3>Decode, by tokens in the context</h3>',
    figure(
      (width) => lineChart(width, { ...names, series }),
      'Whiskers: the least and the most of the runs, where they are larger than the points.',
    ),
  ];
}

/** Figures that belong side by side: of one model on one kind of machine. */
function placesOf({ kernels, peers }: ReportInput): Place[] {
  const places = new Map<string, { title: string; kernels: KernelFigures[]; peers: PeerRow[] }>();
  const at = (title: string) => {
    const place = places.get(title) ?? { title, kernels: [], peers: [] };
    places.set(title, place);
    return place;
  };
  for (const kernel of kernels)
    if (kernel.bench) at(`${kernel.model} on ${shortDevice(kernel.bench.device)}`).kernels.push(kernel);
  for (const one of peers) at(`${one.model} on ${shortDevice(one.device)}`).peers.push(...one.rows);
  return [...places.values()];
}

/** Without the number of blocks or threads. */
export const shortDevice = (device: string): string => device.replace(/, \d+ blocks?$/, '');

function seriesOf(kernels: readonly KernelFigures[], peers: readonly PeerRow[], colorOf: ColorOf): Series[] {
  const ours = kernels.flatMap(({ name, bench }) =>
    (bench ?? { decode: [] }).decode.map((figure) => ({ ...figure, name })),
  );
  const theirs = peers.flatMap(({ peer, position, tokensPerSecond }) =>
    position === null || tokensPerSecond === null ? [] : [{ name: peer, position, tokensPerSecond }],
  );
  const all = [...ours, ...theirs];
  return [...new Set(all.map(({ name }) => name))].map((name) => ({
    ...{ name, color: colorOf(name) },
    points: all
      .filter((one) => one.name === name)
      .map(({ position, tokensPerSecond: { median, least, most } }) => ({
        x: position,
        y: median,
        low: least,
        high: most,
      }))
      .sort((a, b) => a.x - b.x),
  }));
}

function prefillBars(kernels: readonly KernelFigures[], peers: readonly PeerRow[], colorOf: ColorOf): Bar[] {
  const ours = kernels.flatMap(({ name, bench }) =>
    bench?.prefill
      ? [{ name, tokens: bench.prefill.tokens, tokensPerSecond: bench.prefill.tokensPerSecond }]
      : [],
  );
  const theirs = peers.flatMap(({ peer, prefill, tokensPerSecond }) =>
    prefill === null || tokensPerSecond === null ? [] : [{ name: peer, tokens: prefill, tokensPerSecond }],
  );
  return [...ours, ...theirs]
    .sort(fastestFirst)
    .map(({ name, tokens, tokensPerSecond: { median, least, most } }) => ({
      ...{
        name,
        value: median,
        low: least,
        high: most,
        color: colorOf(name),
        note: `of ${grouped(tokens)} tokens`,
      },
    }));
}

const fastestFirst = (a: Named, b: Named) => b.tokensPerSecond.median - a.tokensPerSecond.median;

function figuresTable(kernels: readonly KernelFigures[], peers: readonly PeerRow[]): string {
  const range = ({ median, least, most }: Range): HtmlCell[] =>
    [median, least, most].map((value) => ({ number: rate(value) }));
  const ours = kernels.flatMap(({ name, bench }) => {
    const decode = (bench?.decode ?? []).map(
      ({ position, tokensPerSecond, gigabytesPerSecond, share, tokensPerJoule }): HtmlCell[] => [
        ...[name, 'decode', { number: grouped(position) }, ...range(tokensPerSecond)],
        { number: grouped(gigabytesPerSecond, gigabytesPerSecond < 100 ? 1 : 0) },
        share === null ? null : { number: `${(100 * share).toFixed(1)} %` },
        tokensPerJoule === null ? null : { number: tokensPerJoule.toFixed(2) },
      ],
    );
    const prefill = bench?.prefill;
    return prefill
      ? [
          ...decode,
          [
            name,
            'prompt',
            { number: grouped(prefill.tokens) },
            ...range(prefill.tokensPerSecond),
            null,
            null,
            null,
          ],
        ]
      : decode;
  });
  const theirs = peers.flatMap(({ peer, version, position, prefill, tokensPerSecond }): HtmlCell[][] =>
    tokensPerSecond === null
      ? []
      : [
          [
            ...[version ? `${peer} ${version}` : peer, prefill === null ? 'decode' : 'prompt'],
            ...[{ number: grouped(prefill ?? position ?? 0) }, ...range(tokensPerSecond), null, null, null],
          ],
        ],
  );
  return htmlTable(
    [
      ...['', '', { number: 'tokens' }, { number: 'tok/s' }, { number: 'least' }, { number: 'most' }],
      ...[{ number: 'GB/s' }, { number: 'of bandwidth' }, { number: 'tok/J' }],
    ],
    [...ours, ...theirs],
  );
}

const missingTable = (rows: readonly PeerRow[]): string =>
  htmlTable(
    ['not measured', { wrap: 'why' }],
    rows.map(({ peer, version, why }) => [
      version ? `${peer} ${version}` : peer,
      { wrap: why ?? 'no reason was given' },
    ]),
  );
