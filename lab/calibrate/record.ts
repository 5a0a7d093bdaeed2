// What a calibration measured, as a file: a target can be made of it anew when the description of costs changes.
import { z } from 'zod';
import { weightNames } from '../../codegen/model/formats.ts';
import { OnelaunchError } from '../../errors.ts';
import { readPlainFile } from '../../files/plain-file.ts';

const positive = z.number().positive();

/** One line of a probe: us, or GB/s. */
const figureShape = z.object({
  term: z.string(),
  /** What the figure depends on: values of an exchange, loads under way, MiB; 0 where on nothing. */
  x: z.number(),
  value: positive,
  least: positive,
  most: positive,
});
export type ProbeFigure = z.infer<typeof figureShape>;

/** spreadOf of lab/measure.ts. */
const spreadShape = z.object({ median: positive, least: positive, most: positive, spread: z.number() });

/** Decode of a kernel at a position: `tokens` of the record, the first of them there. */
const pointShape = z.object({
  /** As it was asked for: a known name, or a directory. */
  model: z.string(),
  /** What its matrices were rounded to, if to anything. */
  weights: z.enum(weightNames).optional(),
  plan: z.string(),
  position: z.int().nonnegative(),
  tokensPerSecond: spreadShape,
});
export type TimedPoint = z.infer<typeof pointShape>;

/** A prompt on an empty cache: from its first pass to its first token, as the engine measures it. */
const promptShape = z.object({
  model: z.string(),
  /** That of prompts, beside the stream. */
  plan: z.string(),
  tokens: z.int().positive(),
  millis: spreadShape,
});
export type TimedPrompt = z.infer<typeof promptShape>;

const recordShape = z.object({
  /** YYYY-MM-DD, and what it was measured on. */
  date: z.string(),
  device: z.string(),
  /** Of the target that it was made for: a record of another makes none of this one. Older records do not say. */
  arch: z.string().optional(),
  /** Right after the last kernel; null on a CPU, and until then. */
  clocks: z.string().nullable(),
  tokens: z.int().positive(),
  figures: z.array(figureShape).min(1),
  pollCycles: z.record(z.string(), z.int().nonnegative()).nullable(),
  /** Where they are from, if not from a search on the first model before its tokens were timed. */
  pollCyclesFrom: z.string().optional(),
  /** Fewer than all where the calibration was interrupted: it goes on from there. */
  points: z.array(pointShape),
  prompts: z.array(promptShape).default([]),
});
export type CalibrationRecord = z.infer<typeof recordShape>;

/** The lines of a probe. */
export const readFigures = (text: string): ProbeFigure[] =>
  text
    .trim()
    .split('\n')
    .map((line) => figureShape.parse(JSON.parse(line)));

const hint = 'gen calibrate writes one beside the target file';

/** @throws usage where the file is not there, or nothing that gen calibrate wrote */
export function readRecord(path: string): CalibrationRecord {
  try {
    return recordShape.parse(JSON.parse(readPlainFile(path, 16_000_000, hint).toString('utf8')));
  } catch (cause) {
    if (cause instanceof OnelaunchError) throw cause;
    throw new OnelaunchError('usage', `${path} is no record of a calibration`, { hint, cause });
  }
}
