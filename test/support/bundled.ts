// A program of ours as JavaScript, for tests that start it many times: without tsx it begins in a fraction of the time.
import { execFileSync } from 'node:child_process';
import { mkdirSync, mkdtempSync } from 'node:fs';
import { createRequire } from 'node:module';
import { basename, dirname, join } from 'node:path';
import { outputRoot } from '../../codegen/build/output-root.ts';
import { packageRoot } from '../../codegen/build/package-root.ts';

/** Path of esbuild, the one that tsx brings. */
export function esbuild(): string {
  const main = createRequire(createRequire(import.meta.url).resolve('tsx')).resolve('esbuild');
  return join(dirname(main), '..', 'bin', 'esbuild');
}

/** Bundles a program of this repository, whose dynamic imports stay files of their own. @returns its path, in a folder that the caller removes */
export function bundled(program: string): { readonly path: string; readonly folder: string } {
  // Below the package, where its dependencies are found.
  mkdirSync(outputRoot(), { recursive: true });
  const folder = mkdtempSync(join(outputRoot(), 'bundled-'));
  const flags = [
    '--bundle',
    '--splitting',
    '--format=esm',
    '--platform=node',
    '--target=node20',
    '--packages=external',
  ];
  const out = ['--log-level=error', `--outdir=${folder}`, '--out-extension:.js=.mjs'];
  execFileSync(esbuild(), [join(packageRoot(), program), ...flags, ...out]);
  return { path: join(folder, basename(program).replace(/\.ts$/, '.mjs')), folder };
}
