// Compares an engine's logits and greedy tokens with a golden file and says whether they lie where right ones must.
import { OnelaunchError } from '../../errors.ts';
import { short } from '../short.ts';
import type { ExpectedRow, Golden, GoldenCase } from './golden.ts';
import { longestCase } from './longest-case.ts';
import { argmax, type Scorer } from './scorers.ts';
import { type Tolerance, type ToleranceInput, tolerance } from './tolerance.ts';

export interface VerifyOptions {
  readonly dims: ToleranceInput['dims'];
  /** Storage of the KV cache under test, unless the dims have another. */
  readonly dtype: ToleranceInput['dtype'];
  readonly extraRoundings?: ToleranceInput['extraRoundings'];
}

/** How far two lists of ids run together. */
interface TokenAgreement {
  readonly equal: number;
  readonly compared: number;
  readonly firstDifference: FirstDifference | null;
}

interface FirstDifference {
  /** Counted from the first new token. */
  readonly index: number;
  readonly expected: number;
  /** Null: the list ended. */
  readonly actual: number | null;
  /** Reference's best logit minus its second best; null: not in the golden file. */
  readonly margin: number | null;
  /** A near tie, so that either id is right. */
  readonly withinTolerance: boolean;
}

interface CaseResult {
  readonly index: number;
  readonly promptTokens: number;
  readonly newTokens: number;
  /** Greatest |ours - reference| and its place; infinite differences are in `problems`. */
  readonly logit: { readonly error: number; readonly row: number; readonly id: number };
  /** KL(reference || ours), mean over rows. listed: of the distributions restricted to the golden file's top ids, which
   *  bounds the whole from below when multiplied with their probability. */
  readonly kl: { readonly mean: number; readonly of: 'full' | 'listed' };
  readonly nll: { readonly ours: number; readonly golden: number; readonly error: number } | null;
  /** New tokens whose margin exceeds the tolerance, and how many of them have our best logit. Null: see `skipped`. */
  readonly argmax: { readonly equal: number; readonly compared: number } | null;
  /** Our best ids on the golden file's tokens. */
  readonly forced: TokenAgreement | null;
  /** Our own continuation, compared up to its first difference. */
  readonly free: TokenAgreement | null;
  /** Why argmax, forced and free were not compared. */
  readonly skipped: string | null;
  /** Empty: passed. */
  readonly problems: readonly string[];
}

/** JSON-serialisable. */
export interface VerifyResult {
  readonly source: string;
  readonly ok: boolean;
  readonly tolerance: Tolerance;
  readonly cases: readonly CaseResult[];
}

/** Scores every case of the golden file, continues every prompt, and judges by one tolerance for all.
 *  @throws OnelaunchError usage: another vocabulary; failed: rows that were not delivered. */
export async function verify(scorer: Scorer, golden: Golden, options: VerifyOptions): Promise<VerifyResult> {
  if (golden.vocab !== undefined && golden.vocab !== scorer.vocab) {
    throw new OnelaunchError('usage', `the golden file has ${golden.vocab} ids, the engine ${scorer.vocab}`, {
      hint: 'verify with the golden file made from the same checkpoint',
    });
  }
  const measured: Measured[] = [];
  for (const [index, golds] of golden.cases.entries()) measured.push(await measure(scorer, golds, index));
  const bounds = tolerance(toleranceInput(measured, golden, scorer.vocab, options));
  const cases = measured.map((m, index) => judge(m, index, bounds));
  return { source: golden.source, ok: cases.every((c) => c.problems.length === 0), tolerance: bounds, cases };
}

/** What one case gave, before there is a tolerance to judge it by. */
interface Measured {
  readonly golden: GoldenCase;
  readonly rows: readonly RowError[];
  /** Sum of squares of our logits over the rows in `rows`. */
  readonly squares: number;
  readonly nll: number | null;
  /** Our best id of each new token's row. */
  readonly best: readonly number[];
  readonly free: readonly number[];
}

interface RowError {
  readonly row: number;
  readonly error: number;
  readonly id: number;
  readonly kl: number;
}

