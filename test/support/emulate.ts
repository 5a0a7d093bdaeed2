// A CUDA kernel as a library that runs on the CPU: the generated text, with test/native/emulator in the place of a GPU.
import { execFile } from 'node:child_process';
import { createHash } from 'node:crypto';
import {
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { dirname, join } from 'node:path';
import { promisify } from 'node:util';
import { outputRoot } from '../../codegen/build/output-root.ts';
import { packageRoot } from '../../codegen/build/package-root.ts';
import { findCxx, findNvcc } from '../../codegen/build/tools.ts';
import type { Kernel } from '../../codegen/index.ts';
import { emulatedSource } from './emulated-source.ts';

const run = promisify(execFile);
const native = join(packageRoot(), 'test', 'native');

/** Why this machine cannot emulate, or null. */
export function cannotEmulate(): string | null {
  if (process.platform !== 'linux' || process.arch !== 'x64')
    return 'the emulator is written for Linux on x86-64';
  if (!findCxx()) return 'there is no C++ compiler';
  return findNvcc() ? null : 'the headers of CUDA are not here, nor nvcc';
}

export interface EmulateOptions {
  /** Multiprocessors of the machine. @default 3 at barriers, as many as a stream has blocks */
  readonly multiprocessors?: number;
}

/** Compiles the sources of a kernel with the emulator, once: the path of a library with our C ABI.
 *  $ONELAUNCH_EMULATOR_SEED decides in which order it runs threads. */
export async function emulate(kernel: Kernel, options: EmulateOptions = {}): Promise<string> {
  const { target } = kernel.schedule;
  const { scheme, blocks } = kernel.schedule;
  const multiprocessors = options.multiprocessors ?? (scheme === 'barriers' ? 3 : blocks);
  const objects = await emulatorObjects();
  const sources = Object.fromEntries(
    Object.entries(kernel.sources).map(([name, text]) => [
      name,
      isDeviceCode(name) ? emulatedSource(text) : text,
    ]),
  );
  const machine = `#include "emulator/machine.h"\nconst EmulatedMachine emulated_machine{${multiprocessors}, ${target.sharedBytes}};\n`;
  const files = { ...sources, 'machine.cpp': machine };
  const arch = Number(/\d+/.exec(target.arch)![0]) * 10;
  return cached('library.so', [files, arch, objects], async (folder) => {
    write(folder, files);
    const include = await includes();
    const common = [
      '-std=c++17',
      '-g1',
      '-fPIC',
      '-fvisibility=hidden',
      '-fno-gnu-unique',
      ...include,
      '-I.',
      '-Ihost',
    ];
    const device = [
      '-O1',
      '-march=native',
      `-DEMULATED_ARCH=${arch}`,
      '-include',
      'emulator/device.h',
      '-x',
      'c++',
    ];
    const kernels = Object.keys(kernel.sources).filter((name) => name.endsWith('.cu'));
    const compile = (args: string[]) => cxx(folder, [...common, ...args]);
    await Promise.all([
      ...kernels.map((name) => compile([...device, '-c', name, '-o', `${name}.o`])),
      compile(['-O1', '-c', 'host/backend.cpp', '-o', 'backend.o']).then(() =>
        compile(['-O1', '-c', 'host/library.cpp', '-o', 'library.o']),
      ),
    ]);
    const link = [
      '-shared',
      '-Wl,-Bsymbolic',
      'machine.cpp',
      ...kernels.map((name) => `${name}.o`),
      'backend.o',
      'library.o',
    ];
    await compile([...link, ...objects, '-o', 'library.so', '-pthread']);
  });
}

const isDeviceCode = (name: string): boolean => /\.cuh?$/.test(name);

/** The emulator itself, which is the same for all kernels. */
async function emulatorObjects(): Promise<readonly string[]> {
  const folder = join(native, 'emulator');
  const sources = [
    ...readdirSync(folder).map((name) => join('emulator', name)),
    ...['runtime.cpp', 'runtime.h'].map((name) => join('cuda-host', name)),
  ].filter((name) => /\.(?:cpp|h)$/.test(name));
  const texts = sources.map((name) => readFileSync(join(native, name), 'utf8'));
  const files = sources.filter((name) => name.endsWith('.cpp'));
  const archive = await cached('emulator.o', texts, async (work) => {
    const include = await includes();
    const flags = [
      '-std=c++17',
      '-O2',
      '-g1',
      '-march=native',
      '-fPIC',
      '-fvisibility=hidden',
      '-fno-gnu-unique',
    ];
    const each = files.map((name, i) => [...flags, ...include, '-c', join(native, name), '-o', `${i}.o`]);
    await atOnce(each.map((args) => () => cxx(work, args)));
    await cxx(work, ['-r', ...files.map((_, i) => `${i}.o`), '-o', 'emulator.o']);
  });
  return [archive];
}

/** Two at a time. */
async function atOnce(tasks: readonly (() => Promise<void>)[]): Promise<void> {
  const left = [...tasks];
  const work = async () => {
    for (let task = left.shift(); task; task = left.shift()) await task();
  };
  await Promise.all([work(), work()]);
}

/** Our stand-ins in front of CUDA's own headers. */
async function includes(): Promise<string[]> {
  const { stderr } = await run(findNvcc()!.path, ['-dryrun', '-c', 'none.cu', '-o', 'none.o']).catch(
    (error: { stderr: string }) => error,
  );
  const found = /INCLUDES="(-I[^"]*?)"/.exec(stderr);
  if (!found) throw new Error(`nvcc does not say where its headers are: ${stderr}`);
  const theirs = found[1]!
    .trim()
    .split(/\s+/)
    .map((flag) => `-isystem${flag.slice(2)}`);
  return [
    `-I${join(native, 'emulator', 'include')}`,
    `-I${native}`,
    `-I${join(native, 'emulator')}`,
    ...theirs,
  ];
}

async function cxx(cwd: string, args: readonly string[]): Promise<void> {
  const { path, args: first } = findCxx()!;
  await run(path, [...first, ...args], { cwd, maxBuffer: 1 << 26 });
}

/** The path of a file in a folder that `make` fills, unless it was made of the same parts before. */
async function cached(
  file: string,
  parts: unknown,
  make: (folder: string) => Promise<void>,
): Promise<string> {
  const key = createHash('sha256')
    .update(JSON.stringify([file, parts, findCxx()!.version]))
    .digest('hex');
  const root = join(outputRoot(), 'emulated');
  const folder = join(root, key.slice(0, 12));
  if (existsSync(folder)) return join(folder, file);
  mkdirSync(root, { recursive: true });
  const work = mkdtempSync(join(root, 'work-'));
  try {
    await make(work);
    renameSync(work, folder);
  } catch (error) {
    // Another may have made it meanwhile.
    if (!existsSync(folder)) throw error;
  } finally {
    rmSync(work, { recursive: true, force: true });
  }
  return join(folder, file);
}

function write(folder: string, files: Readonly<Record<string, string>>): void {
  for (const [name, text] of Object.entries(files)) {
    mkdirSync(dirname(join(folder, name)), { recursive: true });
    writeFileSync(join(folder, name), text);
  }
}
