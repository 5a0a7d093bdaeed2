// Where templates, configs and models lie: this package's root, from the sources and from dist alike.
import { existsSync } from 'node:fs';
import { dirname, join } from 'node:path';

let root: string | undefined;

/** The nearest folder above this file that holds package.json. */
export function packageRoot(): string {
  if (root) return root;
  let folder = import.meta.dirname;
  while (!existsSync(join(folder, 'package.json'))) folder = dirname(folder);
  root = folder;
  return folder;
}
