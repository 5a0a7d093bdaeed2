// The tools that take a compiled object apart.
import { spawnSync } from 'node:child_process';
import { dirname, join } from 'node:path';
import { cudaVersion, findNvcc, firstLine, firstTool, type Tool } from '../codegen/build/tools.ts';
import { OnelaunchError } from '../errors.ts';

/** Most characters of a disassembly. */
const mostOutput = 1 << 30;

/** cuobjdump: $CUOBJDUMP, else on the path, beside nvcc, or in its usual place. */
const cuobjdumpPlaces = (): string[] => {
  const nvcc = findNvcc()?.path;
  const home = process.env['CUDA_HOME'] ?? process.env['CUDA_PATH'];
  return [
    'cuobjdump',
    ...(nvcc?.includes('/') ? [join(dirname(nvcc), 'cuobjdump')] : []),
    ...(home ? [join(home, 'bin', 'cuobjdump')] : []),
    '/usr/local/cuda/bin/cuobjdump',
  ];
};

const tools = {
  cuobjdump: {
    variable: 'CUOBJDUMP',
    places: cuobjdumpPlaces,
    versionOf: cudaVersion,
    hint: 'it is part of the CUDA toolkit (cuda-cuobjdump), with nvdisasm; set CUDA_HOME, or name it in CUOBJDUMP',
  },
  objdump: {
    variable: 'OBJDUMP',
    places: () => ['objdump', 'llvm-objdump'],
    versionOf: firstLine,
    hint: 'install binutils, or name one in OBJDUMP',
  },
} as const;

type Name = keyof typeof tools;

/** The first one that runs. */
export function findDisassembler(name: Name): Tool | null {
  const { variable, places, versionOf } = tools[name];
  return firstTool(variable, places(), versionOf);
}

/** Why there is none, and what to do. */
export function missingDisassembler(name: Name): OnelaunchError {
  const { variable, hint } = tools[name];
  const named = process.env[variable]?.trim();
  const text = named ? `${variable} is '${named}', which does not run` : `${name} not found`;
  return new OnelaunchError('environment', text, { hint });
}

/** @throws OnelaunchError environment where none runs */
export function needDisassembler(name: Name): Tool {
  const found = findDisassembler(name);
  if (found === null) throw missingDisassembler(name);
  return found;
}

/** What a tool prints of a file. @throws OnelaunchError failed where it refuses */
export function printed({ path, args: own }: Tool, args: readonly string[], file: string): string {
  const { status, stdout, stderr, error } = spawnSync(path, [...own, ...args, file], {
    encoding: 'utf8',
    maxBuffer: mostOutput,
    env: { ...process.env, LC_ALL: 'C' },
  });
  if (status === 0) return stdout;
  const why = error?.message ?? stderr.trim().split('\n')[0] ?? '';
  throw new OnelaunchError('failed', `${path} cannot read ${file}: ${why}`, {
    hint: 'gen build --force compiles it again',
  });
}
