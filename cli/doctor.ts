// gen doctor: what of this machine can be used, and what a missing part means.
import { existsSync } from 'node:fs';
import { availableParallelism } from 'node:os';
import { join } from 'node:path';
import type { Gpu } from '../codegen/build/gpus.ts';
import type { Tool } from '../codegen/build/tools.ts';
import { OnelaunchError } from '../errors.ts';
import { cpuName } from '../lab/measure.ts';
import { exitCode } from './exit-code.ts';
import { helpEnd, outputCommand, type Program } from './flags.ts';
import type { Start } from './ui.ts';

interface Check {
  readonly name: string;
  readonly found: string | null;
  /** Where it is not found: why, and what does not work without it. */
  readonly without: string | null;
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
  const { findGpus, whyNoGpu } = await import('../codegen/build/gpus.ts');
  const { findCxx, findNvcc, missingTool, tooOld } = await import('../codegen/build/tools.ts');
  const { findDisassembler, missingDisassembler } = await import('../lab/disassemble.ts');
  const { pathsHere } = await import('../codegen/build/cpu-paths.ts');
  const { packageRoot } = await import('../codegen/build/package-root.ts');
  const check = (name: string, found: string | null, without: string, needed = false): Check => ({
    name,
    found,
    without: found === null ? without : null,
    needed,
  });
  const [major = 0, minor = 0] = process.versions.node.split('.').map(Number);
  const node = major > 20 || (major === 20 && minor >= 19) ? process.version : null;
  const paths =
    pathsHere()
      ?.map(({ title }) => title)
      .join(', ') ?? 'instruction sets not known';
  const disassembler = (name: 'objdump' | 'cuobjdump', of: string) => {
    const { message, hint } = missingDisassembler(name);
    const without = `${message}: gen resources does not work for ${of}; ${hint}`;
    return check(name, toolText(findDisassembler(name)), without);
  };
  const gpus = findGpus();
  const cache = await cacheFound();
  const cxx = findCxx();
  const noCxx = cxx ? tooOld(cxx) : missingTool('cxx');
  const bundled = join(packageRoot(), 'models', 'qwen3-tiny', 'model.safetensors');
  return [
    check('Node.js', node, `${process.version} is too old; 20.19 or newer is needed`, true),
    check(
      'C++ compiler',
      noCxx ? null : toolText(cxx),
      `${noCxx?.message}: what was built before runs, nothing can be built${cxx ? ' for a CPU' : ''}; ${noCxx?.hint}`,
      true,
    ),
    check('CPU', `${cpuName()}, ${availableParallelism()} usable; ${paths}`, '', true),
    check(
      'nvcc',
      toolText(findNvcc()),
      `${missingTool('nvcc').message}: kernels for GPUs cannot be built; --target cpu works`,
    ),
    disassembler('cuobjdump', 'GPUs'),
    disassembler('objdump', 'the CPU'),
    check(
      'GPU',
      gpus.length > 0 ? gpus.map(gpuText).join('; ') : null,
      `${whyNoGpu() ?? 'kernels for GPUs cannot run here'}; --target cpu works`,
    ),
    check('cache', cache.folder, cache.without, true),
    check(
      'bundled model',
      existsSync(bundled) ? 'qwen3-tiny' : null,
      'gen demo does not work; other models do',
    ),
  ];
}

const gpuText = ({ name, arch, driver, memoryMiB }: Gpu): string =>
  `${name}, ${arch}, driver ${driver}, ${(memoryMiB / 1024).toFixed(0)} GiB`;

const toolText = (tool: Tool | null): string | null => tool && `${tool.version} (${tool.path})`;

/** Where libraries go; else why none can. */
async function cacheFound(): Promise<{ readonly folder: string | null; readonly without: string }> {
  const { needOutputRoot } = await import('../codegen/build/output-root.ts');
  try {
    return { folder: needOutputRoot(), without: '' };
  } catch (error) {
    if (!(error instanceof OnelaunchError)) throw error;
    return { folder: null, without: `${error.message}; ${error.hint}` };
  }
}
