import { defineConfig } from 'vitest/config';

/** The tests of one folder; their limit only ends what hangs: ten times what the longest takes on two idle cores. */
const tier = (name: string, limitMinutes: number, globalSetup: string[] = []) => ({
  extends: true as const,
  test: {
    name,
    globalSetup,
    include: [`test/${name}/*.test.ts`],
    testTimeout: limitMinutes * 60_000,
    hookTimeout: limitMinutes * 60_000,
  },
});

export default defineConfig({
  test: {
    pool: 'forks',
    maxWorkers: '100%',
    globalSetup: 'test/support/built-once.ts',
    projects: [
      tier('unit', 2),
      tier('compile', 6),
      tier('thorough', 10),
      tier('emulated', 10),
      ...(process.env['ONELAUNCH_TEST_CUDA'] ? [tier('cuda', 10, ['test/support/needs-gpu.ts'])] : []),
    ],
  },
});
