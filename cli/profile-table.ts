// The tables of gen profile: a token, or a launch of a prompt, by stage.
import type { LaunchFigures, StageFigures } from '../lab/profile/launch.ts';
import type { StageTimes, Summary } from '../lab/profile/summary.ts';
import { fixed, table } from './ui.ts';

type Lab = typeof import('../lab/profile/index.ts');

/** A token, or a pass of several sequences. @param seen what the phases can tell of this kernel */
export function tokenTable(
  { stages, total, producer, blocks, positions }: Summary,
  phases: Lab['phases'],
  { what, seen }: { readonly what: string; readonly seen: string },
): string {
  const rows = stages.map((stage) => [
    ...[stage.stage, stage.visits, fixed(stage.total, 1), percent(stage.share)],
    ...phases.map((phase) => fixed(stage.mean[phase], 1)),
    ...[fixed(stage.slowest.working, 1), stage.slowest.block],
  ]);
  const header = ['stage', 'visits', 'us', 'share', 'weights', 'others', 'compute', 'own warps', 'store'];
  const sums = phases.map((phase) => sumOf(stages, (stage) => stage.mean[phase]));
  return [
    table(
      [...header, 'slowest', 'block'],
      [...rows, ['all', null, fixed(total, 1), '100.0 %', ...sums, null, null]],
    ),
    '',
    `microseconds of a ${what}, mean of ${blocks} blocks and ${positions.length} ${what === 'token' ? 'tokens' : 'passes'}: waits for weights, for other blocks, computes, waits for`,
    `warps of its own block, stores; slowest: the block that works longest, and what it works. ${seen}`,
    ...(producer
      ? [
          `The producer: ${fixed(producer.weights, 1)} us waiting for memory, ${fixed(producer.meet, 1)} for a free slot, ${fixed(producer.others, 1)} for the cache, ${fixed(producer.publish, 1)} starting copies.`,
        ]
      : []),
  ].join('\n');
}

/** A launch of a prompt. */
export function launchTable(
  { stages, total, blocks }: Summary,
  figures: LaunchFigures,
  { launch, seen }: { readonly launch: string; readonly seen: string },
): string {
  const of = ({ predicted, teraflops }: StageFigures) => [fixed(predicted, 1), fixed(teraflops, 1)];
  const phases = ['weights', 'compute', 'publish', 'meet', 'others'] as const;
  const rows = stages.map((stage, i) => [
    ...[stage.stage, stage.visits, fixed(stage.total, 1), percent(stage.share), ...of(figures.stages[i]!)],
    ...phases.map((phase) => fixed(stage.mean[phase], 1)),
    ...[fixed(stage.working.median, 1), fixed(stage.working.p90, 1), fixed(stage.slowest.working, 1)],
    stage.slowest.block,
  ]);
  const sums = phases.map((phase) => sumOf(stages, (stage) => stage.mean[phase]));
  return [
    table(
      [
        ...['stage', 'visits', 'us', 'share', 'predicted', 'TFLOP/s'],
        ...['operands', 'compute', 'results', 'own warps', 'barrier', 'median', 'p90', 'slowest', 'block'],
      ],
      [
        ...rows,
        [
          ...['all', null, fixed(total, 1), '100.0 %', ...of(figures.all)],
          ...[...sums, null, null, null, null],
        ],
      ],
    ),
    '',
    `microseconds of a launch, ${launch}, mean of ${blocks} blocks: waits for the first operands of tiles, computes, makes results of sums, waits`,
    `for warps of its own block, at the barrier; median, p90, slowest: what half of the blocks, nine tenths and all work at most. ${seen}`,
    'predicted: as gen explain has it; TFLOP/s: what the results need, in the time of the stage.',
  ].join('\n');
}

const percent = (share: number): string => `${(100 * share).toFixed(1)} %`;

const sumOf = (stages: readonly StageTimes[], of: (stage: StageTimes) => number): string | null =>
  fixed(
    stages.reduce((sum, stage) => sum + of(stage), 0),
    1,
  );
