// Reads DIR/config.json, or the header of a GGUF file.
import { closeSync, existsSync, statSync } from 'node:fs';
import { basename, join, resolve } from 'node:path';
import { OnelaunchError } from '../../errors.ts';
import { parseJson } from '../../files/json-text.ts';
import {
  copyFromRepository,
  isThere,
  openPlainFile,
  readInto,
  readPlainFile,
} from '../../files/plain-file.ts';
import type { ModelDims } from './dims.ts';
import { readGgufDims } from './gguf-dims.ts';
import { findAdapter, noConfig, notADirectory } from './other-formats.ts';
import { parseConfig } from './parse-dims.ts';

/** Of a config.json, which has some thousands. */
const mostBytes = 16_000_000;

/** Dims of the model in a directory, named after it.
 *  @throws OnelaunchError of kind usage. */
export const readModelDims = (directory: string): ModelDims => readModel(directory).dims;

/** Dims of the model in a directory or a GGUF file, and what the user should know of its config.json, one line each.
 *  @throws OnelaunchError of kind usage. */
export function readModel(directory: string): { dims: ModelDims; notes: readonly string[] } {
  if (!existsSync(directory)) {
    throw new OnelaunchError('usage', `no directory ${directory}`, {
      hint: 'Give the directory that holds config.json and the weights of a model.',
    });
  }
  if (isGguf(directory)) {
    const name = modelName(directory.replace(/\.gguf$/i, ''));
    return { dims: readGgufDims(directory, name), notes: [] };
  }
  if (!statSync(directory).isDirectory()) throw notADirectory(directory);
  const adapter = findAdapter(directory);
  if (adapter !== undefined) throw adapter;
  const path = join(directory, 'config.json');
  if (!isThere(path, copyFromRepository)) throw noConfig(directory);
  const bytes = readPlainFile(path, mostBytes, copyFromRepository);
  const config = parseJson(bytes, path, copyFromRepository);
  return parseConfig(config, modelName(directory), path);
}

/** A file that is GGUF by its first bytes, or is called so. */
function isGguf(path: string): boolean {
  if (!statSync(path).isFile()) return false;
  if (/\.gguf$/i.test(path)) return true;
  const { fd } = openPlainFile(path, copyFromRepository);
  try {
    const start = Buffer.alloc(4);
    readInto(start, fd, path, 0);
    return start.toString('latin1') === 'GGUF';
  } finally {
    closeSync(fd);
  }
}

/** A name fit for a folder: of a snapshot in the Hugging Face cache it is the repository's, models--ORG--NAME/snapshots/HASH. */
export function modelName(directory: string): string {
  const path = resolve(directory);
  const snapshot = /(?:^|\/)models--(?:[^/]*--)?([^/]+)\/snapshots\/[^/]+$/.exec(path)?.[1];
  const name = (snapshot ?? basename(path)).toLowerCase().replace(/[^a-z0-9._-]+/g, '-');
  return /^[a-z0-9]/.test(name) ? name : `model${name}`;
}
