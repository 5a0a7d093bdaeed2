// Our engine as a peer of the others: `tsx bench/peers/ours.ts '{"model":...}'`, then lines of JSON as python/peer.py describes them.
import { createInterface } from 'node:readline';
import { z } from 'zod';
import { weightNames } from '../../codegen/model/formats.ts';
import { buildKernel, openEngine } from '../../load.ts';
import type { Request } from './peer-process.ts';

const optionsSchema = z.object({
  model: z.string(),
  target: z.string(),
  plan: z.string().optional(),
  weights: z.enum(weightNames).optional(),
  context: z.int().positive(),
  threads: z.int().positive().optional(),
  random: z.boolean(),
});

const say = (value: unknown) => void process.stdout.write(`${JSON.stringify(value)}\n`);

async function open() {
  const { random, context, threads, ...asked } = optionsSchema.parse(JSON.parse(process.argv[2] ?? ''));
  const built = await buildKernel(asked, { weights: !random, run: { context } });
  const weights = random ? { randomWeights: { seed: 0 } } : {};
  const { engine } = await openEngine(built, { context, threads, ...weights });
  return { engine, kernel: built.kernel };
}

async function answer(engine: Awaited<ReturnType<typeof open>>['engine'], request: Request) {
  engine.reset(0);
  const maxTokens = request.op === 'decode' ? request.tokens + 1 : 1;
  const ids: number[] = [];
  const run = engine.generate(request.prompt, { maxTokens });
  for (;;) {
    const next = await run.next();
    if (!next.done) {
      ids.push(...next.value);
      continue;
    }
    const { decodeMs, prefillMs } = next.value.timings;
    // The first token is the prompt's.
    if (request.op === 'decode') return { seconds: decodeMs / 1000, ids: ids.slice(1) };
    return { seconds: prefillMs / 1000, ids };
  }
}

try {
  const { engine, kernel } = await open();
  say({ version: `${kernel.name} ${kernel.hash}`, variants: [kernel.plan.name], device: engine.device });
  for await (const line of createInterface({ input: process.stdin })) {
    try {
      say(await answer(engine, JSON.parse(line) as Request));
    } catch (error) {
      say({ error: (error as Error).message });
    }
  }
  engine.close();
} catch (error) {
  say({ missing: (error as Error).message });
}