async function measure(scorer: Scorer, golden: GoldenCase, index: number): Promise<Measured> {
  const ids = [...golden.promptIds, ...golden.greedyIds];
  const start = golden.promptIds.length - 1;
  const first = golden.nll ? 0 : start;
  const rows: RowError[] = [];
  const best: number[] = [];
  let squares = 0;
  let likelihood = 0;
  let next = first;
  await scorer.reset();
  await scorer.score(ids, first, (row, logits) => {
    if (row !== next || logits.length !== scorer.vocab) {
      throw new OnelaunchError(
        'failed',
        `case ${index}: row ${row} of ${logits.length} logits came, not row ${next}`,
      );
    }
    next++;
    if (golden.nll && row < golden.nll.rows) likelihood += logSumExp(logits) - logits[ids[row + 1]!]!;
    if (row >= start && row < ids.length - 1) best.push(argmax(logits));
    for (const expected of golden.expected) {
      if (expected.row !== row) continue;
      rows.push({ row, ...greatestError(expected, logits), kl: divergence(expected, logits) });
      squares += sumOfSquares(logits);
    }
  });
  if (next !== ids.length) {
    throw new OnelaunchError(
      'failed',
      `case ${index}: ${ids.length - next} of ${ids.length - first} rows did not come`,
    );
  }
  await scorer.reset();
  const free = golden.greedyUnusable ? [] : await scorer.greedy(golden.promptIds, golden.greedyIds.length);
  return { golden, rows, squares, nll: golden.nll ? likelihood / golden.nll.rows : null, best, free };
}

/** The reference's listed logits are its largest, so their rms bounds that of whole rows from above; where only they are known
 *  the smaller of theirs and ours stands, which no error of ours can raise above that bound. */
function toleranceInput(
  measured: readonly Measured[],
  golden: Golden,
  vocab: number,
  options: VerifyOptions,
): ToleranceInput {
  const expected = golden.cases.flatMap((c) => c.expected);
  const entries = expected.reduce((n, row) => n + row.logits.length, 0);
  const rows = measured.reduce((n, m) => n + m.rows.length, 0);
  const theirs = Math.sqrt(expected.reduce((s, row) => s + sumOfSquares(row.logits), 0) / entries);
  const ours = Math.sqrt(measured.reduce((s, m) => s + m.squares, 0) / (rows * vocab));
  const listed = expected.some((row) => row.kind === 'top');
  const likelihoods = golden.cases.filter((c) => c.nll);
  return {
    dims: options.dims,
    dtype: options.dtype,
    positions: longestCase(golden),
    counted: vocab * golden.cases.reduce((n, c) => n + Math.max(c.expected.length, c.greedyIds.length), 0),
    logitRms: listed && ours < theirs ? ours : theirs,
    decimals: golden.decimals,
    ...(likelihoods.length > 0
      ? {
          nll: {
            cases: likelihoods.length,
            targets: Math.min(...likelihoods.map(distinctTargets)),
            decimals: golden.nllDecimals,
          },
        }
      : {}),
    ...(options.extraRoundings ? { extraRoundings: options.extraRoundings } : {}),
  };
}

function distinctTargets(c: GoldenCase): number {
  return new Set([...c.promptIds, ...c.greedyIds].slice(1, (c.nll?.rows ?? 0) + 1)).size;
}

