import { defineConfig } from 'vitest/config';
import { LongestFirst } from './test/support/longest-first.ts';

/** The tests of one folder; their limit only ends what hangs: ten times what the longest takes on two idle cores. */
const tier = (name: string, limitMinutes: number, globalSetup: string[] = []) => ({
  extends: true as const,
  test: {
    name,
    globalSetup,
    include: [`test/${name}/*.test.ts`],
    setupFiles: 'test/support/processes-end.ts',
    env: { ONELAUNCH_TEST_LIMIT: String(limitMinutes * 60_000) },
    testTimeout: limitMinutes * 60_000,
    hookTimeout: limitMinutes * 60_000,
  },
});

/** Unit tests that change what is the whole process's: the modules that others import, or where compilers are looked for. */
const apart = [
  'build-compilers',
  'hostile-arguments',
  'identity',
  'no-threads',
  'preflight',
  'target-file',
].map((name) => `test/unit/${name}.test.ts`);
const unit = tier('unit', 2);

export default defineConfig({
  test: {
    pool: 'forks',
    maxWorkers: '100%',
    sequence: { sequencer: LongestFirst },
    globalSetup: 'test/support/built-once.ts',
    projects: [
      // Files of one worker share their modules: to import them anew for each took as long as the tests.
      { ...unit, test: { ...unit.test, exclude: apart, isolate: false } },
      { ...unit, test: { ...unit.test, name: 'unit-apart', include: apart } },
      tier('compile', 6),
      tier('thorough', 10),
      tier('emulated', 10),
      ...(process.env['ONELAUNCH_TEST_CUDA'] ? [tier('cuda', 10, ['test/support/needs-gpu.ts'])] : []),
    ],
  },
});
