// A program of its own: an engine with random weights that replies to one prompt until it is killed, a line of tokens each.
import { readFileSync } from 'node:fs';
import { Engine } from '../../runtime/engine/engine.ts';
import { randomPlan } from '../../runtime/weights/load-plan.ts';
import { read } from './read-reply.ts';

const [manifestFile = '', library = '', tokens = '', prompt = ''] = process.argv.slice(2);
const manifest = JSON.parse(readFileSync(manifestFile, 'utf8'));
const engine = await Engine.open(library, manifest, { context: 512, threads: 1 });
await engine.load(randomPlan(manifest, 0));
for (;;) {
  engine.reset(0);
  const ids = prompt.split(',').map(Number);
  const reply = await read(engine.generate(ids, { maxTokens: Number(tokens) }));
  console.log(reply.ids.join());
}
