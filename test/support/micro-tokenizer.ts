// A copy of a micro model that reads text: with the first tokens of the bundled model's vocabulary.
import { cpSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { tinyDirectory } from './model-directory.ts';

/** Tokens that every micro model has. */
const size = 500;

export function copyWithTokenizer(model: string, folder: string): string {
  cpSync(model, folder, { recursive: true, filter: (path) => !path.endsWith('golden.json') });
  cpSync(join(tinyDirectory, 'tokenizer_config.json'), join(folder, 'tokenizer_config.json'));
  const file = JSON.parse(readFileSync(join(tinyDirectory, 'tokenizer.json'), 'utf8'));
  const kept = Object.entries<number>(file.model.vocab).filter(([, id]) => id < size);
  const vocab = Object.fromEntries(kept);
  const merges = file.model.merges.filter((merge: string | string[]) => {
    const [a, b] = typeof merge === 'string' ? merge.split(' ') : merge;
    return `${a}${b}` in vocab;
  });
  writeFileSync(
    join(folder, 'tokenizer.json'),
    JSON.stringify({ ...file, model: { ...file.model, vocab, merges } }),
  );
  return folder;
}

/** A text of about so many words, with some in common. */
export const calibrationText = (words: number): string =>
  Array.from(
    { length: words },
    (_, i) => ['the kernel', 'a daemon', 'of water', 'it reads', 'and bytes'][(i * i) % 5],
  ).join(' ');
