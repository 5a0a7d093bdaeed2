// gen doctor: what of this machine can be used, and what a missing part means.
import { accessSync, constants, existsSync, readFileSync } from 'node:fs';
import { availableParallelism } from 'node:os';
import { join } from 'node:path';
import { makeFolder } from '../codegen/build/make-folder.ts';
import { exitCode } from './errors.ts';
import { helpEnd, outputCommand, type Program } from './flags.ts';
import { cpuName } from './measure.ts';
import type { Start } from './ui.ts';

interface Check {
  readonly name: string;
  readonly found: string | null;
  /** What does not work without it. */
  readonly without: string;
  /** The CPU path needs it. */
  readonly needed: boolean;
}

export function addDoctor(program: Program, start: Start): void {
  outputCommand(program, 'doctor')
    .description(
      'show what this machine has, what is missing and what that means; exit 3 if not even the CPU path works',
    )
    .addHelpText('after', helpEnd('gen doctor'))
    .action((options) =>
      start(options, async (ui) => {
        const checks = await examine();
        const ok = checks.every((check) => check.found !== null || !check.needed);
        if (ui.json) ui.result({ ok, checks });
        else {
          const width = Math.max(...checks.map((check) => check.name.length));
          for (const { name, found, without } of checks) {
            ui.data(`${name.padEnd(width)}  ${found ?? `none: ${without}`}`);
          }
          ui.note(ok ? '\nready' : '\nnot ready: see the lines with none');
        }
        return ok ? exitCode.ok : exitCode.environment;
      }),
    );
}

async function examine(): Promise<Check[]> {
  const { findCxx, findGpu, findNvcc } = await import('../codegen/build/tools.ts');
  const { outputRoot } = await import('../codegen/build/output-root.ts');
  const { packageRoot } = await import('../codegen/build/package-root.ts');
  const check = (name: string, found: string | null, without: string, needed = false): Check => ({
    name,
    found,
    without,
    needed,
  });
  const [major = 0, minor = 0] = process.versions.node.split('.').map(Number);
  const node = major > 20 || (major === 20 && minor >= 19) ? process.version : null;
  const cxx = findCxx();
  const nvcc = findNvcc();
  const gpu = findGpu();
  const bundled = join(packageRoot(), 'models', 'qwen3-tiny', 'model.safetensors');
  return [
    check('Node.js', node, `${process.version} is too old; 20.19 or newer is needed`, true),
    check(
      'C++ compiler',
      cxx && `${cxx.version} (${cxx.path})`,
      'nothing can be built; install g++ or clang++',
      true,
    ),
    check('CPU', `${cpuName()}, ${availableParallelism()} usable; ${cpuPaths().join(', ')}`, '', true),
    check(
      'nvcc',
      nvcc && `${nvcc.version} (${nvcc.path})`,
      'kernels for GPUs cannot be built; --target cpu works',
    ),
    check(
      'GPU',
      gpu && `${gpu.name}, ${gpu.arch}, driver ${gpu.driver}, ${(gpu.memoryMiB / 1024).toFixed(0)} GiB`,
      'kernels for GPUs cannot run here; --target cpu works',
    ),
    check(
      'cache',
      writable(outputRoot()),
      `cannot write ${outputRoot()}; set ONELAUNCH_CACHE to a folder that can be`,
      true,
    ),
    check(
      'bundled model',
      existsSync(bundled) ? 'qwen3-tiny' : null,
      'gen demo does not work; other models do',
    ),
  ];
}

/** The instruction sets of this CPU that the library has code for, best last. */
function cpuPaths(): string[] {
  let flags = new Set<string>();
  try {
    flags = new Set(/^flags\s*:(.*)$/m.exec(readFileSync('/proc/cpuinfo', 'utf8'))?.[1]?.trim().split(' '));
  } catch {
    // Not Linux: the plain path runs anywhere.
  }
  const has = (...names: string[]) => names.every((name) => flags.has(name));
  const avx2 = has('avx2', 'fma', 'f16c');
  const avx512 = avx2 && has('avx512f', 'avx512bw', 'avx512vl', 'avx512dq');
  return [
    'plain C++',
    ...(avx2 ? ['AVX2'] : []),
    ...(avx512 ? ['AVX-512'] : []),
    ...(avx512 && has('avx512_bf16') ? ['AVX-512-BF16'] : []),
  ];
}

function writable(folder: string): string | null {
  try {
    makeFolder(folder);
    accessSync(folder, constants.W_OK);
    return folder;
  } catch {
    return null;
  }
}
