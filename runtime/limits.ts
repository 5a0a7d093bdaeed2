// Bounds that options and the library have in common.
import { OnelaunchError } from '../errors.ts';

/** Sequences of an engine, at most: kMostSequences of templates/host/backend.h. */
export const mostSequences = 16;

/** Tokens that have a bias, at most. */
export const mostBiases = 1024;

/** Tokens beside the one that was chosen whose log probabilities are told, at most: kMostTopLogprobs of templates/host/logprobs.h. */
export const mostTopLogprobs = 20;

/** @throws OnelaunchError of kind usage where the kernels of a target have one sequence */
export function checkSequences(
  sequences: number,
  { kind, name }: { readonly kind: string; readonly name: string },
): void {
  if (sequences === 1 || kind === 'cpu') return;
  throw new OnelaunchError('usage', `sequences is ${sequences}: the kernels of ${name} have one sequence`, {
    hint: 'use --target cpu, or one sequence',
  });
}
