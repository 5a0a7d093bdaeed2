// Writes the golden kernels anew: npm run golden -- --update. Without the flag it says which would change.
import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { goldenFolder, goldenKernels, printedFiles, readGoldenFiles } from './kernels.ts';

const update = process.argv.includes('--update');
let changed = 0;
for (const kernel of await goldenKernels()) {
  const folder = join(goldenFolder, kernel.name);
  mkdirSync(folder, { recursive: true });
  const kept = readGoldenFiles(kernel);
  for (const [name, text] of printedFiles(kernel)) {
    if (kept.get(name) === text) continue;
    changed++;
    console.log(`${update ? 'wrote' : 'differs'}  ${kernel.name}/${name}`);
    if (update) writeFileSync(join(folder, name), text);
  }
}
if (changed > 0 && !update) process.exitCode = 1;
