// The JSON files of a model directory, read and checked for their shape.
import type { z } from 'zod';
import { OnelaunchError } from '../errors.ts';
import { parseJson } from '../files/json-text.ts';
import { copyFromRepository, readPlainFile } from '../files/plain-file.ts';
import { inWords } from './limit-words.ts';

/** Of the small files, such as config.json. */
const mostBytes = 16_000_000;
/** Of tokenizer.json: that of a vocabulary of 256,000 tokens has 33 MB. */
export const mostTokenizerBytes = 128_000_000;

/** The JSON in a file, of a model directory unless a hint says otherwise.
 *  @param options.mostBytes refuses a larger file; default 16 MB
 *  @throws OnelaunchError of kind usage. */
export function readJson(
  path: string,
  options: { readonly mostBytes?: number; readonly hint?: string } = {},
): unknown {
  const { hint = copyFromRepository } = options;
  return parseJson(readPlainFile(path, options.mostBytes ?? mostBytes, hint), path, hint);
}

/** The value as the schema describes it, or a usage error that names the file and the first wrong key. */
export function checkShape<Schema extends z.ZodType>(
  schema: Schema,
  value: unknown,
  path: string,
  hint = "Compare with the file in the model's own repository.",
): z.infer<Schema> {
  const parsed = schema.safeParse(value);
  if (parsed.success) return parsed.data;
  throw new OnelaunchError('usage', `${path}: ${firstWrong(parsed.error, value)}`, { hint });
}

/** The first key of the value that is not as a schema describes it, what it is, and what it should be. */
export function firstWrong({ issues }: z.ZodError, value: unknown): string {
  const { path, message } = issues[0]!;
  const key = placeText(path) || 'the file';
  const found = path.reduce((at: unknown, name) => (at as Record<PropertyKey, unknown>)?.[name], value);
  if (found === undefined) return `${key} is missing`;
  const rule = inWords(message)
    .replace(/, received .*/, '')
    .replace(/^Invalid \w+(: )?/, '');
  return `${key} is ${show(found)}, ${rule === '' ? 'not valid here' : rule[0]!.toLowerCase() + rule.slice(1)}`;
}

/** Such as messages[0].role. */
export const placeText = (path: readonly PropertyKey[]): string =>
  path
    .map((part, i) => (typeof part === 'number' ? `[${part}]` : `${i > 0 ? '.' : ''}${String(part)}`))
    .join('');

function show(value: unknown): string {
  try {
    return JSON.stringify(value)?.slice(0, 60) ?? 'undefined';
  } catch {
    // Nested deeper than the stack.
    return 'deeply nested';
  }
}
