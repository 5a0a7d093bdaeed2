// The folder of the user, and ours among the caches there.
import os from 'node:os';
import { join } from 'node:path';
import { OnelaunchError } from '../errors.ts';

/** $HOME, else what the system says of the user. An empty one counts as none: paths in it would be below the folder one is in.
 *  @throws OnelaunchError of kind environment where there is none, as for users of containers that the system does not know */
export function home(system: Pick<typeof os, 'homedir' | 'userInfo'> = os): string {
  try {
    const folder = system.homedir() || system.userInfo().homedir;
    if (folder !== '') return folder;
  } catch {
    // The system does not know the user.
  }
  throw new OnelaunchError('environment', 'this user has no home folder', { hint: 'set HOME' });
}

/** Where what can be made again is kept: below $XDG_CACHE_HOME, else below ~/.cache. An empty one counts as none, too. */
export const userCache = (): string =>
  join(process.env['XDG_CACHE_HOME'] || join(home(), '.cache'), 'onelaunch');
