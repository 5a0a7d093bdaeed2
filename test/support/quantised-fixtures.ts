// Fixtures as gen quantize writes them, with what transformers makes of these files by compressed-tensors, in float32.
import { copyFileSync } from 'node:fs';
import { join } from 'node:path';
import { memoryIo } from '../../cli/io.ts';
import { run } from '../../cli/run.ts';
import { fixture } from './changed-models.ts';

export const quantisedFixtures = [
  ['llama3-micro', 'int8'],
  ['granite-micro', 'int4'],
  ['qwen2-micro', 'fp8'],
] as const;

/** Writes the checkpoint into a folder. @returns its path */
export async function makeQuantised(root: string, name: string, format: string): Promise<string> {
  const folder = join(root, `${name}-${format}`);
  const { io, written } = memoryIo();
  const code = await run(['quantize', fixture(name), '--weights', format, '--out', folder], io);
  if (code !== 0) throw new Error(written.err);
  copyFileSync(join(fixture(name), `golden-${format}.json`), join(folder, 'golden.json'));
  return folder;
}
