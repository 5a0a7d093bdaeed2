// The weights of a fixture under rotary settings for longer contexts, with what transformers makes of them.
import { cpSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { packageRoot } from '../../codegen/build/package-root.ts';

const fixtures = join(packageRoot(), 'test/fixtures');

/** YaRN as it is by default, and with all of its settings. */
export const scaledPositions = ['linear', 'yarn', 'yarn-set'] as const;

/** Writes the checkpoint into a folder of that name. @returns its path */
export function makeScaled(root: string, name: (typeof scaledPositions)[number]): string {
  const json = (path: string) =>
    JSON.parse(readFileSync(join(fixtures, path), 'utf8')) as Record<string, object>;
  const { rope_parameters, golden } = json(`scaled-positions/${name}.json`);
  const folder = join(root, name);
  mkdirSync(folder, { recursive: true });
  cpSync(join(fixtures, 'qwen3-micro/model.safetensors'), join(folder, 'model.safetensors'));
  writeFileSync(
    join(folder, 'config.json'),
    JSON.stringify({ ...json('qwen3-micro/config.json'), rope_parameters }),
  );
  writeFileSync(join(folder, 'golden.json'), JSON.stringify(golden));
  return folder;
}
