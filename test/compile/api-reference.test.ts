// The reference of what the package exports: that it can be made, and says something of everything.
import { spawnSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { dirname, join } from 'node:path';
import { expect, it } from 'vitest';
import { packageRoot } from '../../codegen/build/package-root.ts';

const root = packageRoot();
const read = (file: string): unknown => JSON.parse(readFileSync(join(root, file), 'utf8'));

it('typedoc has no warning: what is exported is documented, and what it refers to is exported', () => {
  const typedoc = dirname(createRequire(import.meta.url).resolve('typedoc/package.json'));
  const args = [join(typedoc, 'bin', 'typedoc'), '--emit', 'none', '--logLevel', 'Warn'];
  const env = { ...process.env, NO_COLOR: '1' };
  const { stdout, stderr, status } = spawnSync(process.execPath, args, { cwd: root, env, encoding: 'utf8' });
  expect(stdout + stderr).toBe('');
  expect(status).toBe(0);
});

it('the reference has each entry of the package', () => {
  const { exports } = read('package.json') as { exports: Record<string, { default?: string }> };
  const { entryPoints } = read('typedoc.json') as { entryPoints: readonly string[] };
  const entries = Object.values(exports).flatMap((entry) => entry.default ?? []);
  expect(entryPoints.map((file) => `./dist/${file.replace(/\.ts$/, '.js')}`)).toEqual(entries);
});
