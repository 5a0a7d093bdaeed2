// Reads DIR/config.json, and says where in the file the JSON is broken.
import { closeSync, existsSync, readSync, statSync } from 'node:fs';
import { basename, join, resolve } from 'node:path';
import { OnelaunchError } from '../../errors.ts';
import {
  checkDepth,
  copyFromRepository,
  encodingHint,
  isThere,
  openPlainFile,
  readPlainFile,
} from '../../plain-file.ts';
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
  const config = parseJson(readPlainFile(path, mostBytes, copyFromRepository).toString('utf8'), path);
  checkDepth(config, path, copyFromRepository);
  return parseConfig(config, modelName(directory), path);
}

/** A file that is GGUF by its first bytes, or is called so. */
function isGguf(path: string): boolean {
  if (!statSync(path).isFile()) return false;
  if (/\.gguf$/i.test(path)) return true;
  const { fd } = openPlainFile(path, copyFromRepository);
  try {
    const start = Buffer.alloc(4);
    readSync(fd, start, 0, start.length, 0);
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

function parseJson(text: string, path: string): unknown {
  try {
    return JSON.parse(text);
  } catch (cause) {
    const at = findJsonError(text);
    const before = text.slice(0, at).split('\n');
    const what = at >= text.length ? 'the file ends too early' : `unexpected ${JSON.stringify(text[at])}`;
    const message = `${path}:${before.length}:${before.at(-1)!.length + 1}: not valid JSON, ${what}`;
    throw new OnelaunchError('usage', message, {
      hint: encodingHint(text) ?? "Copy the file from the model's own repository again.",
      cause,
    });
  }
}

/** Where JSON goes wrong, as an index into the text: V8 tells it only for some mistakes. */
function findJsonError(text: string): number {
  const closers: string[] = [];
  let expects: 'value' | 'first key' | 'first item' | 'key' | 'colon' | 'comma' = 'value';
  let at = 0;
  const take = (pattern: RegExp): string | undefined => {
    pattern.lastIndex = at;
    const taken = pattern.exec(text)?.[0];
    at += taken?.length ?? 0;
    return taken;
  };
  for (;;) {
    take(/[ \t\r\n]*/y);
    if (expects === 'comma') {
      const mark = take(/[,}\]]/y);
      if (mark === ',' && closers.length > 0) expects = closers.at(-1) === '}' ? 'key' : 'value';
      else if (mark === undefined || mark !== closers.pop()) return mark === undefined ? at : at - 1;
    } else if (expects === 'colon') {
      if (take(/:/y) === undefined) return at;
      expects = 'value';
    } else if (expects === 'first key' && take(/\}/y)) {
      closers.pop();
      expects = 'comma';
    } else if (expects === 'key' || expects === 'first key') {
      if (take(string) === undefined) return at;
      expects = 'colon';
    } else if (expects === 'first item' && take(/\]/y)) {
      closers.pop();
      expects = 'comma';
    } else if (take(/\{/y)) {
      closers.push('}');
      expects = 'first key';
    } else if (take(/\[/y)) {
      closers.push(']');
      expects = 'first item';
    } else if (take(string) ?? take(/-?(?:0|[1-9]\d*)(?:\.\d+)?(?:[eE][+-]?\d+)?|true|false|null/y)) {
      expects = 'comma';
    } else {
      return at;
    }
  }
}

// biome-ignore lint/suspicious/noControlCharactersInRegex: JSON strings hold no control characters.
const string = /"(?:[^"\\\u0000-\u001f]|\\(?:["\\/bfnrt]|u[0-9a-fA-F]{4}))*"/y;
