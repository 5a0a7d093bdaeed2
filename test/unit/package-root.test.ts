// Where the package's own files are looked for, and what is said where they cannot be.
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, describe, expect, it } from 'vitest';
import { findRoot, packageRoot } from '../../codegen/build/package-root.ts';
import { refusalOf } from '../support/refusal.ts';

const folder = mkdtempSync(join(tmpdir(), 'onelaunch-root-'));
afterAll(() => rmSync(folder, { recursive: true }));

describe('the root of the package', () => {
  it('is found from any depth below it', () => {
    expect(findRoot(join(packageRoot(), 'codegen', 'build'))).toBe(packageRoot());
  });

  it.each<[string, string | undefined, string | null]>([
    ['another package, whose bundle has our code', join(folder, 'theirs'), '{ "name": "theirs" }'],
    ['a package.json that is not JSON', join(folder, 'broken'), '{ "name":'],
    ['a package.json of null', join(folder, 'null'), 'null'],
    ['no package at all, up to the root of the disk', '/', null],
    ['no folder, in a bundle of CommonJS', undefined, null],
  ])('is not taken from %s', (_, start, packageJson) => {
    if (start !== undefined && packageJson !== null) {
      mkdirSync(start);
      writeFileSync(join(start, 'package.json'), packageJson);
    }
    const error = refusalOf(() => findRoot(start));
    expect(error.kind).toBe('environment');
    expect(error.message).toMatch(/^onelaunch was bundled: its templates are not around its code/);
    expect(error.hint).toContain('--packages=external');
  });
});
