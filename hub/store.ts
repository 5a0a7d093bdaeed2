// Where the files of a model are put: in the Hub cache, as links to blobs that are named by their hash, or plainly in a folder.
import { renameSync, rmSync, statSync, symlinkSync, writeFileSync } from 'node:fs';
import { basename, dirname, join, relative } from 'node:path';
import { makeFolder } from '../files/make-folder.ts';
import { isWhole } from './download.ts';
import { folderOf } from './id.ts';
import type { Repo, RepoFile } from './repo.ts';
import { isFile } from './weights.ts';

export interface Store {
  /** Where the model is found when all is here. */
  readonly directory: string;
  /** What two downloads at once must not share. */
  readonly parts: string;
  part(file: RepoFile): string;
  /** Whether the whole file is here already. */
  has(file: RepoFile, signal: AbortSignal): Promise<boolean>;
  /** Puts a whole part into its place, or a file that is here already. */
  place(file: RepoFile): void;
  /** When all files are in their places. */
  finish(): void;
}

/** models--ORG--NAME in the cache; tools in Python find there what this writes. */
export function cacheStore(cache: string, repo: Repo): Store {
  const root = join(cache, folderOf(repo.id));
  const blobs = join(root, 'blobs');
  const directory = join(root, 'snapshots', repo.commit);
  const blob = (file: RepoFile) => join(blobs, file.hash);
  const part = (file: RepoFile) => `${blob(file)}.pull.incomplete`;
  for (const folder of [blobs, directory]) makeFolder(folder);
  return {
    directory,
    parts: blobs,
    part,
    has: async (file) => isOfSize(blob(file), file) || isOfSize(join(directory, file.name), file),
    place: (file) => {
      if (isFile(part(file))) renameSync(part(file), blob(file));
      const path = join(directory, file.name);
      // There from before; where links cannot be, as the file itself.
      if (isOfSize(path, file)) return;
      rmSync(path, { force: true });
      makeFolder(dirname(path));
      try {
        symlinkSync(relative(dirname(path), blob(file)), path);
      } catch {
        renameSync(blob(file), path);
      }
    },
    finish: () => {
      const { revision } = repo.asked;
      if (revision === repo.commit) return;
      const ref = join(root, 'refs', revision);
      makeFolder(dirname(ref));
      writeFileSync(ref, repo.commit);
    },
  };
}

/** A folder of the user's, with nothing but the files. */
export function folderStore(directory: string): Store {
  makeFolder(directory);
  const path = (file: RepoFile) => join(directory, file.name);
  const part = (file: RepoFile) =>
    join(directory, `${basename(file.name)}.${file.hash.slice(0, 12)}.incomplete`);
  return {
    directory,
    parts: directory,
    part,
    has: async (file, signal) => isOfSize(path(file), file) && (await isWhole(file, path(file), signal)),
    place: (file) => {
      if (!isFile(part(file))) return;
      makeFolder(dirname(path(file)));
      renameSync(part(file), path(file));
    },
    finish: () => {},
  };
}

const isOfSize = (path: string, { bytes }: RepoFile): boolean =>
  statSync(path, { throwIfNoEntry: false })?.size === bytes;
