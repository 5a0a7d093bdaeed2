// The CPU library by clang++, which the generator takes where g++ is not: all paths are compiled and linked without a warning, and the best one of this machine has the golden logits.
import { spawnSync } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect, it } from 'vitest';
import { bundled } from '../support/bundled.ts';
import { thorough } from '../support/thorough.ts';

const tiny = ['--model', 'qwen3-tiny', '--target', 'cpu'];
const why = spawnSync('clang++', ['--version']).error ? ' (skipped: there is no clang++)' : '';

/** With -O1 behind all other flags for the kernel that runs, and -O0 for all else: clang warns of what it reads, and refuses what a path's instructions
 *  are not, before it optimises. */
function quickClang(folder: string): string {
  const path = join(folder, 'clang++');
  const text = `#!/bin/sh
case "$PWD $*" in *-int4-*) exec clang++ "$@" -O0;; *' -c kernel.cpp '*) exec clang++ "$@" -O1;; *) exec clang++ "$@" -O0;; esac
`;
  writeFileSync(path, text, { mode: 0o755 });
  return path;
}

it.skipIf(why !== '')(`clang++ makes a library that is right${why}`, () => {
  const program = bundled('cli/main.ts');
  const cache = mkdtempSync(join(tmpdir(), 'onelaunch-clang-'));
  const compiler = thorough ? 'clang++' : quickClang(cache);
  const env = { ...process.env, CXX: compiler, ONELAUNCH_CACHE: cache, ONELAUNCH_DEBUG: '6' };
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
