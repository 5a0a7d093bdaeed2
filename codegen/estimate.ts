// What schedules should cost: a token, a launch, and a prompt through all its launches and passes.
import { invariant, OnelaunchError } from '../errors.ts';
import { needCount, needSchedule } from './given.ts';
import type { Kernel } from './kernel.ts';
import { fit } from './plan/plan.ts';
import { launchesOf, leastWithLaunch, type PromptPass, passesOf } from './prompts.ts';
import type { Cost } from './schedule/cost.ts';
import type { TimePart } from './schedule/terms.ts';
import { type Schedule, schemeOf } from './schemes/index.ts';
import type { TilesSchedule } from './schemes/tiles/schedule.ts';

/** What a schedule should cost for a token at a position, or for a launch of so many from there on. */
export function estimate(schedule: Schedule, position = 0, tokens?: number, makesToken?: boolean): Cost {
  needSchedule(schedule);
  needCount('position', position);
  if (tokens !== undefined) needTokens(tokens, schedule);
  return schemeOf(schedule).cost(schedule, position, tokens, makesToken);
}

/** More are several passes, and of no tokens there is none. */
function needTokens(tokens: number, { plan, passTokens }: Schedule): void {
  needCount('tokens', tokens);
  if (tokens >= 1 && tokens <= passTokens) return;
  throw new OnelaunchError(
    'usage',
    `tokens is ${tokens}, and plan ${plan.name} takes 1 to ${passTokens} at a time`,
    {
      hint: 'estimatePrompt has what a longer prompt costs',
    },
  );
}

/** What taking in a prompt should cost. */
export interface PromptEstimate {
  /** Of all launches and passes, one after the other. */
  readonly parts: readonly TimePart[];
  /** Until the first token behind the prompt is there [us]; null without a known bandwidth. */
  readonly micros: number | null;
  /** Each of them [us], as `passes` has them. */
  readonly each: readonly (number | null)[];
  /** What of the target nobody has measured. */
  readonly unmeasured: readonly string[];
}

/** A prompt behind `position` other tokens. @param passes how it is taken in, if not as the engine does */
export function estimatePrompt(
  tokens: number,
  kernel: Pick<Kernel, 'schedule' | 'prompts'>,
  position = 0,
  passes: readonly PromptPass[] = passesOf(tokens, kernel),
): PromptEstimate {
  let at = 0;
  const costs = passes.map((pass) => {
    const schedule = pass.tile === null ? kernel.schedule : kernel.prompts?.schedule;
    invariant(schedule, 'a launch is of the plan of prompts');
    const before = position + at;
    at += pass.tokens;
    return estimate(schedule, before, pass.tokens, at === tokens);
  });
  const each = costs.map(({ micros }) => micros);
  return {
    parts: costs.flatMap(({ parts }) => parts),
    micros: each.reduce((sum, one) => (sum === null || one === null ? null : sum + one), 0 as number | null),
    each,
    unmeasured: [...new Set(costs.flatMap(({ unmeasured }) => unmeasured))],
  };
}

/** So many tokens more than a launch is found quicker than passes for, and it stays so: those of a tile. */
const searched = 64;

/** The fewest tokens that a launch takes in quicker than passes do, with the choice of the token behind them. @param tiles the schedule of launches */
function quickerFrom(decoding: Schedule, tiles: TilesSchedule): number {
  const most = tiles.passTokens;
  const passed = new Map<number, number>();
  /** All but the last pass of a prompt [us]. */
  const fullPasses = (count: number): number => {
    const found = passed.get(count);
    if (found !== undefined || count === 0) return found ?? 0;
    const at = (count - 1) * decoding.passTokens;
    const sum = fullPasses(count - 1) + estimate(decoding, at, decoding.passTokens, false).micros!;
    passed.set(count, sum);
    return sum;
  };
  let least = decoding.passTokens + 1;
  for (let tokens = least; tokens <= most && tokens < least + searched; tokens++) {
    const prompt = leastWithLaunch({ least: tokens, makesLogits: tiles.makesLogits });
    const full = Math.floor((prompt - 1) / decoding.passTokens);
    const at = full * decoding.passTokens;
    const passes = fullPasses(full) + estimate(decoding, at, prompt - at).micros!;
    const behind = prompt > tokens ? estimate(decoding, tokens, 1).micros! : 0;
    const launch = estimate(tiles, 0, tokens, true).micros! + behind;
    if (passes <= launch) least = tokens + 1;
  }
  return Math.min(least, most);
}

/**
 * A schedule of prompts whose launches have a least length beside what decodes: the one that is predicted, unless its plan has one. What fits
 * one pass is one.
 */
export function settleLaunches(decoding: Schedule, prompts: Schedule): Schedule {
  if (prompts.scheme !== 'tiles') return prompts;
  const wanted = prompts.leastTokens ?? quickerFrom(decoding, prompts);
  return { ...prompts, leastTokens: Math.max(wanted, decoding.passTokens + 1) };
}

/** How the engine takes a prompt in, how else it could, and why it does not. */
export interface PromptChoice {
  readonly passes: readonly PromptPass[];
  readonly predicted: PromptEstimate;
  /** The same through passes alone, or through launches as far as can be; null where there is no other way. */
  readonly otherwise: PromptEstimate | null;
  readonly why: string;
}

const milliseconds = (micros: number): string =>
  `${micros < 1e6 ? (micros / 1000).toPrecision(3) : Math.round(micros / 1000)} ms`;

/** A prompt of so many tokens behind `position` others. */
export function choiceOf(
  tokens: number,
  kernel: Pick<Kernel, 'schedule' | 'prompts'>,
  position = 0,
): PromptChoice {
  const launches = launchesOf(kernel);
  const passes = passesOf(tokens, kernel, launches);
  const predicted = estimatePrompt(tokens, kernel, position, passes);
  const none = { passes, predicted, otherwise: null };
  if (launches === null)
    return { ...none, why: 'there is no plan of prompts: all of it goes through passes' };
  const isLaunch = passes.some(({ tile }) => tile !== null);
  const from = (least: number) => leastWithLaunch({ ...launches, least });
  const rule = `launches from ${from(launches.least)} tokens on`;
  const leastEver = kernel.schedule.passTokens + 1;
  if (tokens < from(leastEver)) return { ...none, why: `${rule}; what fits one pass is no launch` };
  const other = passesOf(tokens, kernel, isLaunch ? null : { ...launches, least: leastEver });
  const otherwise = estimatePrompt(tokens, kernel, position, other);
  const { name, scheme } = kernel.prompts!.plan;
  const source =
    scheme.kind === 'tiles' && scheme.from !== fit
      ? `as plan ${name} says`
      : 'where they are predicted quicker';
  const both =
    predicted.micros === null || otherwise.micros === null
      ? ''
      : `predicted ${milliseconds(predicted.micros)}, through ${isLaunch ? 'passes alone' : 'launches'} ${milliseconds(otherwise.micros)}; `;
  const assumed = [...new Set([...predicted.unmeasured, ...otherwise.unmeasured])];
  const basis =
    assumed.length > 0
      ? `; assumed, since nobody has measured them on ${kernel.schedule.target.name} (gen calibrate does): ${assumed.join(', ')}`
      : '';
  return { passes, predicted, otherwise, why: `${both}${rule}, ${source}${basis}` };
}
