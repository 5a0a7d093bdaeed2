// Reads golden.json: what transformers computed for a checkpoint, in any of the three shapes that such files have.

import { basename, dirname, join } from 'node:path';
import { z } from 'zod';
import { OnelaunchError } from '../../errors.ts';
import { isThere, readPlainFile } from '../../files/plain-file.ts';
import { firstWrong, readJson } from '../json-file.ts';

/** Reference logits of one row of the teacher-forced sequence promptIds + greedyIds. Row r is what comes out after ids[0..r]. */
export interface ExpectedRow {
  readonly row: number;
  /** full: every logit, in order of id. top: those of `ids` only, best first. */
  readonly kind: 'full' | 'top';
  readonly ids?: readonly number[];
  readonly logits: ArrayLike<number>;
}

export interface GoldenCase {
  readonly promptIds: readonly number[];
  readonly greedyIds: readonly number[];
  /** Per new token: best logit minus second best of its teacher-forced row. */
  readonly margin?: readonly number[];
  /** Mean negative log likelihood [nats per token] of ids[1..rows] given the ids before them. */
  readonly nll?: { readonly value: number; readonly rows: number };
  /** Why greedyIds are not the greedy continuation of promptIds; logits, margin and nll hold all the same. */
  readonly greedyUnusable?: string;
  readonly expected: readonly ExpectedRow[];
}

export interface Golden {
  readonly source: string;
  /** Known when a row is complete, or when the caller told. */
  readonly vocab?: number;
  /** Digits after the point of printed logits; null: every logit is an exact float32. */
  readonly decimals: number | null;
  readonly nllDecimals: number | null;
  readonly cases: readonly GoldenCase[];
}

const ids = z.array(z.int().nonnegative()).min(1);
const logits = z.array(z.number()).min(1);

const caseSchema = z.object({
  prompt_ids: ids,
  greedy_ids: ids,
  margin: z.array(z.number().nonnegative()).optional(),
  nll: z.number().nonnegative().optional(),
  prompt_nll: z.number().nonnegative().optional(),
  last_prompt_logits: logits.optional(),
  top5_ids: z.array(ids).optional(),
  top5_logits: z.array(logits).optional(),
  logits_file: z.string().optional(),
});
type RawCase = z.infer<typeof caseSchema>;

const goldenSchema = z.object({ source: z.string(), cases: z.array(caseSchema).min(1) });

/** The cases of a golden file: a fixture's (last_prompt_logits), a model's (top5_ids, top5_logits) or one with logits_file
 *  [new, vocab] raw little-endian float32 beside it.
 *  @param options.vocab refuses a file of another model.
 *  @throws OnelaunchError usage: unreadable, not JSON, keys missing, lengths that disagree, ids outside the vocabulary. */
export function readGolden(path: string, options: { readonly vocab?: number } = {}): Golden {
  if (!isThere(path, HINT)) {
    throw new OnelaunchError('usage', `cannot read the golden file ${path}`, { hint: HINT });
  }
  const file = readJson(path, { mostBytes, hint: HINT });
  const parsed = goldenSchema.safeParse(file);
  if (!parsed.success) broken(path, firstWrong(parsed.error, file));
  const raw = parsed.data;
  const files = raw.cases.map((c, i) =>
    c.logits_file === undefined ? undefined : readRows(path, i, c, c.logits_file),
  );

  const vocabs = raw.cases.flatMap((c, i) => [
    ...(c.last_prompt_logits
      ? [{ at: `cases[${i}].last_prompt_logits`, vocab: c.last_prompt_logits.length }]
      : []),
    ...(files[i] ? [{ at: `cases[${i}].logits_file`, vocab: files[i].length / c.greedy_ids.length }] : []),
  ]);
  const vocab = options.vocab ?? vocabs[0]?.vocab;
  for (const found of vocabs) {
    if (found.vocab !== vocab)
      broken(path, `${found.at} has ${found.vocab} logits a row; the vocabulary is ${vocab}`);
  }
  const cases = raw.cases.map((c, i) => readCase(path, i, c, files[i], vocab));
  const printed = raw.cases.flatMap((c) => [
    ...(c.last_prompt_logits ?? []),
    ...(c.top5_logits ?? []).flat(),
  ]);
  const exact = raw.cases.every((c) => c.logits_file !== undefined && c.last_prompt_logits === undefined);
  return {
    source: raw.source,
    ...(vocab === undefined ? {} : { vocab }),
    decimals: exact ? null : decimalsOf(printed),
    nllDecimals: decimalsOf(raw.cases.flatMap((c) => c.nll ?? c.prompt_nll ?? [])),
    cases,
  };
}

