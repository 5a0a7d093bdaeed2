// The order of test files: those that take longest begin first, so that none of them is left over for one worker at the end.
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { BaseSequencer, type TestSpecification } from 'vitest/node';
import { packageRoot } from '../../codegen/build/package-root.ts';

/** Those that take longest, 10 s and more: on a fresh clone nothing else says how long a file takes. */
const names = {
  compile: [
    ...['cpu-lib', 'gguf', 'pack', 'build', 'engine-cpu', 'prompts', 'stream-variants', 'draft-model'],
    ...['layer-kinds', 'explore', 'words', 'isa', 'clang', 'golden-kernels', 'ending-threads', 'serve'],
    ...['sessions', 'coming', 'calibrate', 'cli-process', 'sequences', 'report-page', 'structured'],
    ...['quantise', 'haproxy', 'cuda-host'],
  ],
  unit: [
    ...['plan-shape', 'verify', 'calibrated', 'load-blocks', 'enough-memory', 'cli', 'profile', 'reference'],
    ...['plan-rules', 'plan-files', 'gguf-model', 'tiles'],
  ],
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
