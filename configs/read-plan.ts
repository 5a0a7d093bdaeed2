// A plan file's default export, or what its author did wrong: while it is read, and behind that.
import { tmpdir } from 'node:os';
import { basename, join } from 'node:path';
import { packageRoot } from '../codegen/build/package-root.ts';
import { PlanError } from '../codegen/plan/issue.ts';
import { OnelaunchError } from '../errors.ts';
import { temporaryHints } from '../temporary-folder.ts';
import { writeError } from '../write-failure.ts';
import { importPlan } from './import-plan.ts';

interface PlanFile {
  readonly file: string;
  /** As somebody named it. */
  readonly name: string;
}

const readFiles: PlanFile[] = [];

export async function readPlan(file: string, name: string): Promise<unknown> {
  readFiles.push({ file, name });
  try {
    return await importPlan(file);
  } catch (error) {
    throw failureOf(error, { file, name }, 'cannot read plan');
  }
}

/** What nobody caught, as an error of the plan file that threw it, or that rejected what nobody awaits; null: no plan file did. */
export function uncaughtOfPlan(error: unknown): unknown {
  // What has no stack is told by no place: this package throws errors.
  const from = readFiles.find(({ file }) => !(error instanceof Error) || placeIn(file, error) !== null);
  return from ? failureOf(error, from, 'nobody catches what is thrown in plan') : null;
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
  const stack = error instanceof Error ? (error.stack ?? '') : '';
  const frames = [
    ...stack.matchAll(/(?:^ +at (?:async )?|\()(?:file:\/\/)?(\/[^()?:\n]*)[^():\n]*:(\d+):(\d+)\)?$/gm),
  ];
  const own = frames.filter(([, path]) => !/[/\\]node_modules[/\\]/.test(path!));
  const [, path, line, column] =
    own.find(([, path]) => path === file) ?? own.find(([, path]) => !path!.startsWith(packageRoot())) ?? [];
  return path === undefined ? null : `${basename(path)}:${line}:${column}`;
}

/** What a plan file lacks, or that it is a program of its own. */
function readHint(error: unknown, reason: string): string {
  const words = "import { plan, stage } from 'onelaunch/codegen'";
  const isOfPackage = /'onelaunch(\/[^']*)?'/.test(reason);
  const isRequire = (error as NodeJS.ErrnoException | null)?.code === 'MODULE_NOT_FOUND';
  if (isRequire && isOfPackage) return `write it as a module, without require: ${words}`;
  const isOfWords = error instanceof ReferenceError || isOfPackage;
  return isOfWords ? `start it with: ${words}` : 'a plan file is run as it stands: see what it does there';
}

function failureOf(error: unknown, { file, name }: PlanFile, what: string): unknown {
  if (error instanceof OnelaunchError) return error;
  if (isOfLoader(error)) return writeError(tmpdir(), error, temporaryHints);
  if (isOwn(error)) return 'issues' in error ? new PlanError(error.issues) : retold(error);
  // What does not parse is said in the second line, with its place.
  const lines = (error instanceof Error ? error.message : String(error)).split('\n');
  const unparsed = lines.find((line) => line.includes('ERROR: '));
  const place = unparsed === undefined ? placeIn(file, error) : null;
  const reason = `${unparsed ?? lines[0]!}${place ? ` (${place})` : ''}`;
  return new OnelaunchError('usage', `${what} ${name}: ${reason}`, {
    hint: readHint(error, reason),
    cause: error,
  });
}
