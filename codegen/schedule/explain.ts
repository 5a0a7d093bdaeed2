// The schedule as a table, for people.

import { streamLines, streamSpeed } from '../schemes/stream/explain.ts';
import { megabytes } from './bytes-text.ts';
import type { Cost, StageCost } from './estimate.ts';
import type { Schedule } from './schedule.ts';

const header = ['stage', 'ops (* made by every block)', 'over', 'MB a token', 'us a token', 'then'];
const streamHeader = header.toSpliced(4, 1, 'us of stream', 'us of chain');

/** Stages, what they read and need for one token at position 0, and the syncs with their reasons; the block syncs under their stage. */
export function explainTable(schedule: Schedule, cost: Cost): string {
  const { dims, plan, target } = schedule;
  const runs = (stage: StageCost) => (stage.part === 'layer' ? dims.layers : 1);
  const tokens = schedule.passTokens === 1 ? '1 token' : `up to ${schedule.passTokens} tokens`;
  const rows = cost.stages.flatMap((stage) => [
    [
      stage.name,
      stage.ops.join(' '),
      stage.over,
      stage.weightBytes ? megabytes(stage.weightBytes * runs(stage)) : '',
      ...times(stage, cost).map((micros) => (micros === null ? '' : (micros * runs(stage)).toFixed(1))),
      syncText(stage),
    ],
    ...(hasBlockSyncs(schedule) ? stage.blockSyncs : []).map(({ after, reason }) => [
      '',
      `  after ${after}`,
      '',
      '',
      '',
      `block sync: ${reason}`,
    ]),
  ]);
  const { stream } = cost;
  const totals = stream ? [stream.streamMicros, stream.chainMicros] : [cost.micros];
  const total = [
    'total',
    '',
    '',
    megabytes(cost.stages.reduce((sum, stage) => sum + stage.weightBytes * runs(stage), 0)),
    ...totals.map((micros) => micros?.toFixed(1) ?? ''),
    stream ? `${cost.exchangesPerToken} exchanges a token` : `${cost.barriersPerToken} grid barriers a token`,
  ];
  return [
    `${dims.name} on ${target.name}, plan ${plan.name}: ${dims.layers} layers, ${tokens} a pass`,
    '',
    ...aligned([stream ? streamHeader : header, ...rows, total]),
    '',
    ...(stream ? [...streamLines(stream), ''] : []),
    `${speed(schedule, cost)}; every position before adds ${(cost.bytes.kvPerPosition / 1e3).toFixed(1)} kB of KV cache to read`,
  ].join('\n');
}

/** A block of the CPU is one thread; the blocks of a stream sync inside the library. */
const hasBlockSyncs = ({ target, stream }: Schedule): boolean => target.kind !== 'cpu' && stream === null;

function times(stage: StageCost, { stream }: Cost): (number | null)[] {
  if (!stream) return [stage.micros === null ? null : stage.micros + stage.syncMicros];
  return [stage.weightBytes ? stage.micros : null, stage.syncMicros || null];
}

function syncText({ sync, tensors, from, reason }: StageCost): string {
  switch (sync) {
    case null:
      return '';
    case 'grid':
      return `grid barrier: ${reason}`;
    case 'exchange':
      return `${from > 0 ? `from position ${from} on: ` : ''}exchange of ${tensors.join(', ')}: ${reason}`;
    default:
      return sync satisfies never;
  }
}

/** Columns of one width, numbers to the right. */
function aligned(rows: readonly (readonly string[])[]): string[] {
  const [names] = rows as [string[]];
  const isNumber = (c: number) => c >= header.indexOf('MB a token') && c < names.length - 1;
  const widths = names.map((_, c) => Math.max(...rows.map((row) => row[c]!.length)));
  return rows.map((cells) =>
    cells
      .map((cell, c) => (isNumber(c) ? cell.padStart(widths[c]!) : cell.padEnd(widths[c]!)))
      .join('  ')
      .trimEnd(),
  );
}

function speed({ target }: Schedule, { tokensPerSecond, stream }: Cost): string {
  if (tokensPerSecond === null) return 'no predicted speed, since the bandwidth of this target is not known';
  const reads = `${target.bandwidth} GB/s (${target.bandwidthFrom})`;
  const why = stream ? streamSpeed(stream, reads) : `at ${reads} and ${target.barrierMicros} us a barrier`;
  return `predicted ${tokensPerSecond.toFixed(0)} tok/s, ${why}`;
}
