// Where built libraries go.
import { accessSync, constants, existsSync } from 'node:fs';
import { join } from 'node:path';
import { userCache } from '../../files/home.ts';
import { makeFolder } from '../../files/make-folder.ts';
import { type WriteHints, writeError } from '../../files/write-failure.ts';
import { packageRoot } from './package-root.ts';

export const buildHints: WriteHints = {
  full: 'free some space, or set ONELAUNCH_CACHE to a folder on another disk',
  other: 'set ONELAUNCH_CACHE to a folder that can be written',
};

/** generated/ of a source checkout, else a cache folder of the user; $ONELAUNCH_CACHE overrides both. */
export function outputRoot(): string {
  const chosen = process.env['ONELAUNCH_CACHE'];
  if (chosen) return chosen;
  if (existsSync(join(packageRoot(), 'codegen', 'index.ts'))) return join(packageRoot(), 'generated');
  return userCache();
}

/** The same folder, once it is there and can be written. @throws OnelaunchError environment */
export function needOutputRoot(): string {
  const root = outputRoot();
  try {
    makeFolder(root);
    accessSync(`${root}/.`, constants.W_OK | constants.X_OK);
    return root;
  } catch (error) {
    throw writeError(root, error, buildHints);
  }
}
