// The schedule as a table, for people.
import { needArguments, needSchedule } from '../given.ts';
import { kindsText } from '../model/kinds.ts';
import { formatsText } from '../model/weights.ts';
import { megabytes } from './bytes-text.ts';
import { type Cost, runsOf, type StageCost, syncText } from './cost.ts';
import type { CommonSchedule } from './schedule.ts';

const headerOf = ({ per }: Pick<Cost, 'per'>): readonly string[] => [
  'stage',
  'ops (* made by every block)',
  'over',
  `MB a ${per}`,
  'us of reads',
  'us of waits',
  'us of work',
  'then',
];
/** Of MB, the first column of numbers; the last one is text again. */
const firstNumber = 3;

/** Stages, what they read and wait for at one position, and the syncs with their reasons; notes under their stage. */
export function explainTable(schedule: CommonSchedule, cost: Cost): string {
  needSchedule(schedule);
  needArguments('explainTable', cost, 'schedule, estimate(schedule)', 'stages');
  const { dims, plan, target } = schedule;
  const kinds = kindsText(dims);
  const tokens = schedule.passTokens === 1 ? '1 token' : `up to ${schedule.passTokens} tokens`;
  const rows = cost.stages.flatMap((stage) => stageRows(stage, runsOf(schedule, stage)));
  const read = cost.stages.reduce(
    (sum, stage) => sum + (stage.weightBytes + stage.cacheBytes) * runsOf(schedule, stage),
    0,
  );
  const total = [
    'total',
    '',
    '',
    megabytes(read),
    cost.readMicros?.toFixed(1) ?? '',
    ...[cost.waitMicros, cost.workMicros].map((micros) => (cost.readMicros === null ? '' : shown(micros))),
    `${cost.syncsPerToken} ${cost.syncName} a ${cost.per}`,
  ];
  return [
    `${dims.name} on ${target.name}, plan ${plan.name}: ${dims.layers} layers, ${dims.weights || dims.cache ? `${formatsText(dims)}, ` : ''}${tokens} a ${cost.per === 'launch' ? 'launch' : 'pass'}`,
    ...(kinds ? [kinds] : []),
    '',
    ...aligned([headerOf(cost), ...rows, total]),
    '',
    ...(cost.lines.length > 0 ? [...cost.lines, ''] : []),
    `${cost.basis}; every position before${kinds && ', where all layers see it,'} adds ${(cost.bytes.kvPerPosition / 1e3).toFixed(1)} kB of KV cache to read`,
  ].join('\n');
}

function stageRows(stage: StageCost, runs: number): string[][] {
  const read = (stage.weightBytes + stage.cacheBytes) * runs;
  const others = [stage.waitMicros, stage.workMicros].map((micros) =>
    stage.micros === null ? '' : shown(micros * runs),
  );
  const [first, ...more] = stage.syncs.map(syncText);
  return [
    [
      stage.name,
      stage.ops.join(' '),
      stage.over,
      read > 0 ? megabytes(read) : '',
      stage.micros === null || read === 0 ? '' : (stage.micros * runs).toFixed(1),
      ...others,
      first ?? '',
    ],
    ...more.map((text) => ['', '', '', '', '', '', '', text]),
    ...stage.notes.map(({ where, text }) => ['', where && `  ${where}`, '', '', '', '', '', text]),
  ];
}

const shown = (micros: number): string => (micros >= 0.05 ? micros.toFixed(1) : '');

/** Columns of one width, numbers to the right. */
function aligned(rows: readonly (readonly string[])[]): string[] {
  const header = rows[0]!;
  const isNumber = (c: number) => c >= firstNumber && c < header.length - 1;
  const widths = header.map((_, c) => Math.max(...rows.map((row) => row[c]!.length)));
  return rows.map((cells) =>
    cells
      .map((cell, c) => (isNumber(c) ? cell.padStart(widths[c]!) : cell.padEnd(widths[c]!)))
      .join('  ')
      .trimEnd(),
  );
}