function readCase(
  path: string,
  index: number,
  c: RawCase,
  file: Float32Array | undefined,
  vocab: number | undefined,
): GoldenCase {
  const at = `cases[${index}]`;
  const fresh = c.greedy_ids.length;
  const first = c.prompt_ids.length - 1;
  const same = (key: string, length: number, wanted: number, of = 'one for each of greedy_ids') => {
    if (length !== wanted) broken(path, `${at}.${key} has ${length} entries; ${wanted} are needed, ${of}`);
  };
  const known = (key: string, list: readonly number[]) => {
    const bad = list.find((id) => vocab !== undefined && id >= vocab);
    if (bad !== undefined) broken(path, `${at}.${key} has id ${bad}; the vocabulary is ${vocab}`);
  };
  known('prompt_ids', c.prompt_ids);
  known('greedy_ids', c.greedy_ids);
  if (c.margin) same('margin', c.margin.length, fresh);

  const { top5_ids: topIds, top5_logits: topLogits } = c;
  if ((topIds === undefined) !== (topLogits === undefined)) {
    broken(path, `${at} has ${topIds ? 'top5_ids without top5_logits' : 'top5_logits without top5_ids'}`);
  }
  const top: ExpectedRow[] = [];
  if (topIds && topLogits) {
    same('top5_ids', topIds.length, fresh);
    same('top5_logits', topLogits.length, fresh);
    topIds.forEach((row, j) => {
      const values = topLogits[j]!;
      same(`top5_logits[${j}]`, values.length, row.length, `one for each of top5_ids[${j}]`);
      known(`top5_ids[${j}]`, row);
      if (values.some((v, k) => k > 0 && v > values[k - 1]!))
        broken(path, `${at}.top5_logits[${j}] is not sorted`);
      top.push({ row: first + j, kind: 'top', ids: row, logits: values });
    });
  }

  const expected: ExpectedRow[] = file ? [] : top;
  if (file) {
    const width = file.length / fresh;
    for (let j = 0; j < fresh; j++) {
      expected.push({ row: first + j, kind: 'full', logits: file.subarray(j * width, (j + 1) * width) });
    }
    const half = 0.5 * 10 ** -(decimalsOf(topLogits?.flat() ?? []) ?? 0);
    top.forEach((row, j) => {
      agrees(path, `${at}.logits_file row ${j}`, row, expected[j]!, half);
    });
  }
  if (c.last_prompt_logits) expected.unshift({ row: first, kind: 'full', logits: c.last_prompt_logits });
  if (expected.length === 0) {
    broken(
      path,
      `${at} has nothing to compare: last_prompt_logits, top5_ids and top5_logits, or logits_file`,
    );
  }

  const margin =
    c.margin ?? (topLogits?.every((row) => row.length > 1) && topLogits.map((row) => row[0]! - row[1]!));
  const nll = c.nll !== undefined ? { value: c.nll, rows: first + fresh } : undefined;
  const promptNll =
    c.prompt_nll !== undefined && first > 0 ? { value: c.prompt_nll, rows: first } : undefined;
  const counted = nll ?? promptNll;
  const unusable = greedyUnusable(c);
  return {
    promptIds: c.prompt_ids,
    greedyIds: c.greedy_ids,
    ...(margin ? { margin } : {}),
    ...(counted ? { nll: counted } : {}),
    ...(unusable ? { greedyUnusable: unusable } : {}),
    expected,
  };
}

/** Files with last_prompt_logits were made by generate(pad_token_id=0) without an attention mask: transformers then takes every 0
 *  of the prompt for padding and leaves it out, so the continuation belongs to the prompt without its zeros. */
function greedyUnusable(c: RawCase): string | undefined {
  if (c.last_prompt_logits === undefined || !c.prompt_ids.includes(0)) return undefined;
  return 'greedy ids were generated with id 0 of the prompt masked as padding';
}

/** A logits file beside a newer golden.json would be compared in vain. */
function agrees(path: string, at: string, top: ExpectedRow, full: ExpectedRow, half: number): void {
  top.ids?.forEach((id, k) => {
    const [listed, stored] = [top.logits[k]!, full.logits[id]!];
    if (!(Math.abs(listed - stored) <= half + Math.abs(stored) * 2 ** -24)) {
      broken(
        path,
        `${at} says ${stored} for id ${id}, but top5_logits ${listed}: the file is of another run`,
      );
    }
  });
}

function readRows(path: string, index: number, c: RawCase, name: string): Float32Array {
  const at = `cases[${index}].logits_file`;
  if (name !== basename(name)) broken(path, `${at} is ${name}; it must be a file in the same folder`);
  const file = join(dirname(path), name);
  if (!isThere(file, HINT)) broken(path, `${at}: there is no ${name} beside it`);
  const data = readPlainFile(file, mostLogitsBytes, HINT);
  const bytes = data.byteLength;
  const rowBytes = bytes / c.greedy_ids.length;
  if (bytes === 0 || rowBytes % 4 !== 0) {
    broken(path, `${at}: ${name} has ${bytes} bytes, not ${c.greedy_ids.length} rows of float32`);
  }
  const rows = new Float32Array(data.buffer.slice(data.byteOffset, data.byteOffset + bytes));
  const bad = rows.findIndex((v) => !Number.isFinite(v));
  if (bad >= 0) broken(path, `${at}: ${name} holds ${rows[bad]} at float ${bad}`);
  return rows;
}

/** Of a golden file, and of the logits beside it: 4000 rows of a vocabulary of 250,000. */
const mostBytes = 256_000_000;
const mostLogitsBytes = 4_000_000_000;

/** Most digits after the point among the shortest forms of the values; null without any. */
function decimalsOf(values: readonly number[]): number | null {
  const digits = values.map((v) => {
    const [mantissa, exponent] = String(v).split('e');
    return Math.max(0, (mantissa?.split('.')[1]?.length ?? 0) - Number(exponent ?? 0));
  });
  return digits.length === 0 ? null : digits.reduce((a, b) => Math.max(a, b));
}

const HINT = 'a golden file holds source and cases[] with prompt_ids, greedy_ids and the reference logits';

function broken(path: string, what: string): never {
  throw new OnelaunchError('usage', `broken golden file ${path}: ${what}`, { hint: HINT });
}
