// Sources into a shared library, once: a folder that ends in the hash of everything that went in, whatever the kernel is called.
import { writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import type { Manifest } from '../../abi/manifest.ts';
import { BuildError } from '../../errors.ts';
import { waitForLock } from '../../files/file-lock.ts';
import { makeFolder } from '../../files/make-folder.ts';
import { writeError } from '../../files/write-failure.ts';
import { needArguments, needKernel } from '../given.ts';
import type { Kernel } from '../kernel.ts';
import {
  directoriesOf,
  directoryOf,
  type Entry,
  lockOf,
  moveInto,
  readEntry,
  removeQuietly,
  removeStale,
  workFolder,
} from './cache.ts';
import { pathsHere } from './cpu-paths.ts';
import { debug } from './debug.ts';
import { described, manifestOf } from './describe.ts';
import { SharedObjects } from './objects.ts';
import { buildHints, outputRoot } from './output-root.ts';
import { type Flavour, findTools, keyOf, type Recipe, recipeOf } from './recipe.ts';
import { parseResources, spillLines } from './resources.ts';
import { type BuildProgress, runAll, runStep } from './run-steps.ts';

/** How a kernel is built; `signal` ends the compilers with its reason as the error. */
export interface BuildOptions extends Flavour {
  /** Build even when the cache has it. */
  readonly force?: boolean;
  /** Refuse, rather than compile, what is not built. */
  readonly builtBefore?: boolean;
  readonly signal?: AbortSignal | undefined;
  /** Hears what is run, what it prints and how long it took. */
  readonly onProgress?: ((progress: BuildProgress) => void) | undefined;
}

/** A library, and where it is. */
export interface Built {
  /** Folder of sources, library and manifest. */
  readonly directory: string;
  /** Path of the library. */
  readonly library: string;
  readonly manifest: Manifest;
  /** It was there: nothing was compiled. */
  readonly cached: boolean;
  /** What building, or finding it built, took [ms]. */
  readonly millis: number;
}

/**
 * Builds a kernel, or finds it built. Of several that ask for the same at a time, in threads or processes, one builds and the others wait.
 * @throws BuildError `environment` without a compiler, `failed` when it refuses the sources; OnelaunchError `environment` without a place to write.
 */
export async function build(kernel: Kernel, options: BuildOptions = {}): Promise<Built> {
  const started = performance.now();
  needKernel(kernel, 'schedule', 'sources');
  needArguments('build', options, 'kernel, { force: true }');
  const { signal, onProgress } = options;
  const note = (line: string) => onProgress?.({ event: 'note', line });
  const builtIn = (directory: string, made: Manifest, cached: boolean): Built => ({
    directory,
    library: join(directory, made.library),
    // It may have been built under another name, and on a machine of another instruction set.
    manifest: { ...made, ...described(kernel, made.paths) },
    cached,
    millis: performance.now() - started,
  });
  const recipe = recipeOf(kernel, options);
  const tools = findTools(recipe);
  if (tools instanceof Error) {
    const found = options.force ? null : withoutCompiler(recipe, options, note);
    if (!found) throw tools;
    return builtIn(found.directory, found.manifest, true);
  }
  const root = outputRoot();
  const key = keyOf(recipe, tools);
  const before = directoryOf(root, kernel, key);
  const found = options.force ? null : usable(readEntry(before), recipe);
  if (found) return builtIn(before, found, true);
  if (options.builtBefore) {
    const elsewhere = withoutCompiler(recipe, options, note);
    if (elsewhere) return builtIn(elsewhere.directory, elsewhere.manifest, true);
    throw notBuilt(kernel);
  }
  const lock = await writing(root, async () => {
    makeFolder(root);
    return waitForBuilders(lockOf(root, key), options);
  });
  // Another may have built it meanwhile, under another name.
  const directory = directoryOf(root, kernel, key);
  const work = workFolder(directory);
  try {
    const entry = readEntry(directory);
    const meanwhile = usable(entry, recipe);
    if (meanwhile && (lock.waited || !options.force)) return builtIn(directory, meanwhile, true);
    if (lock.held) await removeStale(root, key);
    const paths = pathsToBuild(entry, recipe, note);
    const steps = recipe.steps(paths);
    const temporary = join(work, 'tmp');
    await writing(root, () => writeSources(work, temporary, kernel));
    const run = { folder: work, temporary, tools, sources: kernel.sources, signal, onProgress };
    const objects = new SharedObjects(root, work, kernel.sources, tools);
    const missing = steps.compile.filter((step) => options.force || !objects.take(step));
    const resources = parseResources(await runAll(missing, run));
    for (const step of missing) objects.keep(step);
    spillLines(resources).forEach(note);
    await runStep(steps.link, run);
    const millis = Math.round(performance.now() - started);
    const made = manifestOf(kernel, recipe, tools, { work, paths, millis, resources });
    await writing(root, () => {
      removeQuietly(temporary);
      writeFileSync(join(work, 'manifest.json'), `${JSON.stringify(made, null, 1)}\n`);
      moveInto(work, directory);
    });
    return builtIn(directory, made, false);
  } finally {
    removeQuietly(work);
    lock.release();
  }
}

const notBuilt = ({ name }: Kernel) =>
  new BuildError('environment', `${name} is not built in ${outputRoot()}`, {
    hint: 'build it first, with the same ONELAUNCH_CACHE',
  });

/** Does what writes into a folder. @throws OnelaunchError environment where it cannot */
async function writing<T>(folder: string, work: () => T | Promise<T>): Promise<T> {
  try {
    return await work();
  } catch (error) {
    throw writeError(folder, error, buildHints);
  }
}

async function waitForBuilders(path: string, { signal, onProgress }: BuildOptions) {
  const line = 'waiting for another build of this kernel';
  const begun = performance.now();
  let waited = false;
  const onWait = () => {
    waited = true;
    onProgress?.({ event: 'begun', line });
  };
  const lock = await waitForLock(path, { signal, onWait });
  if (waited) onProgress?.({ event: 'ended', line, millis: performance.now() - begun });
  return { ...lock, waited };
}

/** The manifest of a library that is whole and has all that is asked for. */
const usable = (entry: Entry, recipe: Recipe): Manifest | null =>
  entry.state === 'whole' && recipe.paths.every((path) => entry.manifest.paths.includes(path))
    ? entry.manifest
    : null;

/** A library of the same sources and flags, by whichever compiler, that this machine can run; to ship, one that all can. */
function withoutCompiler(recipe: Recipe, { ship }: BuildOptions, note: (line: string) => void) {
  const here = pathsHere();
  for (const directory of directoriesOf(outputRoot(), recipe.hash)) {
    const entry = readEntry(directory);
    if (entry.state === 'damaged') note(`${entry.why}, and there is no compiler to build it again`);
    if (entry.state !== 'whole') continue;
    const { manifest } = entry;
    const runs = here === null || here.some(({ name }) => manifest.paths.includes(name));
    if (usable(entry, recipe) || (runs && !ship)) return { directory, manifest };
    note(
      `${directory} has code for ${manifest.paths.join(', ')} only, and there is no compiler to add to it`,
    );
  }
  return null;
}

/** What is asked for, and what the folder had: those who share it may need that. */
function pathsToBuild(entry: Entry, recipe: Recipe, note: (line: string) => void): readonly string[] {
  if (entry.state === 'damaged') note(`${entry.why}: building it again`);
  if (entry.state !== 'whole') return recipe.paths;
  const { paths } = entry.manifest;
  const missing = recipe.paths.filter((path) => !paths.includes(path));
  if (missing.length > 0) note(`built before for ${paths.join(', ')}: now for ${missing.join(', ')} too`);
  return [...new Set([...paths, ...recipe.paths])];
}

function writeSources(folder: string, temporary: string, kernel: Kernel): void {
  makeFolder(temporary);
  for (const [name, text] of Object.entries(kernel.sources)) {
    debug(1, () => `${join(folder, name)}: ${text.length} characters`);
    makeFolder(dirname(join(folder, name)));
    writeFileSync(join(folder, name), text);
  }
}
