// What a machine can do without a model: a small program is compiled, run, and read.
import { dirname, join } from 'node:path';
import { fullDiskOf } from '../../codegen/build/full-disk.ts';
import { packageRoot } from '../../codegen/build/package-root.ts';
import { runCommand } from '../../codegen/build/run-steps.ts';
import { findCxx, findNvcc, missingTool } from '../../codegen/build/tools.ts';
import type { Target } from '../../codegen/schedule/target.ts';
import { OnelaunchError } from '../../errors.ts';
import { duringFolder, temporaryHints } from '../../files/temporary-folder.ts';
import { type ProbeFigure, readFigures } from './record.ts';

interface ProbeOptions {
  /** GPU ordinal. */
  readonly device: number;
  /** Of a CPU. */
  readonly threads: number;
  readonly signal: AbortSignal;
}

/** @throws OnelaunchError environment without a compiler or a folder for temporary files, failed where the probe cannot be compiled or run;
 *  the reason of the signal */
export const runProbe = (target: Target, options: ProbeOptions): Promise<ProbeFigure[]> =>
  duringFolder('probe', async (folder) => {
    const program = join(folder, 'probe');
    const { device, threads, signal } = options;
    const run = async (command: readonly string[]) => {
      const { code, output, stdout } = await runCommand(command, { folder, temporary: folder, signal });
      if (code !== 0) throw failed(target, folder, output, `it exited with ${code}`);
      return stdout;
    };
    await run(compilation(target, program));
    const printed = await run([program, String(target.kind === 'cuda' ? device : threads)]);
    try {
      return readFigures(printed);
    } catch (error) {
      throw failed(target, folder, '', (error as Error).message);
    }
  });

function failed({ name }: Target, folder: string, output: string, otherwise: string): OnelaunchError {
  const why = output.trim().split('\n')[0] || otherwise;
  return (
    fullDiskOf(dirname(folder), output, temporaryHints) ??
    new OnelaunchError('failed', `the probe of ${name} failed: ${why}`, {
      hint: 'gen doctor says what this machine has',
    })
  );
}

/** The command that compiles the probe. @throws OnelaunchError environment without a compiler */
function compilation(target: Target, program: string): readonly string[] {
  const templates = join(packageRoot(), 'templates');
  if (target.kind === 'cuda') {
    const nvcc = findNvcc();
    if (!nvcc) throw missingTool('nvcc');
    const code = `arch=${target.arch.replace('sm', 'compute')},code=${target.arch}`;
    const source = join(templates, 'cuda', 'probe', 'probe.cu');
    return [nvcc.path, ...nvcc.args, '-std=c++17', '-O3', '-gencode', code, source, '-o', program];
  }
  const cxx = findCxx();
  if (!cxx) throw missingTool('cxx');
  const source = join(templates, 'cpu', 'probe', 'probe.cpp');
  const flags = ['-std=c++17', '-O3', '-march=native', '-pthread', `-I${join(templates, 'cpu')}`];
  return [cxx.path, ...cxx.args, ...flags, source, '-o', program];
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
