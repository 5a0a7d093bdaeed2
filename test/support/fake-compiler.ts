// A C++ compiler that is a shell script: it writes down what it is asked, and does what a test wants in the place of compiling.
import { chmodSync, existsSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { packageRoot } from '../../codegen/build/package-root.ts';
import { generate, type Kernel } from '../../codegen/index.ts';
import { resolveModel, resolvePlan, resolveTarget } from '../../configs/resolve.ts';

/** Starts a process of its own, as g++ starts cc1plus, and waits for it: for ever. */
export const hang = 'sleep 600 & echo $! >> "$here/pids"; wait';

/** Bytes of every file that it makes. */
export const outputBytes = 200_000;

export interface FakeCompiler {
  /** For CXX. */
  readonly path: string;
  /** The files that it was asked to make, in order. */
  made(): string[];
  /** What it started that still runs. */
  alive(): number[];
}

/** @param behaviour shell text for each file to make; $out is its name */
export function fakeCompiler(folder: string, behaviour = '', version = 'fake 1.0'): FakeCompiler {
  const path = join(folder, 'c++');
  const text = `#!/bin/sh
here='${folder}'
case "$*" in *--version*) echo '${version}'; exit 0;; esac
out= previous=
for word; do [ "$previous" = -o ] && out=$word; previous=$word; done
echo "$out" >> "$here/made"
echo $$ >> "$here/pids"
${behaviour}
cp "$here/object" "$out"
`;
  writeFileSync(path, text);
  writeFileSync(join(folder, 'object'), 'o'.repeat(outputBytes));
  chmodSync(path, 0o755);
  const lines = (name: string) =>
    existsSync(join(folder, name)) ? readFileSync(join(folder, name), 'utf8').trim().split('\n') : [];
  return { path, made: () => lines('made'), alive: () => lines('pids').map(Number).filter(runs) };
}

/** A process that is there and not only waits to be forgotten by its parent. */
function runs(pid: number): boolean {
  try {
    return !/^\d+ \(.*\) [ZX]/.test(readFileSync(`/proc/${pid}/stat`, 'utf8'));
  } catch {
    return false;
  }
}

/** What builds and their locks leave behind, in a folder of libraries. */
export const leftovers = (cache: string): string[] =>
  existsSync(cache) ? readdirSync(cache).filter((name) => /\.(tmp|lock)$/.test(name)) : [];

/** A small kernel, for the CPU unless told, of a model in test/fixtures. */
export async function microKernel(plan = 'unfused', target = 'cpu', model = 'qwen3-micro'): Promise<Kernel> {
  const fixtures = join(packageRoot(), 'test/fixtures');
  const { dims } = resolveModel(join(fixtures, model));
  return generate({ dims, plan: await resolvePlan(plan), target: resolveTarget(target) });
}
