// Compilers and other tools of this machine.
import { spawnSync } from 'node:child_process';
import { existsSync } from 'node:fs';
import { resolve } from 'node:path';
import { BuildError } from '../../errors.ts';
import { mayStartPrograms } from '../../files/permissions.ts';

/** A compiler that was found, or another tool. */
export interface Tool {
  readonly path: string;
  /** What $CXX, $NVCC or another variable has behind the path, as in `ccache g++`. */
  readonly args: readonly string[];
  readonly version: string;
}

/** What a program prints; null where it fails or is not there. */
export function outputOf(path: string, args: readonly string[]): string | null {
  // What is built needs none.
  if (!mayStartPrograms()) return null;
  const { status, stdout } = spawnSync(path, args, { encoding: 'utf8', timeout: 20_000 });
  return status === 0 ? stdout : null;
}

/** The variable's tool if it is set, and no other in its place; else the first of the candidates that runs. */
export function firstTool(
  variable: string,
  candidates: readonly string[],
  versionOf: (text: string) => string,
): Tool | null {
  const named = process.env[variable]?.trim();
  for (const command of named ? [named] : candidates) {
    const [word = '', ...args] = existsSync(command) ? [command] : command.split(/\s+/);
    // Compilers run in a folder of their own.
    const path = word.includes('/') ? resolve(word) : word;
    const text = outputOf(path, [...args, '--version']);
    if (text) return { path, args, version: versionOf(text) };
  }
  return null;
}

/** The C++ compiler: $CXX, else g++, clang++ or c++ on the path. */
export const findCxx = (): Tool | null => firstTool('CXX', ['g++', 'clang++', 'c++'], firstLine);

/** The oldest g++ that has what the headers of a CPU are written with (`__builtin_shufflevector`). */
const oldestGcc = 12;

/** Why a C++ compiler is too old for kernels of a CPU; null: it is not, or does not say. */
export function tooOld({ version }: Tool): BuildError | null {
  // As in: g++ (Ubuntu 11.4.0-1ubuntu1~22.04) 11.4.0
  const major = /^\S+ \([^)]*\) (\d+)\./.exec(version)?.[1];
  if (major === undefined || Number(major) >= oldestGcc) return null;
  return new BuildError('environment', `g++ ${major} is too old for kernels of a CPU`, {
    hint: `install g++ ${oldestGcc} or newer, or clang++, and name it in CXX`,
  });
}

/** Of a tool of the CUDA toolkit. */
export const cudaVersion = (text: string): string => /release [\d.]+, V([\d.]+)/.exec(text)?.[1] ?? 'unknown';

/** The first line that a tool says of itself. */
export const firstLine = (text: string): string => text.split('\n')[0]!.trim();

/** nvcc: $NVCC, else on the path, under $CUDA_HOME, or in its usual place. */
export function findNvcc(): Tool | null {
  const home = process.env['CUDA_HOME'] ?? process.env['CUDA_PATH'];
  return firstTool(
    'NVCC',
    ['nvcc', ...(home ? [`${home}/bin/nvcc`] : []), '/usr/local/cuda/bin/nvcc'],
    cudaVersion,
  );
}

/** Why there is no compiler, and what to do. */
export function missingTool(tool: 'cxx' | 'nvcc'): BuildError {
  if (!mayStartPrograms()) {
    const message = 'the permissions that Node.js was started with refuse starting a compiler';
    return new BuildError('environment', message, {
      hint: '--allow-child-process allows it; a kernel that was built before needs none',
    });
  }
  const variable = tool === 'cxx' ? 'CXX' : 'NVCC';
  const named = process.env[variable]?.trim();
  if (named) {
    return new BuildError('environment', `${variable} is '${named}', which does not run`, {
      hint: `name a compiler that answers --version, or unset ${variable} to take the one of this machine`,
    });
  }
  return tool === 'cxx'
    ? new BuildError('environment', 'no C++ compiler found', {
        hint: 'install g++ or clang++, or name one in CXX',
      })
    : new BuildError('environment', 'nvcc not found', {
        hint: 'install the CUDA toolkit or set CUDA_HOME, or use --target cpu',
      });
}
