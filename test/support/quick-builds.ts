// For a file of unit tests whose libraries show the same unoptimised: it builds as the compile tier does, which then has them.
import { afterAll, beforeAll, vi } from 'vitest';
import { outputRoot } from '../../codegen/build/output-root.ts';
import { quickCompiler } from './quick-compiler.ts';

/** Files of one worker share its environment: it is as it was behind the tests of this one. */
export function buildQuickly(): void {
  beforeAll(() => {
    const quick = quickCompiler(outputRoot());
    if (quick !== null) vi.stubEnv('CXX', quick);
  });
  afterAll(() => void vi.unstubAllEnvs());
}
