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
  readonly multiprocessors?: number | undefined;
  /** The library writes down what its threads do when. */
  readonly profile?: boolean | undefined;
}

/** Compiles the sources of a kernel with the emulator, once: the path of a library with our C ABI.
 *  $ONELAUNCH_EMULATOR_SEED decides in which order it runs threads. */
export async function emulate(kernel: Kernel, options: EmulateOptions = {}): Promise<string> {
  const { target, scheme, blocks } = kernel.schedule;
  const multiprocessors = options.multiprocessors ?? (scheme === 'barriers' ? 3 : blocks);
  const { sources } = kernel;
  const machine = `const EmulatedMachine emulated_machine{${multiprocessors}, ${target.sharedBytes}};\n`;
  const arch = Number(/\d+/.exec(target.arch)![0]) * 10;
  const kernels = Object.keys(sources).filter((name) => name.endsWith('.cu'));
  const defined = options.profile ? ['-DPROFILE=1'] : [];
  const [objects, host, ...device] = await Promise.all([
    emulatorObject(),
    hostObject(sources, defined),
    ...kernels.map((name) => deviceObject(sources, name, { arch, defined })),
  ]);
  return cached('library.so', [machine, objects, host, device], async (folder) => {
    write(folder, { 'machine.cpp': `#include "emulator/machine.h"\n${machine}` });
    const flags = ['-shared', '-Wl,-Bsymbolic', '-pthread'];
    await cxx(folder, [...flags, 'machine.cpp', ...device, host, objects, '-o', 'library.so']);
  });
}

type Sources = Readonly<Record<string, string>>;

/** The kernel's code, rewritten. @param file that is compiled; `sources` are what it includes */
export function deviceObject(
  sources: Sources,
  file: string,
  { arch = 900, defined = [] }: { readonly arch?: number; readonly defined?: readonly string[] } = {},
): Promise<string> {
  const files = Object.fromEntries(
    Object.entries(sources).map(([name, text]) => [name, isDeviceCode(name) ? emulatedSource(text) : text]),
  );
  const headers = readHeaders();
  return cached('device.o', [files, file, arch, defined, headers], async (folder) => {
    write(folder, files);
    const device = [...defined, `-DEMULATED_ARCH=${arch}`, '-include', 'emulator/device.h', '-x', 'c++'];
    await cxx(folder, ['-O1', '-march=native', ...device, '-c', file, '-o', 'device.o']);
  });
}

/** The host's code, which sees of the device's only its types. What does not know the model is the same for most kernels. */
async function hostObject(sources: Sources, defined: readonly string[]): Promise<string> {
  const files = partOf(sources, (name) => !isDeviceCode(name) || name === 'lib/types.cuh');
  const library = partOf(sources, (name) => name.startsWith('host/') || name === 'abi.h');
  const compile = (folder: string, name: string) =>
    cxx(folder, ['-O1', ...defined, '-c', `host/${name}.cpp`, '-o', `${name}.o`]);
  const shared = await cached('library.o', [library, defined], async (folder) => {
    write(folder, library);
    await compile(folder, 'library');
  });
  return cached('host.o', [files, defined], async (folder) => {
    write(folder, files);
    await Promise.all([compile(folder, 'backend'), compile(folder, 'model')]);
    await cxx(folder, ['-r', 'backend.o', shared, 'model.o', '-o', 'host.o']);
  });
}

const partOf = (sources: Sources, isPart: (name: string) => boolean): Sources =>
  Object.fromEntries(Object.entries(sources).filter(([name]) => isPart(name)));

const isDeviceCode = (name: string): boolean => /\.cuh?$/.test(name);

const emulatorFiles = (ending: RegExp): readonly string[] =>
  ['emulator', 'emulator/include', 'cuda-host/runtime.cpp', 'cuda-host/runtime.h']
    .flatMap((name) =>
      name.includes('.') ? [name] : readdirSync(join(native, name)).map((file) => `${name}/${file}`),
    )
    .filter((name) => ending.test(name));

const readHeaders = () => emulatorFiles(/\.h$/).map((name) => readFileSync(join(native, name), 'utf8'));

/** The emulator itself, which is the same for all kernels. */
export function emulatorObject(): Promise<string> {
  const files = emulatorFiles(/\.cpp$/);
  const texts = files.map((name) => readFileSync(join(native, name), 'utf8'));
  return cached('emulator.o', [texts, readHeaders()], async (work) => {
    // As one source: most of what each takes to compile is for headers that the others have too.
    write(work, { 'emulator.cpp': files.map((name) => `#include "${join(native, name)}"\n`).join('') });
    await cxx(work, ['-O2', '-march=native', '-c', 'emulator.cpp', '-o', 'emulator.o']);
  });
}

let found: Promise<string[]> | undefined;
/** Our stand-ins in front of CUDA's own headers. */
const includes = (): Promise<string[]> => (found ??= findIncludes());

async function findIncludes(): Promise<string[]> {
  const { stderr } = await run(findNvcc()!.path, ['-dryrun', '-c', 'none.cu', '-o', 'none.o']).catch(
    (error: { stderr: string }) => error,
  );
  const listed = /INCLUDES="(-I[^"]*?)"/.exec(stderr);
  if (!listed) throw new Error(`nvcc does not say where its headers are: ${stderr}`);
  const theirs = listed[1]!
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

/** Runs the compiler, with the flags of all files. */
export async function cxx(cwd: string, args: readonly string[]): Promise<void> {
  const { path, args: first } = findCxx()!;
  const flags = ['-std=c++17', '-g1', '-fPIC', '-fvisibility=hidden', '-fno-gnu-unique'];
  const all = [...first, ...flags, ...(await includes()), '-I.', '-Ihost', ...args];
  await turn(() => run(path, all, { cwd, maxBuffer: 1 << 26 }));
}

let running = 0;
const waiting: (() => void)[] = [];
/** Two at a time. */
async function turn(task: () => Promise<unknown>): Promise<void> {
  if (running === 2) await new Promise<void>((begin) => waiting.push(begin));
  else running++;
  try {
    await task();
  } finally {
    const next = waiting.shift();
    if (next) next();
    else running--;
  }
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
