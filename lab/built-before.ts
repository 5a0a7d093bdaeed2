// What was built of a kernel before, by the compilers of this machine. Builds nothing.
import type { Manifest } from '../abi/manifest.ts';
import { directoryOf, readEntry } from '../codegen/build/cache.ts';
import { outputRoot } from '../codegen/build/output-root.ts';
import { findTools, keyOf, recipeOf } from '../codegen/build/recipe.ts';
import type { Kernel } from '../codegen/index.ts';

/** The manifest of its library; null where it is not built, or not whole. */
export function builtBefore(kernel: Kernel): Manifest | null {
  const recipe = recipeOf(kernel);
  const tools = findTools(recipe);
  if (tools instanceof Error) return null;
  const entry = readEntry(directoryOf(outputRoot(), kernel, keyOf(recipe, tools)));
  return entry.state === 'whole' ? entry.manifest : null;
}
