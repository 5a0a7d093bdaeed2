// How much of a model's quality a kernel keeps: its distributions over real text against those of the float32 reference.
import { OnelaunchError } from '../errors.ts';
import { short } from '../runtime/short.ts';
import type { Golden } from '../runtime/verify/golden.ts';
import { longestCase } from '../runtime/verify/longest-case.ts';
import { argmax, type Scorer } from '../runtime/verify/scorers.ts';
import { type Tolerance, type ToleranceInput, tolerance } from '../runtime/verify/tolerance.ts';
import { divergence, logSumExp, sumOfSquares } from '../runtime/verify/verify.ts';
import { breathe } from './breathe.ts';
import type { QualityText } from './quality-text.ts';

export interface Quality {
  readonly text: string;
  readonly source: string;
  readonly sequences: number;
  /** Tokens that were predicted and count. */
  readonly tokens: number;
  /** KL(reference || ours) of a row [nats]. */
  readonly kl: { readonly mean: number; readonly most: number };
  /** Rows with the same most likely token; `decided`: of those that the reference decides by more than the tolerance. */
  readonly top1: { readonly equal: number; readonly decided: number; readonly decidedEqual: number };
  /** Mean negative log likelihood [nats per token]. */
  readonly nll: { readonly ours: number; readonly reference: number };
  readonly perplexity: { readonly ours: number; readonly reference: number };
  /** Largest distances of a right kernel, from its number formats. */
  readonly allowed: Pick<Tolerance, 'kl' | 'nll' | 'margin'>;
  /** Empty: within what is allowed. */
  readonly problems: readonly string[];
}

export interface QualityOptions extends Pick<ToleranceInput, 'dims' | 'dtype' | 'extraRoundings'> {
  /** Weights or KV cache are rounded further than the reference's: what that loses is a figure, and no problem of the kernel. */
  readonly isRounded?: boolean | undefined;
  /** Tokens done; what it throws ends the work. */
  readonly onTokens: (done: number) => void;
}

/** One row of both, and the token that followed. */
interface Row {
  readonly kl: number;
  readonly isEqual: boolean;
  /** Of the reference: its best logit minus its second best. */
  readonly margin: number;
  readonly ours: number;
  readonly reference: number;
  readonly squares: number;
  readonly next: number;
}

/** A text through both. */
export async function qualityOf(
  ours: Scorer,
  reference: Scorer,
  text: QualityText,
  options: QualityOptions,
): Promise<Quality> {
  const rows: Row[] = [];
  for (const { ids, from } of text.sequences) {
    options.onTokens(rows.length);
    // The last token predicts nothing that is known.
    const fed = ids.slice(0, -1);
    const expected: Float32Array[] = [];
    await reference.reset();
    await reference.score(fed, from - 1, (_, logits) => expected.push(logits.slice()));
    await ours.reset();
    await ours.score(fed, from - 1, (row, logits) => {
      rows.push(rowOf(expected[row - from + 1]!, logits, ids[row + 1]!));
    });
    await breathe();
  }
  options.onTokens(rows.length);
  const positions = Math.max(...text.sequences.map(({ ids }) => ids.length));
  return judged(text.name, text.source, text.sequences.length, rows, positions, ours.vocab, options);
}

/** The same of a golden file: the rows of logits that it has whole. @throws OnelaunchError usage where it has none */
export async function qualityOfGolden(
  ours: Scorer,
  golden: Golden,
  options: QualityOptions,
): Promise<Quality> {
  const rows: Row[] = [];
  for (const { promptIds, greedyIds, expected } of golden.cases) {
    options.onTokens(rows.length);
    const ids = [...promptIds, ...greedyIds];
    const whole = new Map(expected.filter(({ kind }) => kind === 'full').map((one) => [one.row, one.logits]));
    if (whole.size === 0) continue;
    await ours.reset();
    await ours.score(ids, Math.min(...whole.keys()), (row, logits) => {
      const theirs = whole.get(row);
      const next = ids[row + 1];
      if (theirs && next !== undefined) rows.push(rowOf(Float32Array.from(theirs), logits, next));
    });
  }
  if (rows.length === 0) {
    throw new OnelaunchError('usage', 'the golden file has no whole row of logits', {
      hint: 'one with logits_file or last_prompt_logits has; gen verify compares the others',
    });
  }
  const positions = longestCase(golden);
  return judged('golden', golden.source, golden.cases.length, rows, positions, ours.vocab, options);
}

function rowOf(reference: Float32Array, ours: Float32Array, next: number): Row {
  const best = argmax(reference);
  let second = Number.NEGATIVE_INFINITY;
  for (let i = 0; i < reference.length; i++) if (i !== best && reference[i]! > second) second = reference[i]!;
  return {
    kl: divergence({ row: 0, kind: 'full', logits: reference }, ours),
    isEqual: argmax(ours) === best,
    margin: reference[best]! - second,
    ours: logSumExp(ours) - ours[next]!,
    reference: logSumExp(reference) - reference[next]!,
    squares: sumOfSquares(reference),
    next,
  };
}

function judged(
  text: string,
  source: string,
  sequences: number,
  rows: readonly Row[],
  positions: number,
  vocab: number,
  { dims, dtype, extraRoundings, isRounded = false }: QualityOptions,
): Quality {
  const tokens = rows.length;
  const mean = (of: (row: Row) => number) => rows.reduce((sum, row) => sum + of(row), 0) / tokens;
  const allowed = tolerance({
    ...{ dims, dtype, positions, decimals: null },
    ...(extraRoundings ? { extraRoundings } : {}),
    counted: tokens * vocab,
    logitRms: Math.sqrt(mean((row) => row.squares) / vocab),
    nll: { cases: 1, targets: new Set(rows.map(({ next }) => next)).size, decimals: null },
  });
  const nll = { ours: mean((row) => row.ours), reference: mean((row) => row.reference) };
  const kl = { mean: mean((row) => row.kl), most: Math.max(...rows.map((row) => row.kl)) };
  const decided = rows.filter(({ margin }) => margin > allowed.margin);
  const decidedEqual = decided.filter(({ isEqual }) => isEqual).length;
  const off = Math.abs(nll.ours - nll.reference);
  const found = [
    // A NaN is no smaller than anything.
    ...(kl.most <= allowed.kl ? [] : [`KL of a row ${short(kl.most)} exceeds ${short(allowed.kl)}`]),
    ...(off <= allowed.nll! ? [] : [`NLL differs by ${short(off)}, more than ${short(allowed.nll!)}`]),
    ...(decidedEqual === decided.length
      ? []
      : [`${decided.length - decidedEqual} best tokens differ that the reference decides`]),
  ];
  const problems = isRounded && Number.isFinite(nll.ours) ? [] : found;
  return {
    ...{ text, source, sequences, tokens, kl, nll, problems },
    top1: { equal: rows.filter(({ isEqual }) => isEqual).length, decided: decided.length, decidedEqual },
    perplexity: { ours: Math.exp(nll.ours), reference: Math.exp(nll.reference) },
    allowed: { kl: allowed.kl, nll: allowed.nll, margin: allowed.margin },
  };
}
