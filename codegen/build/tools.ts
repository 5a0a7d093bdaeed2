// Compilers and GPUs of this machine.
import { spawnSync } from 'node:child_process';

export interface Tool {
  readonly path: string;
  readonly version: string;
}

export interface Gpu {
  readonly name: string;
  /** Such as sm_90. */
  readonly arch: string;
  readonly driver: string;
  readonly memoryMiB: number;
}

function run(path: string, args: readonly string[]): string | null {
  const { status, stdout } = spawnSync(path, args, { encoding: 'utf8', timeout: 20_000 });
  return status === 0 ? stdout : null;
}

function firstTool(
  candidates: readonly (string | undefined)[],
  versionOf: (text: string) => string,
): Tool | null {
  for (const path of candidates) {
    const text = path ? run(path, ['--version']) : null;
    if (path && text) return { path, version: versionOf(text) };
  }
  return null;
}

/** The C++ compiler: $CXX, else g++, clang++ or c++ on the path. */
export const findCxx = (): Tool | null =>
  firstTool([process.env['CXX'], 'g++', 'clang++', 'c++'], (text) => text.split('\n')[0]!.trim());

/** nvcc: $NVCC, on the path, under $CUDA_HOME, or in its usual place. */
export function findNvcc(): Tool | null {
  const home = process.env['CUDA_HOME'] ?? process.env['CUDA_PATH'];
  return firstTool(
    [process.env['NVCC'], 'nvcc', home ? `${home}/bin/nvcc` : undefined, '/usr/local/cuda/bin/nvcc'],
    (text) => /release [\d.]+, V([\d.]+)/.exec(text)?.[1] ?? 'unknown',
  );
}

/** The first GPU that nvidia-smi lists, or null. */
export function findGpu(): Gpu | null {
  const text = run('nvidia-smi', [
    '--query-gpu=name,compute_cap,driver_version,memory.total',
    '--format=csv,noheader,nounits',
  ]);
  const [name, capability, driver, memory] =
    text
      ?.split('\n')[0]
      ?.split(',')
      .map((part) => part.trim()) ?? [];
  if (!name || !capability || !driver || !memory) return null;
  return { name, arch: `sm_${capability.replace('.', '')}`, driver, memoryMiB: Number(memory) };
}
