// Before the tests of a run: one folder for all libraries, and in it those that most tests open. None is compiled twice.
import { join } from 'node:path';
import { packageRoot } from '../../codegen/build/package-root.ts';
import { findCxx } from '../../codegen/build/tools.ts';
import { buildKernel } from '../../load.ts';
import { slots } from './fake-slots.ts';
import { compileFake } from './host-fake.ts';

export async function setup(): Promise<void> {
  // What a machine has in its Hub cache is not part of a test, and no test asks the Hub.
  process.env['HF_HUB_CACHE'] = join(packageRoot(), 'generated', 'test', 'no-models');
  process.env['HF_ENDPOINT'] = 'http://127.0.0.1:1';
  process.env['ONELAUNCH_CACHE'] ??= join(packageRoot(), 'generated', 'test');
  // The instruction sets that most machines run; test/compile/isa.test.ts builds all and compares them.
  process.env['ONELAUNCH_CPU_PATHS'] ??= process.arch === 'x64' ? 'plain,avx2' : 'plain';
  if (findCxx()) await Promise.all([buildKernel({ model: 'qwen3-tiny', target: 'cpu' }), compileFake(slots)]);
}
