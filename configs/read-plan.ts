// What a plan file exports, or what its author did wrong: while it is read, and behind that.
import { tmpdir } from 'node:os';
import { basename, join } from 'node:path';
import { packageRoot } from '../codegen/build/package-root.ts';
import { PlanError } from '../codegen/plan/issue.ts';
import { OnelaunchError } from '../errors.ts';
import { temporaryHints } from '../files/temporary-folder.ts';
import { writeError } from '../files/write-failure.ts';
import { heldExit, importPlan, type PlanExports } from './import-plan.ts';

interface PlanFile {
  readonly file: string;
  /** As somebody named it. */
  readonly name: string;
}

const readFiles: PlanFile[] = [];

export async function readPlan(file: string, name: string): Promise<PlanExports> {
  // In a folder that is gone this throws. The thread of the loader ends there as it begins, and Node waits for it for ever.
  process.cwd();
  readFiles.push({ file, name });
  try {
    return await importPlan(file);
  } catch (error) {
    throw failureOf(error, { file, name }, 'cannot read plan');
  }
}

/** What nobody caught, as an error of the plan file that threw it, or that rejected what nobody awaits; null: no plan file did. */
export function uncaughtOfPlan(error: unknown): unknown {
  // What has no stack is told by no place: this package throws errors that have one.
  const from = readFiles.find(({ file }) => framesOf(error).length === 0 || placeIn(file, error) !== null);
  return from ? failureOf(error, from, 'nobody catches what is thrown in plan') : null;
}

/** From here on `process.exit` throws where a plan file that was read calls it, in a timer, say: the command would end as if it had done its work. */
export function refuseExitsOfPlans(): void {
  const { exit } = process;
  const refusing: typeof exit = (code) => {
    const error = new Error(`process.exit(${code ?? ''}) is called`);
    for (const called of [heldExit, refusing]) {
      // Without a frame it was not called by this name.
      Error.captureStackTrace(error, called);
      if (framesOf(error).length > 0) break;
    }
    const isOurs = framesOf(error).some(({ path }) => path.startsWith(packageRoot()));
    const from =
      readFiles.find(({ file }) => placeIn(file, error) !== null) ?? (isOurs ? undefined : readFiles[0]);
    if (from === undefined) return exit(code);
    throw failureOf(error, from, 'the process is ended by plan');
  };
  process.exit = refusing;
}

/** An error of this package as a plan file's own copy of it throws it, where plan files are loaded apart from the program. */
type Own = Pick<OnelaunchError, 'message' | 'kind' | 'hint'> | PlanError;
const isOwn = (error: unknown): error is Own =>
  error instanceof Error &&
  'kind' in error &&
  ['OnelaunchError', 'PlanError', 'ModelNotSupportedError'].includes(error.name);
const retold = ({ kind, message, hint }: Own) =>
  new OnelaunchError(kind, message, hint === undefined ? {} : { hint });

/** Whether it is of the folder in which the loader of plan files, tsx, keeps what it compiled. */
const isOfLoader = (error: unknown): boolean =>
  `${(error as NodeJS.ErrnoException | null)?.path}`.startsWith(join(tmpdir(), 'tsx-'));

/** Where a plan file, or what it imports, threw: as `mine.ts:3:7`; null where that is not known. */
function placeIn(file: string, error: unknown): string | null {
  const own = framesOf(error).filter(({ path }) => path !== '' && !/[/\\]node_modules[/\\]/.test(path));
  const found =
    own.find(({ path }) => path === file) ?? own.find(({ path }) => !path.startsWith(packageRoot()));
  return found === undefined ? null : basename(found.path) + found.place;
}

/** A line of a stack. */
interface Frame {
  /** Of the file; '' for what is no file, such as Node itself. */
  readonly path: string;
  /** As `:3:7`; '' where lines are not those of the file. */
  readonly place: string;
}

/** The lines of its stack; none of what is no error, or has none. */
function framesOf(error: unknown): readonly Frame[] {
  const stack = error instanceof Error ? String(error.stack ?? '') : '';
  return stack.split('\n').flatMap((line) => {
    if (!/^ +at /.test(line)) return [];
    // What the loader compiles as no module.
    const [, compiled] = /[ (]data:text\/javascript,\S*\?filePath=([^:\s]*)/.exec(line) ?? [];
    if (compiled !== undefined) return [{ path: decoded(compiled).replace(/\?.*/, ''), place: '' }];
    const [, scheme, path = '', place = ''] = file.exec(line) ?? [];
    return [{ path: scheme === undefined ? path : decoded(path), place }];
  });
}

/** Of a line, the file that it names as a path or as a URL. */
const file = /^ +at (?:async )?(?:.*? \((?=\/|file:))?(file:\/\/)?(\/[^?]*?)(?:\?[^:]*)?(:\d+:\d+)\)?$/;

/** The path of a file's URL. */
function decoded(path: string): string {
  try {
    return decodeURIComponent(path);
  } catch {
    return path;
  }
}

/** What a plan file lacks, or that it is a program of its own. */
function readHint(error: unknown, reason: string, file: string): string {
  const words = "import { plan, stage } from 'onelaunch/codegen'";
  const isOfPackage = /'onelaunch(\/[^']*)?'/.test(reason);
  const isRequire = (error as NodeJS.ErrnoException | null)?.code === 'MODULE_NOT_FOUND';
  if (/\.c[jt]s$/.test(file))
    return `write it as a module, without require: ${words}, in a file called ${basename(file).slice(0, -3)}ts or .mjs`;
  if (isRequire && isOfPackage) return `write it as a module, without require: ${words}`;
  const isOfWords = error instanceof ReferenceError || isOfPackage;
  return isOfWords ? `start it with: ${words}` : 'a plan file is run as it stands: see what it does there';
}

function failureOf(error: unknown, { file, name }: PlanFile, what: string): unknown {
  if (error instanceof OnelaunchError) return error;
  if (isOfLoader(error)) return writeError(tmpdir(), error, temporaryHints);
  if (isOwn(error)) return 'issues' in error ? new PlanError(error.issues, error.file) : retold(error);
  // What does not parse is said in the second line, with its place.
  const lines = (error instanceof Error ? error.message : String(error)).split('\n');
  const unparsed = lines.find((line) => line.includes('ERROR: '));
  const place = unparsed === undefined ? placeIn(file, error) : null;
  const reason = `${unparsed ?? lines[0]!}${place ? ` (${place})` : ''}`;
  return new OnelaunchError('usage', `${what} ${name}: ${reason}`, {
    hint: readHint(error, reason, file),
    cause: error,
  });
}
