import { defineConfig } from 'vitest/config';

export default defineConfig({
  test: {
    include: ['test/**/*.test.ts'],
    exclude: process.env['ONELAUNCH_TEST_CUDA'] ? [] : ['test/cuda/**'],
    testTimeout: 120_000,
    hookTimeout: 240_000,
    pool: 'forks',
    // Compiling dominates the tests: kernels get the paths that most machines run; test/isa.test.ts builds and compares all.
    env: { ONELAUNCH_CPU_PATHS: process.arch === 'x64' ? 'plain,avx2' : 'plain' },
  },
});
