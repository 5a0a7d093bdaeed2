// Our engine as a peer of the others: `tsx bench/peers/ours.ts '{"model":...}'`, then lines of JSON as python/peer.py describes them.
import { createInterface } from 'node:readline';
import { z } from 'zod';
import { weightNames } from '../../codegen/model/formats.ts';
import { replyRoom, secondsBy, timedTogether } from '../../lab/together.ts';
import { buildKernel, openEngine } from '../../load.ts';
import type { Request } from './peer-process.ts';

const optionsSchema = z.object({
  model: z.string(),
  target: z.string(),
  plan: z.string().optional(),
  weights: z.enum(weightNames).optional(),
  context: z.int().positive(),
  /** Most sequences of a request. */
  sequences: z.int().positive(),
  threads: z.int().positive().optional(),
  random: z.boolean(),
});

const say = (value: unknown) => void process.stdout.write(`${JSON.stringify(value)}\n`);

async function open() {
  const { random, context, sequences, threads, ...asked } = optionsSchema.parse(
    JSON.parse(process.argv[2] ?? ''),
  );
  const built = await buildKernel(asked, { weights: !random, run: { context, sequences } });
  const weights = random ? { randomWeights: { seed: 0 } } : {};
  const { engine } = await openEngine(built, { context, sequences, threads, ...weights });
  return { engine, kernel: built.kernel };
}

type OurEngine = Awaited<ReturnType<typeof open>>['engine'];

async function together(
  engine: OurEngine,
  { prompt, tokens, sequences, clock }: Extract<Request, { op: 'batch' }>,
) {
  const open = Array.from({ length: sequences }, () => engine.open());
  try {
    const maxTokens = replyRoom(sequences, prompt.length, tokens);
    return await timedTogether(
      open.map((sequence) => sequence.generate(prompt, { maxTokens })),
      tokens,
      clock ?? 'wall',
    );
  } finally {
    await Promise.all(open.map((sequence) => sequence.close()));
  }
}

async function answer(engine: OurEngine, request: Request) {
  engine.reset(0);
  if (request.op === 'batch') return together(engine, request);
  const maxTokens = request.op === 'decode' ? request.tokens + 1 : 1;
  const ids: number[] = [];
  const clock = request.clock ?? 'wall';
  const started = secondsBy(clock);
  let first = Number.NaN;
  const run = engine.generate(request.prompt, { maxTokens });
  for (;;) {
    const next = await run.next();
    if (!next.done) {
      ids.push(...next.value);
      if (Number.isNaN(first)) first = secondsBy(clock);
      continue;
    }
    const { decodeMs, prefillMs } = next.value.timings;
    if (clock === 'processor') {
      const isDecode = request.op === 'decode';
      return isDecode
        ? { seconds: secondsBy(clock) - first, ids: ids.slice(1) }
        : { seconds: first - started, ids };
    }
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
