// The values of a scheme's options: which there are, how one is read from a flag, and how it is written there.
import { z } from 'zod';
import { type FusionPlan, fit, type SplitStep } from '../codegen/plan/plan.ts';
import { schemeOptions } from '../codegen/plan/shape.ts';

export type SchemeKind = FusionPlan['scheme']['kind'];
export type OptionValue = string | number | boolean | readonly SplitStep[];

const option = (kind: SchemeKind, key: string) => schemeOptions[kind][key]!;

export const optionNames = (kind: SchemeKind): string[] => Object.keys(schemeOptions[kind]);

/** Of options that a text says otherwise than a plan file, or cannot say. */
const takenAsText: Readonly<Record<string, string>> = {
  splits: "'fit', or up to 16 splits and the position from which on: 1:0+4:128",
  pollCycles: "'fit'; cycles are given in a plan file",
};

/** What it takes as a text, in words. */
export const takenBy = (kind: SchemeKind, key: string): string => takenAsText[key] ?? option(kind, key).takes;

/** The value that a text means: a number, a word, or `1:0+16:192` for 16 splits from position 192 on; undefined: the option does not take it. */
export function readOption(kind: SchemeKind, key: string, text: string): OptionValue | undefined {
  const value = meantBy(text);
  return option(kind, key).is.safeParse(value).success ? value : undefined;
}

function meantBy(text: string): OptionValue {
  if (/^\d+:\d+(\+\d+:\d+)*$/.test(text)) {
    return text.split('+').map((step) => {
      const [splits, from] = step.split(':').map(Number);
      return { splits: splits!, from: from! };
    });
  }
  if (text === 'true' || text === 'false') return text === 'true';
  return /^\d+$/.test(text) ? Number(text) : text;
}

/** The text that `readOption` reads as this value; null for one that no text means. */
export function optionText(value: unknown): string | null {
  if (typeof value === 'string' || typeof value === 'number' || typeof value === 'boolean')
    return String(value);
  const steps = z.array(z.object({ splits: z.number(), from: z.number() })).safeParse(value);
  return steps.success ? steps.data.map(({ splits, from }) => `${splits}:${from}`).join('+') : null;
}

interface Accepted {
  /** Listed one by one. */
  readonly words: readonly OptionValue[];
  /** A range of whole numbers. */
  readonly range: { readonly least: number; readonly most: number } | null;
  /** There are others without an end: any number, lists. */
  readonly isOpen: boolean;
}

/** As the option's own shape says, so that an option that is new is known here. */
const acceptedBy = (kind: SchemeKind, key: string): Accepted =>
  readShape(z.toJSONSchema(option(kind, key).is, { unrepresentable: 'any' }));

const shape = z.looseObject({
  anyOf: z.array(z.unknown()).default([]),
  enum: z.array(z.union([z.string(), z.number()])).default([]),
  const: z.union([z.string(), z.number(), z.boolean()]).optional(),
  type: z.string().optional(),
  minimum: z.number().optional(),
  maximum: z.number().optional(),
});

function readShape(value: unknown): Accepted {
  const { anyOf, enum: listed, const: only, type, minimum, maximum } = shape.parse(value);
  const parts = anyOf.map(readShape);
  const one = only === undefined ? [] : [only];
  const own = [...listed, ...one, ...(type === 'boolean' && only === undefined ? [true, false] : [])];
  const isRange = type === 'integer' && own.length === 0 && minimum !== undefined && maximum !== undefined;
  return {
    words: [...own, ...parts.flatMap(({ words }) => words)],
    range: isRange ? { least: minimum, most: maximum } : (parts.find((part) => part.range)?.range ?? null),
    isOpen: (parts.length === 0 && own.length === 0 && !isRange) || parts.some((part) => part.isOpen),
  };
}

/** Every value; null: they have no end, so that one must list those that are meant. */
export function allValues(kind: SchemeKind, key: string): readonly OptionValue[] | null {
  const { words, range, isOpen } = acceptedBy(kind, key);
  return isOpen ? null : [...words, ...numbersOf(range)];
}

const numbersOf = (range: Accepted['range']): number[] =>
  range ? Array.from({ length: range.most - range.least + 1 }, (_, i) => range.least + i) : [];

/** Values worth trying alone beside `value`: all other words; of numbers half and twice as much. */
export function othersThan(kind: SchemeKind, key: string, value: unknown): readonly OptionValue[] {
  const { words, range } = acceptedBy(kind, key);
  const beside = range ? [1, 2, 4, 8] : [1];
  const near = typeof value !== 'number' ? beside : value === 0 ? [1, 2] : [value >> 1, 2 * value];
  const numbers = near.filter((number) => option(kind, key).is.safeParse(number).success);
  const others = [...words.filter((word) => word !== fit), ...numbers].filter((other) => other !== undefined);
  return [...new Set(others)].filter((other) => optionText(other) !== optionText(value));
}
