// What Node's permission model (--permission) keeps from a program, in words.
import { OnelaunchError } from '../errors.ts';

/** What is refused, and what allows it. */
const refused: Readonly<Record<string, readonly [what: string, flag: string]>> = {
  FileSystemRead: ['reading', '--allow-fs-read'],
  FileSystemWrite: ['writing', '--allow-fs-write'],
  ChildProcess: ['starting a program', '--allow-child-process'],
  WorkerThreads: ['starting a worker', '--allow-worker'],
};

/** An error of Node's permissions as one of ours, kind environment; another error as it is. */
export function ofPermissions(error: unknown): unknown {
  const { code, permission = '', resource = '' } = Object(error) as Record<string, string | undefined>;
  const [what, flag] =
    code === 'ERR_DLOPEN_DISABLED'
      ? ['loading a library', '--allow-addons']
      : (code === 'ERR_ACCESS_DENIED' && refused[permission]) || [];
  if (what === undefined) return error;
  const of = resource === '' ? '' : ` ${resource}`;
  return new OnelaunchError(
    'environment',
    `the permissions that Node.js was started with refuse ${what}${of}`,
    {
      ...{ hint: `${flag} allows it`, cause: error },
    },
  );
}

/** Whether programs may be started. */
export const mayStartPrograms = (): boolean => process.permission?.has('child') ?? true;
