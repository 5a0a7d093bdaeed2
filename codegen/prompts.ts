// How a prompt is fed: which launches of a kernel take how many of its tokens.
// The host's `tokens_of_pass` (templates/host/generate.h) is the same rule.
import { needArguments, needCount, needKernel, needList } from './given.ts';
import type { Kernel } from './kernel.ts';
import { leastTokensOf, type TilesSchedule } from './schemes/tiles/schedule.ts';

/** Some of a prompt's tokens that go through the model together. */
export interface PromptPass {
  readonly tokens: number;
  /** Tokens of a tile, in a launch of the plan of prompts; null: a pass of decoding. */
  readonly tile: number | null;
}

/** Tokens of the next pass of those that are left. Where launches make no logits, the last one is left to a pass. */
export function tokensOfPass(left: number, passTokens: number, launches: Launches | null): number {
  if (!isLaunch(left, launches)) return Math.min(left, passTokens);
  return Math.min(launches.makesLogits ? left : left - 1, launches.most);
}

/** The fewest and the most tokens of a launch. */
export interface Launches {
  readonly least: number;
  readonly most: number;
  /** The last token of a prompt can be one of them. */
  readonly makesLogits: boolean;
}

/** The fewest tokens of a prompt that has a launch. */
export function leastWithLaunch(launches: Omit<Launches, 'most'>): number {
  needArguments('leastWithLaunch', launches, 'launchesOf(kernel)', 'least');
  const { least, makesLogits } = launches;
  return makesLogits ? least : least + 1;
}

function isLaunch(left: number, launches: Launches | null): launches is Launches {
  return launches !== null && left >= leastWithLaunch(launches);
}

const tilesOf = ({ prompts }: Pick<Kernel, 'prompts'>): TilesSchedule | null =>
  prompts?.schedule.scheme === 'tiles' ? prompts.schedule : null;

/** Null: all of a prompt goes through passes. */
export function launchesOf(kernel: Pick<Kernel, 'schedule' | 'prompts'>): Launches | null {
  needKernel(kernel, 'schedule');
  const made = tilesOf(kernel);
  return made && { least: leastTokensOf(made), most: made.passTokens, makesLogits: made.makesLogits };
}

/** All of a prompt. */
export function passesOf(
  tokens: number,
  kernel: Pick<Kernel, 'schedule' | 'prompts'>,
  launches: Launches | null = launchesOf(kernel),
): PromptPass[] {
  needCount('tokens', tokens);
  needKernel(kernel, 'schedule');
  const { passTokens } = kernel.schedule;
  const passes: PromptPass[] = [];
  for (let left = tokens; left > 0; left -= passes.at(-1)!.tokens) {
    const count = tokensOfPass(left, passTokens, launches);
    const tile = isLaunch(left, launches)
      ? tilesOf(kernel)!.kernels.find(({ most }) => most >= count)!.tokens
      : null;
    passes.push({ tokens: count, tile });
  }
  return passes;
}

/** Such as `2 launches of 1,024 tokens (tiles of 128), 1 pass of 1 token`. */
export function passesText(passes: readonly PromptPass[]): string {
  needList('passesText', passes, 'passesOf(tokens, kernel)');
  const many = (count: number, one: string, more: string) =>
    `${count.toLocaleString('en')} ${count === 1 ? one : more}`;
  const runs: { readonly pass: PromptPass; count: number }[] = [];
  for (const pass of passes) {
    const last = runs.at(-1);
    if (last?.pass.tokens === pass.tokens && last.pass.tile === pass.tile) last.count++;
    else runs.push({ pass, count: 1 });
  }
  const texts = runs.map(({ pass: { tokens, tile }, count }) => {
    const of = many(tokens, 'token', 'tokens');
    return tile === null
      ? `${many(count, 'pass', 'passes')} of ${of}`
      : `${many(count, 'launch', 'launches')} of ${of} (tiles of ${tile})`;
  });
  return texts.join(', ');
}
