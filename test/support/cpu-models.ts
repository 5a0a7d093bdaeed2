// Kernels for the CPU that differ in formats, sizes and kinds of layers, built, with the folder of their weights.
import { join } from 'node:path';
import { build } from '../../codegen/index.ts';
import type { CacheName } from '../../codegen/model/formats.ts';
import { settleCache } from '../../codegen/settle-cache.ts';
import { resolvePlan, resolveTarget } from '../../configs/resolve.ts';
import { type BuiltKernel, buildKernel } from '../../load.ts';
import type { Isa } from '../../runtime/engine/options.ts';
import { type RandomModel, writeRandomModel } from './random-model.ts';
import { kernelOfTwoKinds, makeTwoKinds } from './two-kinds.ts';

export type BuiltModel = Pick<BuiltKernel, 'library' | 'manifest'> & { readonly modelDirectory: string };

export async function builtOf(model: string, plan?: string, cache?: CacheName): Promise<BuiltModel> {
  const built = await buildKernel({ model, target: 'cpu', plan, cache });
  return { ...built, modelDirectory: built.modelDirectory! };
}

/** A random model of sizes that divide by nothing, in a folder of its own below `root`. */
export function randomModel(
  root: string,
  shape: Partial<RandomModel>,
  plan?: string,
  cache?: CacheName,
): Promise<BuiltModel> {
  const folder = join(root, String(shape.dtype));
  writeRandomModel(folder, {
    ...{ type: 'qwen3', dtype: 'float16', hidden: 100, ffn: 150, layers: 2 },
    ...{ qHeads: 6, kvHeads: 2, headDim: 20, vocab: 333, tied: true },
    ...shape,
  });
  return builtOf(folder, plan, cache);
}

/** Layers with a window, and some without. */
export async function twoKinds(root: string, cache?: CacheName): Promise<BuiltModel> {
  const { dims, folder } = await makeTwoKinds(root);
  const kernel = await kernelOfTwoKinds(
    { dims: settleCache(dims, cache) },
    resolveTarget('cpu'),
    await resolvePlan('cooperative'),
  );
  return { ...(await build(kernel)), modelDirectory: folder };
}

/** What an engine calls a path of the library. */
export const isaOf = (path: string): Isa => (path === 'plain' ? 'generic' : (path as Isa));
