// The CPU library by clang++, which the generator takes where g++ is not: all paths are compiled and linked without a warning, and the best one of this machine has the golden logits.
import { spawnSync } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect, it } from 'vitest';
import { bundled } from '../support/bundled.ts';

const tiny = ['--model', 'qwen3-tiny', '--target', 'cpu'];
const why = spawnSync('clang++', ['--version']).error ? ' (skipped: there is no clang++)' : '';

it.skipIf(why !== '')(`clang++ makes a library that is right${why}`, () => {
  const program = bundled('cli/main.ts');
  const cache = mkdtempSync(join(tmpdir(), 'onelaunch-clang-'));
  const env = { ...process.env, CXX: 'clang++', ONELAUNCH_CACHE: cache, ONELAUNCH_DEBUG: '6' };
  const gen = (...args: string[]) => {
    const { status, stdout, stderr } = spawnSync(process.execPath, [program.path, ...args], {
      ...{ env, encoding: 'utf8' },
    });
    expect(status, stderr).toBe(0);
    return { stdout, stderr };
  };
  try {
    const { stderr } = gen('build', '--ship', ...tiny, '--weights', 'int4');
    expect(stderr).toMatch(/kernel\.cpp.*: .* s\n/);
    expect(stderr).not.toContain('warning');
    expect(gen('verify', ...tiny).stdout).toMatch(/^pass: 8 cases$/m);
  } finally {
    for (const made of [cache, program.folder]) rmSync(made, { recursive: true });
  }
});
