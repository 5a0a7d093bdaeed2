// What makes the library of the same sources another.
import { afterEach, expect, it, vi } from 'vitest';
import { cpuPaths } from '../../codegen/build/cpu-paths.ts';
import { recipeOf } from '../../codegen/build/recipe.ts';
import { generate } from '../../codegen/index.ts';
import { resolveModel, resolvePlan, resolveTarget } from '../../configs/resolve.ts';

const { dims } = resolveModel('qwen3-tiny');
const plan = await resolvePlan('cooperative');
afterEach(() => vi.unstubAllEnvs());

it.each(['cpu', 'h100'])('flags of %s: one that writes down what it does when is another', async (name) => {
  const kernel = await generate({ dims, plan, target: resolveTarget(name) });
  expect(recipeOf(kernel, { profile: true }).hash).not.toBe(recipeOf(kernel).hash);
});

it('paths that are listed, though they are all that there are: it holds none beside them', async () => {
  const kernel = await generate({ dims, plan, target: resolveTarget('cpu') });
  vi.stubEnv('ONELAUNCH_CPU_PATHS', undefined);
  const { hash } = recipeOf(kernel);
  vi.stubEnv('ONELAUNCH_CPU_PATHS', cpuPaths.map(({ name }) => name).join(','));
  expect(recipeOf(kernel).hash).not.toBe(hash);
});
