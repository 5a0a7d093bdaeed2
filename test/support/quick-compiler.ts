// The C++ compiler of the compile tier: what the tests show of a library does not depend on -O3, which takes twice as long.
import { chmodSync, mkdirSync, renameSync, writeFileSync } from 'node:fs';
import { basename, join } from 'node:path';
import { findCxx } from '../../codegen/build/tools.ts';

/** Makes CXX this machine's compiler with -O1 behind all other flags, which says so in its version; one that is named in CXX stays. */
export function useQuickCompiler(folder: string): void {
  const cxx = process.env['CXX'] === undefined ? findCxx() : null;
  if (cxx === null) return;
  mkdirSync(folder, { recursive: true });
  const quick = join(folder, basename(cxx.path));
  const text = `#!/bin/sh
case "$*" in *--version*) echo "$(${cxx.path} --version | head -n 1), -O1"; exit 0;; esac
exec ${cxx.path} "$@" -O1
`;
  // Another run may write the same at this moment.
  writeFileSync(`${quick}.${process.pid}`, text);
  chmodSync(`${quick}.${process.pid}`, 0o755);
  renameSync(`${quick}.${process.pid}`, quick);
  process.env['CXX'] = quick;
  process.env['ONELAUNCH_TEST_CXX'] = quick;
}

/** For a file of tests: the flags that ship. */
export function useShippedFlags(): void {
  if (process.env['CXX'] === process.env['ONELAUNCH_TEST_CXX']) delete process.env['CXX'];
}
