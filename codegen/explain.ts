// The schedule as a table, for people.
import type { Cost, StageCost } from './estimate.ts';
import type { Schedule } from './schedule.ts';

const header = ['stage', 'ops (* made by every block)', 'over', 'MB a token', 'us a token', 'then'];
const numbers = [3, 4];

/** Stages, what they read and need for one token at position 0, and the syncs with their reasons; the block syncs under their stage. */
export function explainTable(schedule: Schedule, cost: Cost): string {
  const { dims, target, plan } = schedule;
  const runs = (stage: StageCost) => (stage.part === 'layer' ? dims.layers : 1);
  const tokens = schedule.passTokens === 1 ? '1 token' : `up to ${schedule.passTokens} tokens`;
  const rows = cost.stages.flatMap((stage) => {
    const micros = stage.micros === null ? null : stage.micros + stage.syncMicros;
    const outer = [
      stage.name,
      stage.ops.join(' '),
      stage.over,
      stage.weightBytes ? megabytes(stage.weightBytes * runs(stage)) : '',
      micros === null ? '' : (micros * runs(stage)).toFixed(1),
      stage.sync ? `grid barrier: ${stage.reason}` : '',
    ];
    // A block of the CPU is one thread.
    const inner = target.kind === 'cpu' ? [] : stage.blockSyncs;
    return [
      outer,
      ...inner.map(({ after, reason }) => ['', `  after ${after}`, '', '', '', `block sync: ${reason}`]),
    ];
  });
  const total = [
    'total',
    '',
    '',
    megabytes(cost.bytes.weights),
    cost.micros?.toFixed(1) ?? '',
    `${cost.barriersPerToken} grid barriers a token`,
  ];
  const widths = header.map((name, c) =>
    Math.max(name.length, ...[...rows, total].map((row) => row[c]!.length)),
  );
  const line = (cells: readonly string[]) =>
    cells
      .map((cell, c) => (numbers.includes(c) ? cell.padStart(widths[c]!) : cell.padEnd(widths[c]!)))
      .join('  ')
      .trimEnd();
  return [
    `${dims.name} on ${target.name}, plan ${plan.name}: ${dims.layers} layers, ${tokens} a pass`,
    '',
    line(header),
    ...rows.map(line),
    line(total),
    '',
    `${speed(schedule, cost)}; every position before adds ${(cost.bytes.kvPerPosition / 1e3).toFixed(1)} kB of KV cache to read`,
  ].join('\n');
}

function speed({ target }: Schedule, { tokensPerSecond }: Cost): string {
  if (tokensPerSecond === null) return 'no predicted speed, since the bandwidth of this target is not known';
  return `predicted ${tokensPerSecond.toFixed(0)} tok/s, at ${target.bandwidth} GB/s (${target.bandwidthFrom}) and ${target.barrierMicros} us a barrier`;
}

const megabytes = (bytes: number): string => (bytes / 1e6).toFixed(2);
