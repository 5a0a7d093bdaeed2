// Writes the kept kernels and runtime/engine/bindings.ts anew: npm run golden -- --update. Without the flag it says which would change.
import { existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { bindingsSource } from '../../abi/print-bindings.ts';
import { packageRoot } from '../../codegen/build/package-root.ts';
import { keptFolder, keptKernels, printedFiles, readKept } from './kernels.ts';

const update = process.argv.includes('--update');
let changed = 0;

function compare(name: string, path: string, kept: string | undefined, text: string): void {
  if (kept === text) return;
  changed++;
  console.log(`${update ? 'wrote' : 'differs'}  ${name}`);
  if (update) writeFileSync(path, text);
}

const bindings = join(packageRoot(), 'runtime', 'engine', 'bindings.ts');
const keptBindings = existsSync(bindings) ? readFileSync(bindings, 'utf8') : undefined;
compare('runtime/engine/bindings.ts', bindings, keptBindings, bindingsSource());
for (const kernel of await keptKernels()) {
  const folder = join(keptFolder, kernel.name);
  mkdirSync(folder, { recursive: true });
  const kept = readKept(kernel);
  for (const [name, text] of printedFiles(kernel)) {
    compare(`${kernel.name}/${name}`, join(folder, name), kept.get(name), text);
  }
}
if (changed > 0 && !update) process.exitCode = 1;
