// What lies in the Hub cache: for each model its snapshot that is used, or what it lacks. Nothing is fetched or written.
//
//     models--ORG--NAME/refs/main               the commit that main was at
//     models--ORG--NAME/snapshots/COMMIT/FILE   a link into blobs/
//     models--ORG--NAME/blobs/HASH
import { readdirSync, readFileSync, statSync } from 'node:fs';
import { basename, dirname, join, resolve } from 'node:path';
import { folderOf, idOf } from './id.ts';
import { hubCache } from './settings.ts';
import { isDirectory, isFile, missingFile } from './weights.ts';

export interface CachedModel {
  /** ORG/NAME. */
  readonly id: string;
  /** models--ORG--NAME. */
  readonly folder: string;
  /** The snapshot of refs/main, else the newest; one that is complete goes before any other. Null: there is none. */
  readonly snapshot: string | null;
  /** The first file that it lacks; null: it is complete. */
  readonly missing: string | null;
}

/** All models in the cache, complete or not, sorted by name. */
export function cachedModels(cache: string = hubCache()): CachedModel[] {
  return namesIn(cache)
    .filter((name) => idOf(name) !== null)
    .map((name) => readCached(join(cache, name)))
    .filter((model) => model !== null)
    .sort((a, b) => (a.id < b.id ? -1 : 1));
}

/** A model of the cache, its name in any letter case. */
export function findCached(id: string, cache: string = hubCache()): CachedModel | null {
  const exact = readCached(join(cache, folderOf(id)));
  if (exact !== null) return exact;
  const lower = folderOf(id).toLowerCase();
  const alike = namesIn(cache).find((name) => name.toLowerCase() === lower);
  return alike === undefined ? null : readCached(join(cache, alike));
}

/** The model of a path that is models--ORG--NAME, or snapshots in it; null for any other path. */
export function cachedAt(path: string): CachedModel | null {
  const given = resolve(path);
  return readCached(basename(given) === 'snapshots' ? dirname(given) : given);
}

function readCached(folder: string): CachedModel | null {
  const id = idOf(basename(folder));
  if (id === null || !isDirectory(folder)) return null;
  const main = commitIn(join(folder, 'refs', 'main'));
  const snapshots = namesIn(join(folder, 'snapshots'))
    .map((commit) => ({ commit, path: join(folder, 'snapshots', commit) }))
    .filter(({ path }) => isDirectory(path))
    .map(({ commit, path }) => ({ path, isMain: commit === main, millis: statSync(path).mtimeMs }))
    .sort((a, b) => Number(b.isMain) - Number(a.isMain) || b.millis - a.millis)
    .map(({ path }) => ({ path, missing: missingFile(path) }));
  const best = snapshots.find(({ missing }) => missing === null) ?? snapshots[0];
  const { path: snapshot = null, missing = 'config.json' } = best ?? {};
  return { id, folder, snapshot, missing };
}

function namesIn(folder: string): string[] {
  try {
    return readdirSync(folder);
  } catch {
    return [];
  }
}

const commitIn = (path: string): string | null => (isFile(path) ? readFileSync(path, 'utf8').trim() : null);

/** Bytes of all files in blobs/, parts of a download included. */
export function bytesOf({ folder }: CachedModel): number {
  const blobs = join(folder, 'blobs');
  return namesIn(blobs)
    .map((name) => statSync(join(blobs, name), { throwIfNoEntry: false })?.size ?? 0)
    .reduce((sum, bytes) => sum + bytes, 0);
}
