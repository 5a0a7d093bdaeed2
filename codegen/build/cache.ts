// The folder of built libraries: finding one that can be trusted, putting one in its place, and clearing what dead builders left.
import { createHash, randomBytes } from 'node:crypto';
import { existsSync, readdirSync, readFileSync, renameSync, rmSync, statSync } from 'node:fs';
import { basename, join } from 'node:path';
import { type Manifest, manifestSchema } from '../../abi/manifest.ts';
import { tryLock } from '../../files/file-lock.ts';
import type { Kernel } from '../kernel.ts';

/** What a folder holds: a library that is what its manifest says, or the reason why it is none. */
export type Entry =
  | { readonly state: 'none' }
  | { readonly state: 'damaged'; readonly why: string }
  | { readonly state: 'whole'; readonly manifest: Manifest };

/** Reads a manifest and compares the library with it, byte for byte by its hash. */
export function readEntry(directory: string): Entry {
  const path = join(directory, 'manifest.json');
  if (!existsSync(path)) return existsSync(directory) ? damaged(`${path} is missing`) : { state: 'none' };
  const manifest = readManifest(path);
  if (!manifest) return damaged(`${path} cannot be read`);
  const library = join(directory, manifest.library);
  try {
    const { size } = statSync(library);
    if (size !== manifest.libraryBytes) {
      return damaged(`${library} has ${size} bytes of ${manifest.libraryBytes}`);
    }
    if (sha256(library) !== manifest.librarySha256) return damaged(`${library} is not what was compiled`);
    return { state: 'whole', manifest };
  } catch {
    return damaged(`${library} cannot be read`);
  }
}

const damaged = (why: string): Entry => ({ state: 'damaged', why });

export const sha256 = (path: string): string => createHash('sha256').update(readFileSync(path)).digest('hex');

function readManifest(path: string): Manifest | null {
  try {
    return manifestSchema.parse(JSON.parse(readFileSync(path, 'utf8')));
  } catch {
    return null;
  }
}

/** Letters of a kernel's name in that of its folder: a file system has 255 for both, and a work folder has more behind it. */
const mostLetters = 128;

/** The folder of a build: the kernel's name is for people, as much of it as fits; the key finds it. */
export function directoryOf(root: string, { name }: Pick<Kernel, 'name'>, key: string): string {
  const named = join(root, `${name.slice(0, mostLetters)}-${key}`);
  if (existsSync(named)) return named;
  const other = namesIn(root).find((folder) => folder.endsWith(`-${key}`));
  return other ? join(root, other) : named;
}

/** Folders that were made by a recipe, with whichever compilers. */
export const directoriesOf = (root: string, recipe: string): string[] =>
  namesIn(root)
    .filter((name) => /-[0-9a-f]{12}$/.test(name))
    .map((name) => join(root, name))
    .filter((folder) => readManifest(join(folder, 'manifest.json'))?.build.recipe === recipe);

function namesIn(root: string): string[] {
  try {
    return readdirSync(root).sort();
  } catch {
    return [];
  }
}

/** A folder to work in, of a name that no other build has. */
export const workFolder = (directory: string): string => `${directory}.${randomBytes(6).toString('hex')}.tmp`;

/** Where the builders of a key meet. */
export const lockOf = (root: string, key: string): string => join(root, `${key}.lock`);

/** Puts a finished build in its place. Who has opened the library that was there keeps it. */
export function moveInto(work: string, directory: string): void {
  if (existsSync(directory)) {
    const old = workFolder(directory);
    renameSync(directory, old);
    renameSync(work, directory);
    removeQuietly(old);
  } else {
    renameSync(work, directory);
  }
}

/** Cleaning up must not hide the error that made it necessary. */
export function removeQuietly(path: string): void {
  try {
    rmSync(path, { recursive: true, force: true });
  } catch {
    // Left for the next build, or for people.
  }
}

/** Removes the work folders and locks of builders that are gone. @param own the key whose lock the caller holds */
export async function removeStale(root: string, own: string): Promise<void> {
  const left = new Map<string, string[]>();
  for (const name of namesIn(root)) {
    if (/^ops-\w+\.json\..*\.tmp$/.test(name) && isOld(join(root, name))) removeQuietly(join(root, name));
    const key = /-([0-9a-f]{12})\.\w+\.tmp$/.exec(name)?.[1] ?? /^([0-9a-f]{12})\.lock$/.exec(name)?.[1];
    if (key) left.set(key, [...(left.get(key) ?? []), join(root, name)]);
  }
  for (const [key, paths] of left) {
    const folders = paths.filter((path) => basename(path) !== `${key}.lock`);
    if (key === own) {
      folders.forEach(removeQuietly);
      continue;
    }
    try {
      // A builder that lives has the lock of its key. To let go of one removes its file.
      const lock = await tryLock(lockOf(root, key));
      if (lock?.held) folders.forEach(removeQuietly);
      lock?.release();
    } catch {
      // Of another user: theirs to remove.
    }
  }
}

/** Not touched for an hour: nobody writes a small file for so long. */
function isOld(path: string): boolean {
  try {
    return Date.now() - statSync(path).mtimeMs > 3_600_000;
  } catch {
    return false;
  }
}
