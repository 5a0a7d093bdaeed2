// What Granite multiplies by, as kernels have it.
import type { Factors } from './dims.ts';
import { copyAgain, type Problem, show } from './dims-problems.ts';

/** As files have it: embedding, branches and scores are multiplied, logits divided. */
export interface Scales {
  readonly embedding: number;
  readonly branch: number;
  readonly scores: number;
  readonly logits: number;
}

/** Far beyond what a model multiplies by. */
const most = 1e6;
export const isFactor = (value: unknown): value is number =>
  typeof value === 'number' && value > 0 && value <= most;
export const factorText = (value: unknown): string =>
  `is ${show(value)}, must be more than 0 and at most ${most}`;

/** What is wrong with the factors of dims. */
export const findFactorProblems = ({ factors }: { readonly factors?: Factors }): Problem[] =>
  factors === undefined
    ? []
    : (['branch', 'scores', 'logits'] as const)
        .filter((name) => !isFactor(factors[name]))
        .map((name) => ({
          key: 'factors',
          text: `factors.${name} ${factorText(factors[name])}`,
          hint: copyAgain,
        }));

/** The residual stream is read by norms alone, so it may be in any unit. In that of the embedding the table is its first value as it is stored, for
 *  whoever reads it; branches are added as so many embeddings, and eps is a square of that unit.
 *  @param normEps as the file has it */
export const inEmbeddings = (
  normEps: number,
  { embedding, branch, scores, logits }: Scales,
): { readonly normEps: number; readonly factors: Factors } => ({
  normEps: normEps / embedding ** 2,
  factors: { branch: branch / embedding, scores, logits: 1 / logits },
});
