// The generated sources that are kept in the repository, to be read and reviewed as code.
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { generate, type Kernel } from '../../codegen/index.ts';
import { resolveModel, resolvePlan, resolveTarget } from '../../configs/resolve.ts';

export const goldenFolder = import.meta.dirname;

/** Two micro models, so that every switch of a model is on in one and off in the other; all plans; both kinds of target. */
const cases = [
  ['qwen3-micro', 'h100', 'cooperative'],
  ['qwen3-micro', 'h100', 'stream'],
  ['qwen3-micro', 'cpu', 'cooperative'],
  ['qwen2-micro', 'h100', 'unfused'],
  ['qwen2-micro', 'cpu', 'unfused'],
] as const;

/** The files of a kernel that depend on model and plan: the kernel itself and model.h. */
export const printedFiles = (kernel: Kernel): [string, string][] =>
  Object.entries(kernel.sources).filter(([name]) => name === 'model.h' || /^kernel\./.test(name));

/** All golden kernels, as generated now. */
export async function goldenKernels(): Promise<Kernel[]> {
  const kernels: Kernel[] = [];
  for (const [model, target, plan] of cases) {
    const { dims } = resolveModel(join(goldenFolder, '..', 'fixtures', model));
    kernels.push(await generate({ dims, target: resolveTarget(target), plan: await resolvePlan(plan) }));
  }
  return kernels;
}

/** Folder of a golden kernel, and its files as they are kept. */
export function readGoldenFiles(kernel: Kernel): Map<string, string> {
  const folder = join(goldenFolder, kernel.name);
  return new Map(readdirSync(folder).map((file) => [file, readFileSync(join(folder, file), 'utf8')]));
}
