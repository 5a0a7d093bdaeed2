// The CPU library by clang++, which the generator takes where g++ is not: all paths are compiled and linked without a warning, and the best one of this machine has the golden logits.
import { spawnSync } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect, it } from 'vitest';
import { packageRoot } from '../../codegen/build/package-root.ts';

const why = spawnSync('clang++', ['--version']).error ? ' (skipped: there is no clang++)' : '';

it.skipIf(why !== '')(`clang++ makes a library that is right${why}`, () => {
  const cache = mkdtempSync(join(tmpdir(), 'onelaunch-clang-'));
  const env = { ...process.env, CXX: 'clang++', ONELAUNCH_CACHE: cache, ONELAUNCH_DEBUG: '6' };
  const gen = (...args: string[]) => {
    const { status, stdout, stderr } = spawnSync(
      process.execPath,
      ['--import', 'tsx', 'cli/main.ts', ...args],
      {
        ...{ cwd: packageRoot(), env, encoding: 'utf8' },
      },
    );
    expect(status, stderr).toBe(0);
    return { stdout, stderr };
  };
  try {
    const { stderr } = gen(
      'build',
      '--ship',
      '--model',
      'qwen3-tiny',
      '--target',
      'cpu',
      '--weights',
      'int4',
    );
    expect(stderr).toMatch(/kernel\.cpp.*: .* s\n/);
    expect(stderr).not.toContain('warning');
    expect(gen('verify', '--model', 'qwen3-tiny', '--target', 'cpu').stdout).toMatch(/^pass: 8 cases$/m);
  } finally {
    rmSync(cache, { recursive: true });
  }
});