function judge(measured: Measured, index: number, bounds: Tolerance): CaseResult {
  const { golden, rows } = measured;
  const worst = rows.reduce((a, b) => (b.error > a.error || Number.isNaN(b.error) ? b : a));
  const kl = rows.reduce((sum, row) => sum + row.kl, 0) / rows.length;
  const of = golden.expected.every((row) => row.kind === 'full') ? 'full' : 'listed';
  const nll =
    golden.nll && measured.nll !== null
      ? { ours: measured.nll, golden: golden.nll.value, error: Math.abs(measured.nll - golden.nll.value) }
      : null;

  const skipped = golden.greedyUnusable ?? null;
  const decided = golden.greedyIds.flatMap((_, j) => ((golden.margin?.[j] ?? 0) > bounds.margin ? [j] : []));
  const argmaxEqual = decided.filter((j) => measured.best[j] === golden.greedyIds[j]).length;
  const forced = skipped ? null : agreement(golden, measured.best, bounds, 'all');
  const free = skipped ? null : agreement(golden, measured.free, bounds, 'until it parts');

  const problems: string[] = [];
  const over = (what: string, value: number, bound: number) => {
    if (!(value <= bound)) problems.push(`${what} ${short(value)} exceeds ${short(bound)}`);
  };
  over(`row ${worst.row}, id ${worst.id}: logit error`, worst.error, bounds.logit);
  over('KL', kl, bounds.kl);
  if (nll && bounds.nll !== null) over('NLL error', nll.error, bounds.nll);
  if (!skipped && argmaxEqual < decided.length) {
    problems.push(
      `${decided.length - argmaxEqual} best ids differ though their margin exceeds ${short(bounds.margin)}`,
    );
  }
  for (const [name, list] of [
    ['teacher-forced', forced],
    ['free-running', free],
  ] as const) {
    const parted = list?.firstDifference;
    if (parted && !parted.withinTolerance) {
      const margin = parted.margin === null ? 'unknown margin' : `margin ${short(parted.margin)}`;
      problems.push(
        `${name} token ${parted.index} is ${parted.actual ?? 'missing'}, not ${parted.expected} (${margin})`,
      );
    }
  }
  return {
    index,
    promptTokens: golden.promptIds.length,
    newTokens: golden.greedyIds.length,
    logit: { error: worst.error, row: worst.row, id: worst.id },
    kl: { mean: kl, of },
    nll,
    argmax: skipped ? null : { equal: argmaxEqual, compared: decided.length },
    forced,
    free,
    skipped,
    problems,
  };
}

/** After a near tie a free run sees other tokens than the reference saw: nothing behind its first difference is compared. */
function agreement(
  golden: GoldenCase,
  actual: readonly number[],
  bounds: Tolerance,
  extent: 'all' | 'until it parts',
): TokenAgreement {
  const wanted = golden.greedyIds;
  const index = wanted.findIndex((id, j) => actual[j] !== id);
  if (index < 0) return { equal: wanted.length, compared: wanted.length, firstDifference: null };
  const margin = golden.margin?.[index] ?? null;
  return {
    equal: extent === 'all' ? wanted.filter((id, j) => actual[j] === id).length : index,
    compared: extent === 'all' ? wanted.length : index + 1,
    firstDifference: {
      index,
      expected: wanted[index]!,
      actual: actual[index] ?? null,
      margin,
      withinTolerance: actual[index] !== undefined && margin !== null && margin <= bounds.margin,
    },
  };
}

function greatestError(
  expected: ExpectedRow,
  logits: Float32Array,
): { readonly error: number; readonly id: number } {
  let error = 0;
  let id = expected.ids?.[0] ?? 0;
  for (let i = 0; i < expected.logits.length; i++) {
    const at = expected.ids ? expected.ids[i]! : i;
    const distance = Math.abs(logits[at]! - expected.logits[i]!);
    if (!(distance <= error)) {
      error = distance;
      id = at;
      if (Number.isNaN(distance)) break;
    }
  }
  return { error, id };
}

/** KL(reference || ours) over the row's ids, each side normalised over them. */
export function divergence(expected: ExpectedRow, logits: Float32Array): number {
  const ours = expected.ids ? Float32Array.from(expected.ids, (id) => logits[id]!) : logits;
  const theirs = expected.logits;
  const [zTheirs, zOurs] = [logSumExp(theirs), logSumExp(ours)];
  let sum = 0;
  for (let i = 0; i < theirs.length; i++) {
    const p = theirs[i]! - zTheirs;
    sum += Math.exp(p) * (p - (ours[i]! - zOurs));
  }
  // Float64 rounding can carry a zero below zero.
  return Math.max(sum, 0);
}

export function logSumExp(values: ArrayLike<number>): number {
  let top = Number.NEGATIVE_INFINITY;
  for (let i = 0; i < values.length; i++) if (values[i]! > top) top = values[i]!;
  let sum = 0;
  for (let i = 0; i < values.length; i++) sum += Math.exp(values[i]! - top);
  return top + Math.log(sum);
}

export function sumOfSquares(values: ArrayLike<number>): number {
  let sum = 0;
  for (let i = 0; i < values.length; i++) sum += values[i]! * values[i]!;
  return sum;
}
