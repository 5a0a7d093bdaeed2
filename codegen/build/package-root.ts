// Where templates, configs and models lie: this package's root, from the sources and from dist alike.
import { readFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { OnelaunchError } from '../../errors.ts';

let root: string | undefined;

/** The nearest folder above this file that holds the package.json of this package.
 *  @throws OnelaunchError of kind environment in a bundle, which has the code without its files */
export function packageRoot(): string {
  root ??= findRoot(import.meta.dirname);
  return root;
}

/** The version of this package. */
export const packageVersion = (): string =>
  (JSON.parse(readFileSync(join(packageRoot(), 'package.json'), 'utf8')) as { version: string }).version;

/** Exported for its test. @param start a folder; a bundle in CommonJS knows none */
export function findRoot(start: string | undefined): string {
  for (let folder = start; folder !== undefined; ) {
    if (isOurs(join(folder, 'package.json'))) return folder;
    const above = dirname(folder);
    folder = above === folder ? undefined : above;
  }
  const place = start === undefined ? '' : ` in ${start}`;
  throw new OnelaunchError(
    'environment',
    `onelaunch was bundled: its templates are not around its code${place}`,
    {
      hint: 'Leave the package out of the bundle (esbuild --packages=external), and install it where the bundle runs.',
    },
  );
}

function isOurs(path: string): boolean {
  try {
    return (JSON.parse(readFileSync(path, 'utf8')) as { name?: unknown } | null)?.name === 'onelaunch';
  } catch {
    return false;
  }
}
