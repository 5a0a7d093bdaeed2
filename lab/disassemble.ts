// The tools that take a compiled object apart.
import { spawnSync } from 'node:child_process';
import { existsSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { findNvcc } from '../codegen/build/tools.ts';
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
    hint: 'it is part of the CUDA toolkit (cuda-cuobjdump), with nvdisasm; set CUDA_HOME, or name it in CUOBJDUMP',
  },
  objdump: {
    variable: 'OBJDUMP',
    places: () => ['objdump', 'llvm-objdump'],
    hint: 'install binutils, or name one in OBJDUMP',
  },
} as const;

/** The first one that runs. @throws OnelaunchError environment where none does */
export function findDisassembler(name: keyof typeof tools): string {
  const { variable, places, hint } = tools[name];
  const named = process.env[variable]?.trim();
  for (const place of named ? [named] : places()) {
    if (place.includes('/') && !existsSync(place)) continue;
    if (spawnSync(place, ['--version'], { timeout: 20_000 }).status === 0) return place;
  }
  const text = named ? `${variable} is '${named}', which does not run` : `${name} not found`;
  throw new OnelaunchError('environment', text, { hint });
}

/** What a tool prints of a file. @throws OnelaunchError failed where it refuses */
export function printed(tool: string, args: readonly string[], file: string): string {
  const { status, stdout, stderr, error } = spawnSync(tool, [...args, file], {
    encoding: 'utf8',
    maxBuffer: mostOutput,
    env: { ...process.env, LC_ALL: 'C' },
  });
  if (status === 0) return stdout;
  const why = error?.message ?? stderr.trim().split('\n')[0] ?? '';
  throw new OnelaunchError('failed', `${tool} cannot read ${file}: ${why}`, {
    hint: 'gen build --force compiles it again',
  });
}
