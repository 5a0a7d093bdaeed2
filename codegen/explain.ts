// The schedule as a table, for people.
import type { Cost } from './estimate.ts';
import type { Schedule } from './schedule.ts';

/** Stages, what they read, the syncs and why they are needed, predicted times. */
export function explainTable(schedule: Schedule, cost: Cost): string {
  const { dims, target, plan } = schedule;
  const header = ['stage', 'ops (* made by every block)', 'over', 'MB', 'us', 'then'];
  const rows = cost.stages.flatMap((stage) => {
    const first = [
      stage.name,
      stage.ops.join(' '),
      stage.over,
      stage.weightBytes ? (stage.weightBytes / 1e6).toFixed(2) : '',
      stage.micros === null ? '' : (stage.micros + stage.syncMicros).toFixed(1),
      stage.sync ? `grid barrier: ${stage.reason}` : '',
    ];
    const inner = target.kind === 'cpu' ? [] : stage.blockSyncs;
    return [
      first,
      ...inner.map((sync) => ['', `  after ${sync.after}: block sync`, '', '', '', `  ${sync.reason}`]),
    ];
  });
  const widths = header.map((name, c) => Math.max(name.length, ...rows.map((row) => row[c]!.length)));
  const line = (cells: readonly string[]) =>
    cells
      .map((cell, c) => (c === 3 || c === 4 ? cell.padStart(widths[c]!) : cell.padEnd(widths[c]!)))
      .join('  ')
      .trimEnd();
  const speed =
    cost.tokensPerSecond === null
      ? 'no prediction: the bandwidth of this target is not known'
      : `predicted ${cost.micros!.toFixed(0)} us a token, ${cost.tokensPerSecond.toFixed(0)} tok/s at position 0`;
  return [
    `${dims.name} on ${target.name}, plan ${plan.name}: ${dims.layers} layers, up to ${schedule.passTokens} tokens a pass`,
    '',
    line(header),
    ...rows.map(line),
    '',
    `${cost.barriersPerToken} grid barriers a token; ${(cost.bytes.weights / 1e6).toFixed(1)} MB of weights, ` +
      `${(cost.bytes.kvPerPosition / 1e3).toFixed(1)} kB of KV cache for each position before; ${speed}`,
  ].join('\n');
}
