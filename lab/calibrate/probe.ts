// What a machine can do without a model: a small program is compiled, run, and read.
import { execFile } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { packageRoot } from '../../codegen/build/package-root.ts';
import { findCxx, findNvcc, missingTool } from '../../codegen/build/tools.ts';
import type { Target } from '../../codegen/schedule/target.ts';
import { OnelaunchError } from '../../errors.ts';
import { type ProbeFigure, readFigures } from './record.ts';

const run = promisify(execFile);

interface ProbeOptions {
  /** GPU ordinal. */
  readonly device: number;
  /** Of a CPU. */
  readonly threads: number;
  readonly signal: AbortSignal;
}

/** @throws OnelaunchError environment without a compiler, failed where the probe cannot be compiled or run */
export async function runProbe(
  target: Target,
  { device, threads, signal }: ProbeOptions,
): Promise<ProbeFigure[]> {
  const folder = mkdtempSync(join(tmpdir(), 'onelaunch-probe-'));
  const program = join(folder, 'probe');
  const templates = join(packageRoot(), 'templates');
  try {
    if (target.kind === 'cuda') {
      const nvcc = findNvcc();
      if (!nvcc) throw missingTool('nvcc');
      const code = `arch=${target.arch.replace('sm', 'compute')},code=${target.arch}`;
      const source = join(templates, 'cuda', 'probe', 'probe.cu');
      await run(nvcc.path, [...nvcc.args, '-std=c++17', '-O3', '-gencode', code, source, '-o', program], {
        signal,
      });
    } else {
      const cxx = findCxx();
      if (!cxx) throw missingTool('cxx');
      const source = join(templates, 'cpu', 'probe', 'probe.cpp');
      const flags = ['-std=c++17', '-O3', '-march=native', '-pthread', `-I${join(templates, 'cpu')}`];
      await run(cxx.path, [...cxx.args, ...flags, source, '-o', program], { signal });
    }
    const { stdout } = await run(program, [String(target.kind === 'cuda' ? device : threads)], { signal });
    return readFigures(stdout);
  } catch (error) {
    signal.throwIfAborted();
    if (error instanceof OnelaunchError) throw error;
    const { stderr = '', message } = error as Error & { stderr?: string };
    throw new OnelaunchError(
      'failed',
      `the probe of ${target.name} failed: ${(stderr || message).trim().split('\n')[0]}`,
      {
        hint: 'gen doctor says what this machine has',
        cause: error,
      },
    );
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}

/** The median of one figure; the largest x where there are several. @throws OnelaunchError failed without it */
export function figureOf(figures: readonly ProbeFigure[], term: string): number {
  const found = figures.filter((figure) => figure.term === term).toSorted((a, b) => b.x - a.x)[0];
  if (!found) throw new OnelaunchError('failed', `the probe printed no ${term}`);
  return found.value;
}

/** How much faster than memory a cache is at least. */
const leastGain = 1.5;

/** The most bytes that are read faster than from memory, and how fast [GB/s]; nothing where none are. */
export function cacheOf(figures: readonly ProbeFigure[]): { l2Bytes: number; cacheBandwidth: number } | null {
  const memory = figureOf(figures, 'bandwidth');
  const cached = figures
    .filter(({ term, value }) => term === 'cacheBandwidth' && value >= leastGain * memory)
    .toSorted((a, b) => b.x - a.x)[0];
  return cached ? { l2Bytes: cached.x * 2 ** 20, cacheBandwidth: cached.value } : null;
}
