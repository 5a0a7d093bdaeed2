// How a prompt is fed: which launches of a kernel take how many of its tokens.
// The host's `tokens_of_pass` (templates/host/generate.h) is the same rule.
import type { Kernel } from './kernel.ts';

/** Some of a prompt's tokens that go through the model together. */
export interface PromptPass {
  readonly tokens: number;
  /** Tokens of a tile, in a launch of the plan of prompts; null: a pass of decoding. */
  readonly tile: number | null;
}

/** So many passes of decoding take about as long as the shortest launch of a plan of prompts (measured: docs/devlog.md, section 14). */
const passesOfLaunch = 3;

/** The shortest prompt that a launch has part of. */
export const leastOfLaunch = (passTokens: number): number => passesOfLaunch * passTokens + 1;

/** Tokens of the next pass of those that are left. Of a prompt the last one is left to a pass that makes its logits. */
export function tokensOfPass(left: number, passTokens: number, promptTokens: number): number {
  return promptTokens > 0 && left >= leastOfLaunch(passTokens)
    ? Math.min(left - 1, promptTokens)
    : Math.min(left, passTokens);
}

/** All of a prompt. */
export function passesOf(
  tokens: number,
  { schedule, prompts }: Pick<Kernel, 'schedule' | 'prompts'>,
): PromptPass[] {
  const made = prompts?.schedule.scheme === 'tiles' ? prompts.schedule : null;
  const passes: PromptPass[] = [];
  for (let left = tokens; left > 0; left -= passes.at(-1)!.tokens) {
    const count = tokensOfPass(left, schedule.passTokens, made?.passTokens ?? 0);
    const kernel = count > schedule.passTokens ? made?.kernels.find(({ most }) => most >= count) : undefined;
    passes.push({ tokens: count, tile: kernel?.tokens ?? null });
  }
  return passes;
}

/** Such as `2 launches of 1,024 tokens (tiles of 128), 1 pass of 1 token`. */
export function passesText(passes: readonly PromptPass[]): string {
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

/** Why passes, or launches, take a prompt. */
export function passesReason(
  tokens: number,
  { schedule, prompts }: Pick<Kernel, 'schedule' | 'prompts'>,
): string {
  const { passTokens } = schedule;
  if (prompts === null) return 'there is no plan of prompts: all of it goes through passes';
  const least = leastOfLaunch(passTokens);
  const rule = `${passesOfLaunch} passes of ${passTokens} take about as long as the shortest launch (measured on an H100; the engine has it as a constant)`;
  return tokens < least
    ? `no launch below ${least} tokens: ${rule}`
    : `launches from ${least} tokens on: ${rule}`;
}
