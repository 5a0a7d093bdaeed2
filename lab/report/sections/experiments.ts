// Experiments: every variant beside the plan that it was tried against, as it was timed and as it was predicted.
import { modelText } from '../../journal-format.ts';
import { type Bar, barChart } from '../../page/bars.ts';
import { escaped, figure, type HtmlCell, htmlTable } from '../../page/html.ts';
import { intervalChart } from '../../page/intervals.ts';
import { grouped, rate } from '../../page/svg.ts';
import { finalText } from '../../ranking.ts';
import type { Verdict } from '../../verdict.ts';
import type { Experiment, VariantRow } from '../input.ts';

/** Numbers of the page's colours. */
const verdictColors: Readonly<Record<Verdict, number>> = { better: 2, worse: 1, equal: 0, unsure: 5 };

/** More would not be read as a drawing; the table has them all. */
const mostDrawn = 40;

export const experimentSections = (experiments: readonly Experiment[]): string[] =>
  experiments.flatMap(section);

function section({ header, rows, runs }: Experiment): string[] {
  const timed = rows.filter(({ state }) => state === 'timed');
  const drawn = timed.slice(0, mostDrawn);
  const others = drawn.filter(({ ratio }) => ratio !== null);
  const position = header.positions[0]!;
  const what = header.command === 'ablate' ? 'What each choice is worth' : 'Variants';
  const device = runs.findLast((run) => run.device !== null)?.device ?? header.target;
  const title = `${what}: ${modelText(header)}, ${header.plan} on ${device}`;
  const final = finalText(rows);
  return [
    `<h2>${escaped(title)}</h2>`,
    `<p>${escaped([summary(rows), ...(timed.length > 0 ? [howTimed(header)] : []), ...(final === null ? [] : [`Places ${final}.`])].join(' '))}</p>`,
    ...(others.length > 0
      ? [
          `<h3>Beside ${escaped(header.plan)}</h3>`,
          figure(
            (width) =>
              intervalChart(
                width,
                `Ratios to ${header.plan}`,
                `tok/s, in times that of ${header.plan}`,
                others.map((row) => ({
                  ...nameAnd(row, header.plan),
                  ...row.ratio!,
                  color: verdictColors[row.verdict!],
                  note: noteOf(row),
                })),
              ),
            'The point is the median of the rounds, the whisker the interval in which the true median lies with 95 %, or all rounds where they are few. Left of the line: slower.',
          ),
        ]
      : []),
    ...(drawn.length > 0
      ? [
          `<h3>Tokens a second at position ${grouped(position)}</h3>`,
          figure((width) => barChart(width, `Variants at position ${position}`, barsOf(drawn, header.plan))),
        ]
      : []),
    variantTable(rows, header.positions),
  ];
}

/** At the first position, the fastest first. */
const barsOf = (rows: readonly VariantRow[], plan: string): Bar[] =>
  rows
    .flatMap((row): Bar[] => {
      const range = row.ranges[0] ?? null;
      if (range === null) return [];
      const color = row.isBase ? 6 : verdictColors[row.verdict ?? 'unsure'];
      return [{ ...nameAnd(row, plan), value: range.median, low: range.least, high: range.most, color }];
    })
    .sort((a, b) => b.value - a.value);

/** Without what all have in common: the name of the plan that was varied. */
const nameAnd = ({ label, isBase }: VariantRow, plan: string): { readonly name: string } => ({
  name: !isBase && label.startsWith(`${plan}+`) ? label.slice(plan.length) : label,
});

const noteOf = ({ ratio, verdict }: VariantRow): string => `${ratio!.median.toFixed(3)} ${verdict}`;

/** What can be said of what was timed. */
const howTimed = ({ plan, tokens }: Experiment['header']): string =>
  `Each was verified before it was timed, ${tokens} tokens a run, in turns with ${plan}; a ratio is of two runs of the same round.`;

function summary(rows: readonly VariantRow[]): string {
  const count = (state: VariantRow['state']) => rows.filter((row) => row.state === state).length;
  const parts = (['timed', 'pruned', 'refused', 'wrong', 'unrepeatable'] as const)
    .filter((state) => count(state) > 0)
    .map((state) => `${count(state)} ${state}`);
  if (count('timed') === 0) parts.unshift('none timed yet');
  return `${rows.length} variants: ${parts.join(', ')}.`;
}

function variantTable(rows: readonly VariantRow[], positions: readonly number[]): string {
  const base = rows.find(({ isBase }) => isBase);
  return htmlTable(
    [
      ...[{ number: '#' }, { wrap: 'variant' }],
      ...positions.map((position) => ({ number: `tok/s at ${grouped(position)}` })),
      ...[{ number: 'ratio' }, { number: 'interval' }, 'verdict', { number: 'predicted' }],
      ...[{ number: 'spread' }, 'tokens', { number: 'registers' }],
    ],
    rows.map((row): HtmlCell[] => [
      row.rank === null ? null : { number: String(row.rank) },
      { wrap: row.why === null ? row.label : `${row.label}: ${row.state}, ${row.why}` },
      ...row.rates.map((value) => (value === null ? null : { number: rate(value) })),
      row.ratio ? { number: row.ratio.median.toFixed(3) } : null,
      row.ratio ? { number: `${row.ratio.low.toFixed(3)} to ${row.ratio.high.toFixed(3)}` } : null,
      row.isBase ? 'the incumbent' : (row.verdict ?? row.state),
      row.predictedRatio === null ? null : { number: row.predictedRatio.toFixed(3) },
      row.ratio ? { number: `${(100 * row.ratio.spread).toFixed(1)} %` } : null,
      tokensOf(row, base),
      row.registers === null
        ? null
        : {
            number: row.spillBytes ? `${row.registers}, ${row.spillBytes} B spilled` : String(row.registers),
          },
    ]),
  );
}

/** Whether it made the tokens of the incumbent: other roundings make others, where two tokens are nearly as likely. */
function tokensOf(row: VariantRow, base: VariantRow | undefined): string | null {
  if (row.hashes.every((hash) => hash === null)) return null;
  if (row.isBase) return row.hashes.find((hash) => hash !== null) ?? null;
  return row.hashes.every((hash, i) => hash === base?.hashes[i]) ? 'the same' : 'others';
}
