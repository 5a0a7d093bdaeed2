// Every failure as `error: ...` and `hint: ...`, or as JSON, with its exit code. Stack traces only under ONELAUNCH_DEBUG.
import { relative, resolve, sep } from 'node:path';
import { CommanderError } from '@commander-js/extra-typings';
import { buildHints, outputRoot } from '../codegen/build/output-root.ts';
import { packageRoot } from '../codegen/build/package-root.ts';
import { pathOf } from '../codegen/plan/call-site.ts';
import { PlanError } from '../codegen/plan/issue.ts';
import { OnelaunchError, ofAllocation, Problems } from '../errors.ts';
import { ofPermissions } from '../files/permissions.ts';
import { isFull, whyUnwritten } from '../files/write-failure.ts';
import { exitCode } from './exit-code.ts';
import type { Io } from './io.ts';
import { jsonLine, printable, printableLine } from './printable.ts';
import { counted } from './ui.ts';

/** What went wrong, and the next thing to try. */
interface Failure {
  /** Of its class, where the package exports one. */
  readonly name?: string;
  readonly message: string;
  /** More lines about it. */
  readonly details?: string;
  readonly hint: string | undefined;
  readonly kind: 'failed' | 'usage' | 'environment' | 'interrupted';
}

function toFailure(thrown: unknown, interrupted: boolean): Failure {
  const error = ofPermissions(ofAllocation(thrown));
  if (interrupted) return { message: 'interrupted', hint: undefined, kind: 'interrupted' };
  return error instanceof OnelaunchError ? { name: error.name, ...described(error) } : described(error);
}

function described(error: unknown): Failure {
  if (error instanceof PlanError) return illegalPlan(error);
  if (error instanceof OnelaunchError && error.name === 'PointwiseError') {
    const hint = 'change what is marked; configs/ops.ts has ops to begin with';
    return { message: 'an op of the plan cannot be printed', details: error.message, hint, kind: 'usage' };
  }
  if (error instanceof OnelaunchError) {
    return { message: error.message, hint: error.hint, kind: error.kind };
  }
  if (error instanceof CommanderError) {
    return { message: error.message.replace(/^error: /, ''), hint: undefined, kind: 'usage' };
  }
  const { message, code, path, syscall } = error as NodeJS.ErrnoException;
  if (syscall === 'uv_cwd') {
    const message = 'the folder that gen is called in is gone';
    return { message, hint: 'change to one that is there: cd', kind: 'environment' };
  }
  if (path !== undefined && code !== undefined && ofPaths.includes(code)) {
    const hint = 'see what is there: ls -l';
    return { message: `${path} cannot be used: ${whyUnwritten(path, error)}`, hint, kind: 'usage' };
  }
  if (isFull(error) || (code !== undefined && ofRights.includes(code))) {
    const said = path === undefined ? message : `${path} cannot be used: ${whyUnwritten(path, error)}`;
    return { message: said, hint: rightsHint(path, isFull(error)), kind: 'environment' };
  }
  const text = error instanceof Error ? message : String(error);
  return {
    message: text.split('\n')[0]!,
    hint: 'ONELAUNCH_DEBUG=1 shows where it happened',
    kind: 'failed',
  };
}

/** What is wrong with a path, wherever it was first looked at. */
const ofPaths = ['ELOOP', 'ENOTDIR', 'ENAMETOOLONG'];

/** What keeps a user, or all, from a path. */
const ofRights = ['EACCES', 'EPERM', 'EROFS'];

/** Where libraries go is the user's to choose; of another path nothing is known but its name. */
function rightsHint(path: string | undefined, isFull: boolean): string {
  const hints =
    path === undefined || `${resolve(path)}${sep}`.startsWith(`${resolve(outputRoot())}${sep}`)
      ? buildHints
      : { full: 'free some space', other: 'see who may use it: ls -ld' };
  return isFull ? hints.full : hints.other;
}

function illegalPlan({ issues, message: details, file }: PlanError): Failure {
  const all = counted(issues.length, 'issue');
  if (issues.every(({ at }) => isOfPackage(pathOf(at)))) {
    const misfit = `does not fit this model on this target, ${all}`;
    const lines = issues.map(({ call, why }) => `  ${call}: ${why}`).join('\n');
    if (file !== null && !isOfPackage(resolve(file))) {
      const hint = `change what ${file} makes of a plan that ships, or give a smaller model`;
      return { message: `the plan is illegal, or ${misfit}`, details: lines, hint, kind: 'usage' };
    }
    const isOfPrompts = issues.every(({ at }) => promptPlanFiles.test(pathOf(at)));
    const flag = isOfPrompts ? '--prompt-plan' : '--plan';
    const hint = `where ${flag} is given, leave it out or give another one; else give a smaller model`;
    return { message: `the plan ${misfit}`, details: lines, hint, kind: 'usage' };
  }
  const message = `the plan is illegal, ${all}`;
  return { message, details, hint: 'change what is marked, then see gen explain --plan FILE', kind: 'usage' };
}

/** Of those that take in prompts. */
const promptPlanFiles = /[/\\]plans[/\\]prefill\.[jt]s$/;

/** Nobody who names a plan that ships is to change its file. */
const isOfPackage = (file: string): boolean =>
  /^(dist\/)?configs\/plans\//.test(relative(packageRoot(), file));

/** Prints a failure, all of it where several things are wrong, and says with what the process exits. */
export function report(
  error: unknown,
  io: Io,
  options: { readonly json: boolean; readonly command: string },
): number {
  const otherwise = {
    usage: `gen ${options.command} --help`,
    environment: 'gen doctor says what this machine has',
    failed: undefined,
    interrupted: undefined,
  };
  const complete = (failure: Failure): Failure => ({
    ...failure,
    hint: failure.hint ?? otherwise[failure.kind],
  });
  const whole = complete(toFailure(error, io.signal.aborted));
  const several = error instanceof Problems && whole.kind !== 'interrupted' ? error.problems : [];
  const failures = several.length > 0 ? several.map((one) => complete(toFailure(one, false))) : [whole];
  const code = whole.kind === 'interrupted' ? io.interruptedCode() : exitCode[whole.kind];
  if (/^[1-6]$/.test(io.env['ONELAUNCH_DEBUG'] ?? '') && error instanceof Error) io.err(`${error.stack}\n`);
  if (options.json) {
    const { name, message, details, kind } = whole;
    const hint = failures[0]!.hint ?? null;
    const problems = failures.map((one) => ({
      name: one.name,
      message: one.message,
      hint: one.hint ?? null,
      kind: one.kind,
    }));
    const error = {
      name,
      message,
      details,
      hint,
      kind,
      exitCode: code,
      ...(several.length > 0 && { problems }),
    };
    io.out(jsonLine({ error }, io.outIsTty));
    return code;
  }
  for (const { kind, message, details, hint } of failures) {
    io.err(kind === 'interrupted' ? 'interrupted\n' : `error: ${printableLine(message)}\n`);
    if (details !== undefined) io.err(`${printable(details)}\n`);
    if (hint !== undefined) io.err(`hint: ${printable(hint).replaceAll('\n', '\n      ')}\n`);
  }
  return code;
}
