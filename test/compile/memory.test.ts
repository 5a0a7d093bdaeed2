// A process that may map less than an engine takes: the system says no, and a program hears how much there was, what would fit, and goes on.
import { spawnSync } from 'node:child_process';
import { join } from 'node:path';
import { expect, it } from 'vitest';
import { packageRoot } from '../../codegen/build/package-root.ts';

it('an engine that the system refuses is an error of memory, and leaves none taken', () => {
  const program = join(packageRoot(), 'test/support/limited-memory.ts');
  const timeout = Number(process.env['ONELAUNCH_TEST_LIMIT']);
  const { stdout, stderr } = spawnSync(process.execPath, ['--import', 'tsx', program], {
    ...{ cwd: packageRoot(), encoding: 'utf8', timeout },
  });
  expect(stdout, stderr).not.toBe('');
  const told = JSON.parse(stdout) as Record<string, number>;
  expect(told).toMatchObject({
    ...{ name: 'InsufficientMemoryError', kind: 'environment' },
    message: expect.stringMatching(/^cannot allocate \d+\.\d MB: .* \(Cannot allocate memory\)$/),
    hint: `A context of ${told['fittingContext']} would fit.`,
  });
  const { neededBytes = 0, freeBytes = 0, fittingContext = 0, context = 0, spareBytes = 0 } = told;
  expect(freeBytes).toBeGreaterThan(0);
  expect(freeBytes).toBeLessThanOrEqual(spareBytes);
  expect(neededBytes).toBeGreaterThan(spareBytes);
  expect(fittingContext).toBeLessThan(context);
  // What Node.js takes meanwhile is no tenth of the engine.
  expect(told['keptBytes']).toBeLessThan(neededBytes / 10);
  expect(told['opened']).toBe(Math.floor(fittingContext / 2));
});
