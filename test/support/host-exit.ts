// A program of its own: uses an engine as argv says, leaves it open, and must end by itself at the right time.
import { readFileSync } from 'node:fs';
import { notPacked } from '../../runtime/engine/arguments.ts';
import { sourceDtype } from '../../runtime/engine/bindings.ts';
import { Engine } from '../../runtime/engine/engine.ts';

const [path = '', manifestFile = '', how, slow] = process.argv.slice(2);
const manifest = JSON.parse(readFileSync(manifestFile, 'utf8'));

async function main() {
  const engine = await Engine.open(path, manifest, { context: 100 });
  if (how !== 'idle') await reply(engine);
  if (how === 'close') engine.close();
  process.stdout.write('end');
}

async function reply(engine: Engine) {
  const random = {
    path: null,
    offset: 0,
    dtype: sourceDtype.random,
    head_rows: 0,
    seed: 1,
    mean: 0,
    scale: 1,
    packing: notPacked,
  };
  await engine.load(manifest.slots.map((_: unknown, slot: number) => ({ ...random, slot })));
  // Nothing but the job keeps the process alive from here on.
  for await (const batch of engine.generate([Number(slow)], { maxTokens: 10 })) {
    process.stdout.write(`${batch.length} `);
  }
}
main();
