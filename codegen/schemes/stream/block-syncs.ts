// Meetings of a block between its stages, derived from what its warps leave for each other in shared memory.
import { coverSpans, type Meeting, meetingAfter, type Span, twoLayers } from '../../schedule/syncs.ts';
import type { StreamStage } from './schedule.ts';

/** A part of shared memory that a stage touches between two meetings; `own`: each warp its own part of it. */
interface Use {
  readonly space: string;
  readonly own: boolean;
  readonly writes: boolean;
  readonly what: string;
}

/** What a stage touches from meeting to meeting: a body that adds up over the warps meets in between. */
function beatsOf({ body, epilogue }: StreamStage): readonly (readonly Use[])[] {
  const input: Use = { space: 'work', own: true, writes: true, what: `the input of ${body.op}` };
  const kept = (op: string, writes: boolean): Use => ({
    space: `rows of ${op}`,
    own: false,
    writes,
    what: `the rows of ${op}`,
  });
  const rows = epilogue.flatMap((step) => (step.kind === 'keep' ? [kept(body.op, true)] : []));
  switch (body.kind) {
    case 'product':
      return [[input], rows];
    case 'attend':
      return [
        [{ ...input, own: false }],
        [{ space: 'work', own: false, writes: false, what: 'the sums of all warps' }],
      ];
    case 'kept':
      return [[kept(body.op, false)]];
    case 'norm':
      return [[], []];
    case 'embed':
    case 'merge_splits':
    case 'sample':
      return [[]];
    default:
      return body satisfies never;
  }
}

/** The fewest meetings, each as late as it can be. The layer is walked twice, as hazards are. */
export function placeMeetings(stages: readonly StreamStage[]): Meeting[] {
  const walk = twoLayers(stages).flatMap(({ stage }) =>
    beatsOf(stage).map((uses, beat, all) => ({ stage, uses, isLast: beat === all.length - 1 })),
  );
  const spans: Span[] = [];
  for (const [j, to] of walk.entries()) {
    for (let i = j - 1; i >= 0; i--) {
      const from = walk[i]!;
      if (!from.isLast) break; // the body of that stage meets behind this beat
      const pair = conflict(from.uses, to.uses);
      if (pair)
        spans.push({
          from: i,
          to: j,
          why: `${to.stage.body.op} reuses what ${from.stage.body.op} reads: ${pair}`,
        });
    }
  }
  const cuts = coverSpans(spans, (step) => walk[step]!.stage.name);
  return [...cuts].map(([stage, covered]) => meetingAfter('block', { stage, phase: -1 }, covered));
}

function conflict(from: readonly Use[], to: readonly Use[]): string | null {
  for (const a of from) {
    const b = to.find((use) => use.space === a.space && (use.writes || a.writes) && !(use.own && a.own));
    if (b) return a.what;
  }
  return null;
}
