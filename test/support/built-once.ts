// Before the tests of a run: one folder for all libraries, and in it those that most tests open. None is compiled twice.
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { TestProject } from 'vitest/node';
import { pathsHere } from '../../codegen/build/cpu-paths.ts';
import { packageRoot } from '../../codegen/build/package-root.ts';
import { findCxx } from '../../codegen/build/tools.ts';
import { buildKernel } from '../../load.ts';
import { slots } from './fake-slots.ts';
import { compileFake } from './host-fake.ts';
import { useQuickCompiler } from './quick-compiler.ts';

/** What tests leave in the folder for temporary files goes when they have run. */
function ownTemporary(): () => void {
  const folder = mkdtempSync(join(tmpdir(), 'onelaunch-tests-'));
  process.env['TMPDIR'] = folder;
  return () => rmSync(folder, { recursive: true, force: true });
}

export async function setup({ name }: TestProject): Promise<() => void> {
  const teardown = ownTemporary();
  // What a machine has in its Hub cache is not part of a test, and no test asks the Hub.
  process.env['HF_HUB_CACHE'] = join(packageRoot(), 'generated', 'test', 'no-models');
  process.env['HF_ENDPOINT'] = 'http://127.0.0.1:1';
  process.env['ONELAUNCH_CACHE'] ??= join(packageRoot(), 'generated', 'test');
  // The instruction set that most machines run; test/compile/isa.test.ts builds all and compares them.
  process.env['ONELAUNCH_CPU_PATHS'] ??= pathsHere()?.some((path) => path.name === 'avx2') ? 'avx2' : 'plain';
  if (name === 'compile') useQuickCompiler(process.env['ONELAUNCH_CACHE']);
  if (findCxx()) await Promise.all([buildKernel({ model: 'qwen3-tiny', target: 'cpu' }), compileFake(slots)]);
  return teardown;
}
