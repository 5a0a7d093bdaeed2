// nvcc's flags for tests that ask whether it accepts a kernel, and not how good its instructions are.
import { spawnSync } from 'node:child_process';
import type { Tool } from '../../codegen/build/tools.ts';
import { thorough } from './thorough.ts';

/** Those that compile device code to its end in the shortest time. nvcc of CUDA 13 has one for it, which leaves functions apart. */
export function quickNvcc({ path, args }: Tool): readonly string[] {
  const { stdout } = spawnSync(path, [...args, '--help'], { encoding: 'utf8' });
  return !thorough && stdout.includes('(-Ofc)') ? ['-Ofc', 'max'] : ['-Xcicc', '-O1', '-Xptxas', '-O1'];
}
