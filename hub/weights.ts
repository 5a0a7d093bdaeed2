// Which files a model is: those that gen pull fetches, and those without which a snapshot is not complete.
import { readdirSync, readFileSync, type Stats, statSync } from 'node:fs';
import { join } from 'node:path';

export const single = 'model.safetensors';
export const index = 'model.safetensors.index.json';

/** Folders with small files: of how embeddings are pooled, as sentence-transformers names it, and of chat templates beside the default one. */
const below = { '1_Pooling': /^config\.json$/, additional_chat_templates: /^[\w.-]+\.jinja$/ };

/** Small files of a model: dims, defaults of sampling, tokenizer, chat templates, pooling, and by which sentence-transformers knows one of embeddings. */
export const isSmallFile = (name: string): boolean =>
  /^(?:config|generation_config|special_tokens_map|added_tokens)\.json$/.test(name) ||
  /^(?:modules|config_sentence_transformers)\.json$/.test(name) ||
  /^(?:tokenizer|chat_template)[\w.-]*\.(?:json|jinja|model)$/.test(name) ||
  Object.entries(below).some(
    ([folder, names]) => name.startsWith(`${folder}/`) && names.test(name.slice(folder.length + 1)),
  );

/** The names of those in the folder of a model. */
export const smallFilesIn = (directory: string): string[] =>
  ['.', ...Object.keys(below)]
    .filter((folder) => isDirectory(join(directory, folder)))
    .flatMap((folder) => readdirSync(join(directory, folder)).map((name) => join(folder, name)))
    .filter((name) => isSmallFile(name) && isFile(join(directory, name)));

/** The shards that the text of an index names; null if it is no index, or names what is no plain file beside it. */
export function shardsOf(text: string): string[] | null {
  try {
    const { weight_map: map } = JSON.parse(text) as { weight_map?: unknown };
    if (typeof map !== 'object' || map === null) return null;
    const shards = [...new Set(Object.values(map) as unknown[])];
    const areNames = shards.every(
      (name) => typeof name === 'string' && /^\w[\w.-]*\.safetensors$/.test(name),
    );
    return areNames && shards.length > 0 ? (shards as string[]) : null;
  } catch {
    return null;
  }
}

/** A link to a blob that is gone is no file. */
export const isFile = (path: string): boolean => look(path)?.isFile() ?? false;
export const isDirectory = (path: string): boolean => look(path)?.isDirectory() ?? false;

/** What may not be looked at is not there: the cache of another user. */
function look(path: string): Stats | undefined {
  try {
    return statSync(path, { throwIfNoEntry: false });
  } catch {
    return undefined;
  }
}

/** The first file that a snapshot lacks to be run; null: none. */
export function missingFile(directory: string): string | null {
  const has = (name: string) => isFile(join(directory, name));
  if (!has('config.json')) return 'config.json';
  if (has(single)) return null;
  if (!has(index)) return single;
  const shards = shardsOf(readFileSync(join(directory, index), 'utf8'));
  if (shards === null) return index;
  return shards.find((name) => !has(name)) ?? null;
}
