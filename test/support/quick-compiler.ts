// The C++ compiler of the compile tier: what the tests show of a library does not depend on -O3, which takes several times as long.
import { execFileSync } from 'node:child_process';
import { chmodSync, existsSync, mkdirSync, renameSync, writeFileSync } from 'node:fs';
import { basename, join } from 'node:path';
import { cpuPaths } from '../../codegen/build/cpu-paths.ts';
import { findCxx } from '../../codegen/build/tools.ts';

/** What backend.cpp and library.cpp include of the standard library: most of the time that they take is for these. */
const headers = [
  ...[
    'algorithm',
    'atomic',
    'chrono',
    'condition_variable',
    'cmath',
    'cstdio',
    'cstring',
    'deque',
    'functional',
  ],
  ...['map', 'memory', 'mutex', 'set', 'string', 'thread', 'unordered_map', 'utility', 'vector'],
];

/** Those of a kernel that take long to read: the intrinsics of its path. */
const kernelHeaders = ['algorithm', 'immintrin.h'];
const avx2 = cpuPaths.find(({ name }) => name === 'avx2');

/** This machine's compiler, which says so in its version, with -Og behind all other flags for the kernel, and for host code with -O0, both with headers
 *  that were compiled before; null where one is named in CXX: that stays. A script around it may say -O0 for all. The bundled model's kernels have -O1:
 *  tests decode far more with these than with all others, in half the time, and half a second more compiles one. */
export function quickCompiler(folder: string): string | null {
  const cxx = process.env['CXX'] === undefined ? findCxx() : null;
  if (cxx === null) return null;
  mkdirSync(folder, { recursive: true });
  const quick = join(folder, basename(cxx.path));
  // As codegen/build/recipe.ts has it: with other flags the compiler would read the text.
  const flags = ['-std=c++17', '-O3', '-fPIC', '-fno-math-errno', '-fvisibility=hidden', '-Wall'];
  const compiled = (name: string, includes: readonly string[], more: readonly string[]): string => {
    const header = join(folder, name);
    if (existsSync(`${header}.gch`)) return header;
    const text = includes.map((include) => `#include <${include}>\n`).join('');
    put(header, (part) => writeFileSync(part, text));
    put(`${header}.gch`, (part) =>
      execFileSync(cxx.path, [...flags, ...more, '-x', 'c++-header', header, '-o', part]),
    );
    return header;
  };
  const host = compiled('std.h', headers, ['-O0']);
  const ofAvx2 = avx2
    ? `*' ${avx2.flags.join(' ')} -c kernel.cpp '*) exec ${cxx.path} -include '${compiled('intrinsics.h', kernelHeaders, [...avx2.flags, '-Og'])}' "$@" $level;;`
    : '';
  const text = `#!/bin/sh
case "$PWD" in */qwen3-tiny-*) level=-O1;; *) level=-Og;; esac
case "$*" in
*--version*) echo "$(${cxx.path} --version | head -n 1), -Og, qwen3-tiny -O1"; exit 0;;
*'-c kernel.cpp '*' -O0') exec ${cxx.path} "$@";;
${ofAvx2}
*'-c kernel.cpp '* | -shared*) exec ${cxx.path} "$@" $level;;
*' -c host/model.cpp '*) exec ${cxx.path} "$@" -O0;;
*' -fno-math-errno '*) exec ${cxx.path} -include '${host}' "$@" -O0;;
*) exec ${cxx.path} "$@" -O0;;
esac
`;
  put(quick, (part) => {
    writeFileSync(part, text);
    chmodSync(part, 0o755);
  });
  return quick;
}

/** For a tier. */
export function useQuickCompiler(folder: string): void {
  const quick = quickCompiler(folder);
  if (quick === null) return;
  process.env['CXX'] = quick;
  process.env['ONELAUNCH_TEST_CXX'] = quick;
}

/** Has a file written beside its place, and then put there: another run may write the same at this moment. */
function put(path: string, write: (part: string) => void): void {
  const part = `${path}.${process.pid}`;
  write(part);
  renameSync(part, path);
}

/** For a file of tests: the flags that ship. */
export function useShippedFlags(): void {
  if (process.env['CXX'] === process.env['ONELAUNCH_TEST_CXX']) delete process.env['CXX'];
}
