// The page of a profile: what a token, or a launch of a prompt, costs by stage, and its timeline.
import type { Schedule } from '../../codegen/schemes/index.ts';
import type { TrackEvent } from '../../runtime/engine/profile-events.ts';
import { escaped, facts, figure, htmlTable, legend, page } from '../page/html.ts';
import { drawing, element, label, line, rate, scale, short, ticks } from '../page/svg.ts';
import { type LaunchFigures, launchText, type StageFigures } from './launch.ts';
import { costOf, type Profile } from './record.ts';
import { mainRole, type PhaseTimes, phases, type StageTimes, type Summary } from './summary.ts';
import { phaseColors, type Span, timeline } from './timeline.ts';
import { launchPhaseNames, phaseNames } from './trace.ts';
import { visitsOf } from './visits.ts';

const micros = (value: number): { readonly number: string } => ({
  number: value.toFixed(value < 100 ? 2 : 1),
});

/** What is said of a token, or of a launch. */
interface Words {
  readonly whose: string;
  readonly what: string;
  /** What runs that fast. */
  readonly runs: string;
  readonly counted: string;
  readonly names: typeof phaseNames;
}

/** The tokens of a pass. */
export const passText = (sequences: number): string =>
  sequences === 1 ? 'token' : `pass of ${sequences} sequences`;

const wordsOf = ({ launch, position, tokens, sequences }: Profile, { positions }: Summary): Words =>
  launch
    ? {
        ...{ whose: "prompt's", what: 'launch', names: launchPhaseNames },
        runs: `${launchText({ position, tokens, launch })}, as they run`,
        counted: `: ${launchText({ position, tokens, launch })}`,
      }
    : {
        ...{ whose: `${passText(sequences)}'s`, what: passText(sequences), names: phaseNames },
        runs: `as it runs, at position ${position}`,
        counted: ` and ${positions.length} ${sequences === 1 ? 'tokens' : 'passes'}`,
      };

/** @param shown events of the blocks and the pass that the timeline shows. @param figures of the stages of a launch */
export function profilePage(
  schedule: Schedule,
  profile: Profile,
  summary: Summary,
  { shown, figures }: { readonly shown: readonly TrackEvent[]; readonly figures?: LaunchFigures | undefined },
): string {
  const { overhead, launch } = profile;
  const { whose, what, runs, counted, names } = wordsOf(profile, summary);
  const roles = shown.some((event) => event.role === 'first');
  const layer = schedule.dims.layers >> 1;
  const all = extent(shown);
  const within = shown.filter((event) => event.layer === layer);
  const visits = visitsOf(
    shown.filter((event) => event.role === mainRole(shown) && event.block === shown[0]!.block),
  );
  const ofLayers = layersOf(schedule, visits);
  const ofStages = visits
    .filter((visit) => visit.layer === layer)
    .map((visit): Span => ({ ...visit, name: schedule.stages[visit.stage]!.name }));
  return page(`Profile of ${profile.kernel}`, [
    `<h1>Where a ${whose} time goes</h1>`,
    `<p class="lead">${escaped(profile.kernel)} on ${escaped(profile.device)}</p>`,
    facts([
      [`${rate(overhead.without.median)} tok/s`, runs],
      [`${rate(overhead.with.median)} tok/s`, `while ${launch ? 'they are' : 'it is'} profiled`],
      [`${summary.total.toFixed(1)} µs`, `a ${what} of the profile`],
    ]),
    `<h2>By stage</h2>`,
    `<p>Mean over ${summary.blocks} blocks${counted}. ${escaped(whatIsSeen(summary, launch !== null))} Profiling costs ${escaped(costOf(overhead))}: ${profile.runs} runs with and without it, in turns.</p>`,
    legend(seenPhases(summary).map((phase) => [names[phase], phaseColors[phase]])),
    figure((width) => stageBars(width, summary, what)),
    stageTable(summary, { what, names, figures }),
    `<h2>One layer</h2>`,
    `<p>Layer ${layer} of the ${launch ? 'launch' : `token at position ${shown[0]!.position}`}. ${roles ? 'Of each block the first and the last computing warp, the producer, which feeds the ring, and the warp that publishes the cache.' : 'A row is a block.'}</p>`,
    figure((width) => timeline(width, `Layer ${layer}, track by track`, shown, extent(within), ofStages)),
    `<h2>The whole ${what}</h2>`,
    `<p>${schedule.dims.layers} layers, ${launch ? 'behind the embedding' : 'then what follows them'}.</p>`,
    figure((width) => timeline(width, `The ${what}, track by track`, shown, all, ofLayers)),
  ]);
}

