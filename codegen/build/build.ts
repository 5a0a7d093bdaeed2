// Sources into a shared library, once: a folder that ends in the hash of everything that went in, whatever the kernel is called.
import { spawn } from 'node:child_process';
import { createHash } from 'node:crypto';
import { existsSync, readdirSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { availableParallelism, tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { abiVersion } from '../../abi/abi.ts';
import { type Manifest, manifestSchema } from '../../abi/manifest.ts';
import { OnelaunchError } from '../../errors.ts';
import type { Kernel } from '../kernel.ts';
import { bytesOf } from '../model/packing.ts';
import { compileError } from './compile-error.ts';
import { debug } from './debug.ts';
import { makeFolder } from './make-folder.ts';
import { outputRoot } from './output-root.ts';
import { parseResources, type Resources, spillLines } from './resources.ts';
import { findCxx, findNvcc, type Tool } from './tools.ts';

export interface BuildOptions {
  /** Build even when the cache has it. */
  readonly force?: boolean;
  readonly signal?: AbortSignal;
  /** Called with one line for each step begun. */
  readonly onLine?: (line: string) => void;
}

export interface Built {
  readonly directory: string;
  readonly library: string;
  readonly manifest: Manifest;
  readonly cached: boolean;
  readonly millis: number;
}

/** One run of a compiler. */
interface Step {
  readonly label: string;
  readonly tool: string;
  readonly args: readonly string[];
}

interface Recipe {
  readonly compiler: string;
  readonly flags: readonly string[];
  /** May run at the same time. */
  readonly compile: readonly Step[];
  readonly link: Step;
}

/**
 * Builds a kernel, or finds it built.
 * @throws OnelaunchError `environment` without a compiler, `failed` when it refuses the sources.
 */
export async function build(kernel: Kernel, options: BuildOptions = {}): Promise<Built> {
  const started = performance.now();
  const recipe = recipes[kernel.schedule.target.kind](kernel);
  const key = createHash('sha256')
    .update(JSON.stringify([kernel.hash, recipe]))
    .digest('hex')
    .slice(0, 12);
  const directory = directoryOf(kernel, key);
  const found = options.force ? null : readBuilt(directory);
  if (found) {
    return {
      directory,
      library: join(directory, found.library),
      // It may have been built under another name.
      manifest: { ...found, ...labelsOf(kernel) },
      cached: true,
      millis: performance.now() - started,
    };
  }
  const work = `${directory}.${process.pid}.tmp`;
  try {
    writeSources(work, kernel);
    const resources = parseResources(await runAll(recipe.compile, work, kernel, options));
    for (const line of spillLines(resources)) options.onLine?.(line);
    await runStep(recipe.link, work, kernel, options);
    const millis = Math.round(performance.now() - started);
    const manifest = manifestOf(kernel, recipe, millis, resources);
    writeFileSync(join(work, 'manifest.json'), `${JSON.stringify(manifest, null, 1)}\n`);
    moveInto(work, directory, options.force ?? false);
    return { directory, library: join(directory, manifest.library), manifest, cached: false, millis };
  } finally {
    removeQuietly(work);
  }
}

/** The folder of a build: the kernel's name is for people, the key finds it. */
function directoryOf(kernel: Kernel, key: string): string {
  const named = join(outputRoot(), `${kernel.name}-${key}`);
  if (existsSync(named) || !existsSync(outputRoot())) return named;
  const other = readdirSync(outputRoot()).find((name) => name.endsWith(`-${key}`));
  return other ? join(outputRoot(), other) : named;
}

/** What a kernel is called. */
const labelsOf = ({ name, schedule: { dims, target, plan } }: Kernel) => ({
  name,
  model: dims.name,
  target: target.name,
  plan: plan.name,
  bandwidth: target.bandwidth,
  dims,
});

/** Puts a finished build in its place, unless another process was first: theirs may be open by now, and is the same. */
function moveInto(work: string, directory: string, force: boolean): void {
  if (!force && readBuilt(directory)) return;
  rmSync(directory, { recursive: true, force: true });
  try {
    renameSync(work, directory);
  } catch (error) {
    if (!readBuilt(directory)) throw error;
  }
}

/** Cleaning up must not hide the error that made it necessary. */
function removeQuietly(folder: string): void {
  try {
    rmSync(folder, { recursive: true, force: true });
  } catch {
    // Left for the next build of the same process id, or for people.
  }
}

function writeSources(folder: string, kernel: Kernel): void {
  try {
    rmSync(folder, { recursive: true, force: true });
    for (const [name, text] of Object.entries(kernel.sources)) {
      debug(1, () => `${join(folder, name)}: ${text.length} characters`);
      makeFolder(dirname(join(folder, name)));
      writeFileSync(join(folder, name), text);
    }
  } catch (error) {
    const reason = error instanceof Error ? error.message : String(error);
    throw new OnelaunchError('environment', `cannot write ${folder}: ${reason}`, {
      hint: 'set ONELAUNCH_CACHE to a folder that can be written',
    });
  }
}

function readBuilt(directory: string): Manifest | null {
  try {
    const parsed = manifestSchema.safeParse(
      JSON.parse(readFileSync(join(directory, 'manifest.json'), 'utf8')),
    );
    return parsed.success && existsSync(join(directory, parsed.data.library)) ? parsed.data : null;
  } catch {
    return null;
  }
}

/** Instruction sets that the CPU kernel is compiled for; the library picks one when it is loaded. */
const x86Paths: readonly (readonly [string, readonly string[]])[] = [
  ['plain', []],
  ['avx2', ['-mavx2', '-mfma', '-mf16c']],
  ['avx512', ['-mavx512f', '-mavx512bw', '-mavx512vl', '-mavx512dq', '-mfma', '-mf16c']],
  ['avx512bf16', ['-mavx512f', '-mavx512bw', '-mavx512vl', '-mavx512dq', '-mavx512bf16', '-mfma', '-mf16c']],
];

/** The paths to compile: all that the architecture has, or those that $ONELAUNCH_CPU_PATHS lists, such as plain,avx2. */
function cpuPaths(): typeof x86Paths {
  const all = process.arch === 'x64' ? x86Paths : x86Paths.slice(0, 1);
  const wanted = process.env['ONELAUNCH_CPU_PATHS']?.split(',');
  const unknown = wanted?.find((isa) => !all.some(([name]) => name === isa));
  if (unknown !== undefined) {
    throw new OnelaunchError('usage', `ONELAUNCH_CPU_PATHS has no path '${unknown}'`, {
      hint: `known: ${all.map(([name]) => name).join(', ')}`,
    });
  }
  return wanted ? all.filter(([isa]) => wanted.includes(isa)) : all;
}

const cxxFlags = [
  '-std=c++17',
  '-O3',
  '-fPIC',
  '-fno-math-errno',
  '-fvisibility=hidden',
  '-Wall',
  '-I.',
  '-Ihost',
] as const;

function needCxx(): Tool {
  const tool = findCxx();
  if (tool) return tool;
  throw new OnelaunchError('environment', 'no C++ compiler found', {
    hint: 'install g++ or clang++, or name one in CXX',
  });
}

function cpuRecipe(): Recipe {
  const cxx = needCxx();
  const paths = cpuPaths();
  const objects = [...paths.map(([isa]) => `kernel_${isa}.o`), 'backend.o', 'library.o'];
  return {
    compiler: cxx.version,
    flags: cxxFlags,
    compile: [
      ...paths.map(([isa, flags]): Step => {
        const args = [
          ...cxxFlags,
          `-DISA_NAME=${isa}`,
          ...flags,
          '-c',
          'kernel.cpp',
          '-o',
          `kernel_${isa}.o`,
        ];
        return { label: `kernel.cpp for ${isa}`, tool: cxx.path, args };
      }),
      { label: 'backend.cpp', tool: cxx.path, args: [...cxxFlags, '-c', 'backend.cpp', '-o', 'backend.o'] },
      {
        label: 'library.cpp',
        tool: cxx.path,
        args: [...cxxFlags, '-c', 'host/library.cpp', '-o', 'library.o'],
      },
    ],
    link: { label: 'link', tool: cxx.path, args: ['-shared', ...objects, '-o', 'library.so', '-pthread'] },
  };
}

/** PTX too, from which drivers of later GPUs make their code; that of an architecture with a letter is for no other GPU. */
function gencode(arch: string): string {
  const compute = arch.replace('sm_', 'compute_');
  return `-gencode=arch=${compute},code=${/\d$/.test(arch) ? `[${arch},${compute}]` : arch}`;
}

function cudaRecipe(kernel: Kernel): Recipe {
  const cxx = needCxx();
  const nvcc = findNvcc();
  if (!nvcc) {
    throw new OnelaunchError('environment', 'nvcc not found', {
      hint: 'install the CUDA toolkit or set CUDA_HOME, or use --target cpu',
    });
  }
  const arch = kernel.schedule.target.arch;
  const flags = [
    '-std=c++17',
    '-O3',
    '-lineinfo',
    gencode(arch),
    '-Xcompiler',
    '-fPIC,-fvisibility=hidden',
    '-I.',
    '-Ihost',
  ];
  const host = ['-x', 'c++', '-std=c++17', '-O2', '-Xcompiler', '-fPIC,-fvisibility=hidden', '-I.', '-Ihost'];
  return {
    compiler: `nvcc ${nvcc.version}, ${cxx.version}`,
    flags,
    compile: [
      {
        label: `kernel.cu for ${arch}`,
        tool: nvcc.path,
        args: [...flags, '-Xptxas', '-v', '-c', 'kernel.cu', '-o', 'kernel.o'],
      },
      {
        label: 'host/backend.cpp',
        tool: nvcc.path,
        args: [...host, '-c', 'host/backend.cpp', '-o', 'backend.o'],
      },
      { label: 'library.cpp', tool: nvcc.path, args: [...host, '-c', 'host/library.cpp', '-o', 'library.o'] },
    ],
    link: {
      label: 'link',
      tool: nvcc.path,
      args: [
        '-shared',
        '-cudart',
        'static',
        'kernel.o',
        'backend.o',
        'library.o',
        '-o',
        'library.so',
        '-Xcompiler',
        '-pthread',
      ],
    },
  };
}

/** How each kind of target is compiled. */
const recipes = { cuda: cudaRecipe, cpu: cpuRecipe } as const;

async function runAll(
  steps: readonly Step[],
  folder: string,
  kernel: Kernel,
  options: BuildOptions,
): Promise<string> {
  const queue = [...steps];
  let output = '';
  const stop = new AbortController();
  const signal = options.signal ? AbortSignal.any([options.signal, stop.signal]) : stop.signal;
  const worker = async () => {
    for (let step = queue.shift(); step; step = queue.shift())
      output += await runStep(step, folder, kernel, { ...options, signal });
  };
  const workers = Array.from({ length: Math.min(steps.length, availableParallelism()) }, worker);
  try {
    await Promise.all(workers);
    return output;
  } catch (error) {
    stop.abort();
    await Promise.allSettled(workers);
    throw error;
  }
}

/** What the tool printed. */
function runStep(step: Step, folder: string, kernel: Kernel, options: BuildOptions): Promise<string> {
  const begun = performance.now();
  options.onLine?.(step.label);
  debug(6, () => `${step.tool} ${step.args.join(' ')}`);
  return new Promise((resolve, reject) => {
    const child = spawn(step.tool, step.args, {
      cwd: folder,
      stdio: ['ignore', 'pipe', 'pipe'],
      env: { ...process.env, TMPDIR: tmpdir(), LC_ALL: 'C' },
      ...(options.signal ? { signal: options.signal } : {}),
    });
    let output = '';
    child.stdout.on('data', (data: Buffer) => (output += data.toString()));
    child.stderr.on('data', (data: Buffer) => (output += data.toString()));
    child.on('error', reject);
    child.on('close', (code) => {
      debug(1, () => `${step.label}: ${((performance.now() - begun) / 1000).toFixed(1)} s`);
      if (output) debug(6, () => output.trimEnd());
      if (code === 0) resolve(output);
      else reject(compileError(step.label, output, kernel.sources));
    });
  });
}

function manifestOf(
  kernel: Kernel,
  recipe: Recipe,
  millis: number,
  resources: readonly Resources[],
): Manifest {
  const { schedule } = kernel;
  return {
    format: 1,
    abi: abiVersion,
    hash: kernel.hash,
    ...labelsOf(kernel),
    kind: schedule.target.kind,
    passTokens: schedule.passTokens,
    roundings: schedule.roundings,
    library: 'library.so',
    weightBytes: schedule.packing.bytes,
    slots: schedule.slots.map((slot) => ({ ...slot, shape: [...slot.shape] })),
    bytes: bytesOf(schedule.dims),
    build: { compiler: recipe.compiler, flags: [...recipe.flags], millis, resources: [...resources] },
  };
}
