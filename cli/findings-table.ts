// The outcome of an experiment as a table, for a terminal or for Markdown, and as JSON.
import type { Finding } from '../lab/findings.ts';
import type { JournalHeader } from '../lab/journal-records.ts';
import { finalText, type RankedRow, ranked } from '../lab/ranking.ts';
import { oneLine } from './printable.ts';
import { type Cell, cellText, fixed, table, type Ui } from './ui.ts';

type Header = Pick<JournalHeader, 'command' | 'positions' | 'plan' | 'rounds'>;

/** Rows in the order in which they are shown: best first; of an ablation as they were listed. */
export function rowsOf(
  findings: readonly Finding[],
  { command }: Pick<Header, 'command'>,
): readonly RankedRow[] {
  const rows = ranked(findings);
  if (command === 'explore') return rows;
  return findings.map(({ variant }) => rows.find(({ id }) => id === variant.id)!);
}

/** Prints a table of findings. @param markdown for a document, in the place of columns: copied as it is */
export function showFindings(
  ui: Ui,
  findings: readonly Finding[],
  header: Header,
  markdown: boolean | undefined,
): void {
  const text = findingsTable(findings, header, markdown);
  if (markdown) ui.code(text);
  else ui.data(text);
}

export function findingsTable(findings: readonly Finding[], header: Header, markdown = false): string {
  const rows = rowsOf(findings, header);
  const { positions, plan } = header;
  const hasPrediction = rows.some(({ predictedRatio }) => predictedRatio !== null);
  const head = [
    ...(header.command === 'explore' ? ['', 'variant'] : ['variant']),
    ...positions.map((position) => `tok/s at ${position}`),
    ...[
      'ratio',
      'interval',
      'spread',
      ...(hasPrediction ? ['predicted'] : []),
      'verdict',
      'rounds',
      'tokens',
    ],
  ];
  const cells = rows.map((row): Cell[] => [
    ...(header.command === 'explore' ? [rankText(row), row.label] : [row.label]),
    ...row.rates.map((rate) => fixed(rate, 1)),
    row.isBase ? (row.rank === null ? null : '1') : fixed(row.ratio?.median ?? null, 3),
    row.ratio ? `${row.ratio.low.toFixed(3)}-${row.ratio.high.toFixed(3)}` : null,
    row.ratio ? `${(100 * row.ratio.spread).toFixed(1)} %` : null,
    ...(hasPrediction ? [fixed(row.predictedRatio, 3)] : []),
    verdictText(row),
    row.rounds || null,
    row.hashes.every((hash) => hash === null)
      ? null
      : row.hashes.map((hash) => hash?.slice(0, 6) ?? '-').join(' '),
  ]);
  const final = header.command === 'explore' ? finalText(rows) : null;
  const whys = rows.flatMap(({ label, why }) => (why === null ? [] : [`${oneLine(label)}: ${why}`]));
  return [
    markdown ? markdownTable(head, cells) : table(head, cells),
    '',
    `ratio: tokens a second beside ${oneLine(plan)} in the same round, median; ${basisOf(rows)}`,
    ...(header.command === 'explore' && rows.some((row) => rankText(row)?.endsWith('=1'))
      ? [`=1: ${whyEqual(rows)}, so that either may be faster`]
      : []),
    ...(final === null ? [] : [final]),
    ...whys,
  ].join('\n');
}

function whyEqual([best, ...others]: readonly RankedRow[]): string {
  if (best?.verdict === 'unsure') return 'the best has too few rounds';
  const isUnsure = others.some(({ verdict }) => verdict === 'unsure');
  return `its interval overlaps that of the best${isUnsure ? ', or it has too few rounds' : ''}`;
}

const rankText = ({ rank, equalsBest }: RankedRow): string | null => {
  if (rank === null) return null;
  return equalsBest && rank > 1 ? `${rank} =1` : String(rank);
};

const verdictText = ({ isBase, verdict, state }: RankedRow): string =>
  isBase && state === 'timed' ? 'incumbent' : (verdict ?? state);

/** How sure the intervals are. */
function basisOf(rows: readonly RankedRow[]): string {
  const coverages = rows.flatMap(({ ratio }) => (ratio ? [ratio.coverage] : []));
  if (coverages.length === 0) return 'nothing was timed yet';
  const [least, most] = [Math.min(...coverages), Math.max(...coverages)].map((one) => (100 * one).toFixed(0));
  return `the true one is in the interval with ${least === most ? least : `${least} to ${most}`} %`;
}

const markdownTable = (head: readonly string[], rows: readonly (readonly Cell[])[]): string =>
  [head, head.map(() => '---'), ...rows]
    .map((row) => `| ${row.map((cell) => cellText(cell).replaceAll('|', '\\|')).join(' | ')} |`)
    .join('\n');
