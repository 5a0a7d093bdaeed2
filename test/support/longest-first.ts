// The order of test files: those that take longest begin first, so that none of them is left over for one worker at the end.
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { BaseSequencer, type TestSpecification } from 'vitest/node';
import { packageRoot } from '../../codegen/build/package-root.ts';

/** Those of more than 15 s: on a fresh clone nothing else says how long a file takes. */
const names = {
  compile: [
    ...['cpu-lib', 'golden-kernels', 'prompts', 'build', 'pack', 'gguf', 'stream-variants', 'layer-kinds'],
    ...['engine-cpu', 'explore', 'serve', 'ending-threads', 'isa', 'calibrate', 'cuda-host', 'sequences'],
  ],
  unit: ['verify', 'profile', 'gguf-model', 'load-blocks', 'plan-rules', 'speculation', 'reference'],
};
const longest = Object.entries(names).flatMap(([tier, files]) =>
  files.map((name) => join(packageRoot(), 'test', tier, `${name}.test.ts`)),
);

export class LongestFirst extends BaseSequencer {
  override async sort(files: TestSpecification[]): Promise<TestSpecification[]> {
    const gone = longest.filter((path) => !existsSync(path));
    if (gone.length > 0)
      throw new Error(`test/support/longest-first.ts names files that are not there: ${gone.join(', ')}`);
    const sorted = await super.sort(files);
    const first = longest.flatMap((path) => sorted.filter(({ moduleId }) => moduleId === path));
    return [...first, ...sorted.filter((file) => !first.includes(file))];
  }
}