/** Phases that take time in this kernel: elsewhere warps do not wait for their weights apart from computing. */
const seenPhases = ({ stages }: Summary) =>
  phases.filter((phase) => stages.some((stage) => stage.mean[phase] > 0));

/** What the phases can tell of this kernel. */
export const whatIsSeen = ({ role }: Pick<Summary, 'role'>, isLaunch = false): string =>
  isLaunch
    ? "Seen by each block's first warp."
    : role === 'first'
      ? "Seen by each block's first computing warp."
      : 'Warps load their weights themselves here: waiting for memory is part of computing, and so are stores.';

function stageBars(width: number, { stages }: Summary, what: Words['what']): string {
  const left = width > 600 ? 110 : 84;
  const right = 66;
  const marks = ticks(Math.max(...stages.map((stage) => stage.total)), width > 600 ? 8 : 4);
  const x = scale(0, marks.at(-1)!, left, width - right);
  const bottom = stages.length * 24 + 6;
  const bars = stages.flatMap((stage, i) => {
    let at = 0;
    const parts = phases.map((phase) => {
      const from = at;
      at += stage.mean[phase];
      const attributes = { x: x(from), y: i * 24 + 6, width: x(at) - x(from), height: 16 };
      return element('rect', { ...attributes, class: `f${phaseColors[phase]}` });
    });
    return [
      label(left - 8, i * 24 + 18, stage.stage, { anchor: 'end', kind: '' }),
      ...parts,
      label(x(at) + 6, i * 24 + 18, `${(100 * stage.share).toFixed(0)} %`),
    ];
  });
  const axis = marks.flatMap((mark) => [
    line(x(mark), 2, x(mark), bottom, 'grid'),
    label(x(mark), bottom + 15, `${short(mark)}${mark === 0 ? ' µs' : ''}`, { anchor: 'middle' }),
  ]);
  return drawing(width, bottom + 22, `Time of a ${what} by stage and phase`, [...axis, ...bars]);
}

function stageTable(
  summary: Summary,
  { what, names, figures }: Pick<Words, 'what' | 'names'> & { readonly figures: LaunchFigures | undefined },
): string {
  const { stages, total } = summary;
  const seen = seenPhases(summary);
  const cells = (mean: PhaseTimes) => seen.map((phase) => micros(mean[phase]));
  const shown = (value: number | null) => (value === null ? null : { number: value.toFixed(1) });
  const ofLaunch = (of?: StageFigures) => (of ? [shown(of.predicted), shown(of.teraflops)] : []);
  const rows = stages.map((stage: StageTimes, i) => [
    ...[stage.stage, { number: String(stage.visits) }, micros(stage.total)],
    { number: `${(100 * stage.share).toFixed(1)} %` },
    ...ofLaunch(figures?.stages[i]),
    ...cells(stage.mean),
    ...[micros(stage.slowest.working), { number: String(stage.slowest.block) }],
  ]);
  const sum = (of: (stage: StageTimes) => number) => stages.reduce((all, stage) => all + of(stage), 0);
  const totals = seen.map((phase) => micros(sum((stage) => stage.mean[phase])));
  return htmlTable(
    [
      ...['stage', { number: 'visits' }, { number: `µs a ${what}` }, { number: 'share' }],
      ...(figures ? [{ number: 'predicted' }, { number: 'TFLOP/s' }] : []),
      ...seen.map((phase) => ({ number: names[phase] })),
      ...[{ number: 'slowest works' }, { number: 'block' }],
    ],
    [
      ...rows,
      [
        ...['all', null, micros(total), { number: '100 %' }],
        ...[...ofLaunch(figures?.all), ...totals, null, null],
      ],
    ],
    { total: true },
  );
}

const extent = (events: readonly TrackEvent[]): { readonly begin: number; readonly end: number } => ({
  begin: events.reduce((least, event) => Math.min(least, event.begin), Number.POSITIVE_INFINITY),
  end: events.reduce((most, event) => Math.max(most, event.end), 0),
});

function layersOf(schedule: Schedule, visits: readonly ReturnType<typeof visitsOf>[number][]): Span[] {
  const spans: Span[] = [];
  for (const visit of visits) {
    const name =
      visit.layer < schedule.dims.layers ? String(visit.layer) : schedule.stages[visit.stage]!.name;
    const before = spans.at(-1);
    if (before?.name === name) spans[spans.length - 1] = { ...before, end: visit.end };
    else spans.push({ name, begin: visit.begin, end: visit.end });
  }
  return spans;
}
