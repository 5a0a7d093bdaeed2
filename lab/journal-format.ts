// What is told of journals apart from their records, whose reader takes long to load.
import type { JournalHeader } from './journal-records.ts';

/** Goes up when an older reader would misread a journal. */
export const journalFormat = 1;

/** The model, and the formats that it was made into: `qwen3-tiny (weights int8)`. */
export function modelText({ model, formats = {} }: Pick<JournalHeader, 'model' | 'formats'>): string {
  const asked = Object.entries(formats).flatMap(([what, format]) => (format ? [`${what} ${format}`] : []));
  return asked.length === 0 ? model : `${model} (${asked.join(', ')})`;
}
