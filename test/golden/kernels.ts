// The generated sources that are kept in the repository, to be read and reviewed as code; and small ones for compilers.
import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { packageRoot } from '../../codegen/build/package-root.ts';
import { generate, type Kernel } from '../../codegen/index.ts';
import { resolveModel, resolvePlan, resolvePromptPlan, resolveTarget } from '../../configs/resolve.ts';

/** In the repository, where `gen` also puts what it builds: only these kernels are kept. */
export const keptFolder = join(packageRoot(), 'generated');

type Case = readonly [model: string, target: string, plan: string, promptPlan?: string];

/** What one wants to read without running anything. */
const kept: readonly Case[] = [
  ['qwen3-0.6b', 'h100', 'stream'],
  ['qwen3-0.6b', 'h100', 'stream', 'prefill'],
  ['qwen3-0.6b', 'h100', 'cooperative'],
  ['qwen3-0.6b', 'h100', 'unfused'],
  ['qwen3-0.6b', 'cpu', 'cooperative'],
];

/** Small kernels for compilers: two micro models, so that every switch of a model is on in one and off in the other. */
const micro: readonly Case[] = [
  ['qwen3-micro', 'h100', 'cooperative'],
  ['qwen3-micro', 'h100', 'stream'],
  ['qwen3-micro', 'cpu', 'cooperative'],
  ['qwen2-micro', 'h100', 'unfused'],
  ['qwen2-micro', 'cpu', 'unfused'],
];

/** The files of a kernel that depend on model and plan: the kernel itself and model.h; of one with a plan for prompts that plan's alone. */
export const printedFiles = ({ sources, prompts }: Kernel): [string, string][] =>
  Object.entries(sources).filter(([name]) =>
    prompts ? /^prompt\./.test(name) : name === 'model.h' || /^kernel\./.test(name),
  );

const kernelsOf = (cases: readonly Case[], pathOf: (model: string) => string): Promise<Kernel[]> =>
  Promise.all(
    cases.map(async ([model, target, plan, forPrompts]) => {
      const { dims } = resolveModel(pathOf(model));
      const promptPlan = forPrompts === undefined ? null : await resolvePromptPlan(forPrompts);
      return generate({ dims, target: resolveTarget(target), plan: await resolvePlan(plan), promptPlan });
    }),
  );

/** The kept kernels, as generated now. */
export const keptKernels = (): Promise<Kernel[]> => kernelsOf(kept, (model) => model);

export const microKernels = (): Promise<Kernel[]> =>
  kernelsOf(micro, (model) => join(packageRoot(), 'test', 'fixtures', model));

/** The files of a kernel as they are kept, by name. */
export function readKept(kernel: Kernel): Map<string, string> {
  const folder = join(keptFolder, kernel.name);
  const files = existsSync(folder) ? readdirSync(folder) : [];
  return new Map(files.map((file) => [file, readFileSync(join(folder, file), 'utf8')]));
}
