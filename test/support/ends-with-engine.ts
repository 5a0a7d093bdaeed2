// A program of its own, whose threads end with an engine open. argv: folder of a built library, how they end, how many threads; none: the main thread.
// Prints what came of it as JSON, the last of all being a reply of the main thread's own engine.
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { isMainThread, parentPort, Worker, workerData } from 'node:worker_threads';
import type { Manifest } from '../../abi/manifest.ts';
import type { TensorSource } from '../../runtime/engine/bindings.ts';
import type { Engine } from '../../runtime/engine/engine.ts';
import { read } from './read-reply.ts';

interface Ending {
  readonly folder: string;
  readonly moment: string;
  readonly way: string;
}

const context = 1000;

/** Imports what it needs itself: a main thread without an engine has loaded no native code, and its threads unload theirs. */
async function openEngine(
  folder: string,
  before = () => {},
): Promise<{ engine: Engine; sources: TensorSource[] }> {
  const [{ Engine }, { randomPlan }] = await Promise.all([
    import('../../runtime/engine/engine.ts'),
    import('../../runtime/weights/load-plan.ts'),
  ]);
  before();
  const manifest = JSON.parse(readFileSync(join(folder, 'manifest.json'), 'utf8')) as Manifest;
  const engine = await Engine.open(join(folder, manifest.library), manifest, {
    context,
    threads: 2,
    sequences: 3,
  });
  return { engine, sources: randomPlan(manifest, 1) };
}

/** Ends this thread at a moment, with the engine open; what runs then is left running. */
async function endAt({ folder, moment, way }: Ending): Promise<void> {
  const reached = (now: string) => {
    if (now !== moment) return;
    if (way === 'throw') throw new Error('on purpose');
    if (way === 'exit') process.exit(3);
    if (way === 'terminate') parentPort?.postMessage('now');
  };
  // A message is on its way while the engine is made; what throws or exits does so once it is there.
  const opening = () => (way === 'terminate' ? reached('opening') : setImmediate(reached, 'opening'));
  const { engine, sources } = await openEngine(folder, opening);
  const loading = engine.load(sources);
  reached('loading');
  await loading;
  reached('open');
  if (way === 'end' && moment === 'open') return;
  if (moment === 'scoring') setTimeout(reached, 5, 'scoring');
  const ids = Array.from({ length: context }, (_, i) => i);
  if (moment === 'scoring') await engine.score(ids, 0);
  if (moment === 'sharing') {
    const share = async (id: number): Promise<never> => {
      const sequence = engine.open();
      for (;;) {
        sequence.reset();
        for await (const _ of sequence.generate([id], { maxTokens: 900 })) reached('sharing');
      }
    };
    await Promise.all([1, 2, 3].map(share));
  }
  // One reply after the other: what is to end this thread finds it at work, however late it comes.
  for (;;) {
    engine.reset();
    for await (const _ of engine.generate([1, 2], { maxTokens: 900 })) {
      reached('replying');
      if (way === 'end') return;
    }
  }
}

/** Runs a thread that ends so; its exit code. */
function thread(ending: Ending): Promise<number> {
  const worker = new Worker(new URL(import.meta.url), { workerData: ending });
  worker.on('message', () => void worker.terminate());
  worker.on('error', () => {}); // those that throw
  return new Promise((resolve) => worker.on('exit', resolve));
}

async function main([folder = '', moment = '', way = '', threads = '0']: readonly string[]): Promise<void> {
  const exits: number[] = [];
  const megabytes: number[] = [];
  if (threads === '0') return endAt({ folder, moment, way });
  for (let i = 0; i < Number(threads); i++) {
    exits.push(await thread({ folder, moment, way }));
    megabytes.push(Math.round(process.memoryUsage.rss() / 1e6));
  }
  const { engine, sources } = await openEngine(folder);
  await engine.load(sources);
  const { ids } = await read(engine.generate([1, 2, 3], { maxTokens: 20 }));
  engine.close();
  console.log(JSON.stringify({ exits, megabytes, ids }));
}

if (isMainThread) await main(process.argv.slice(2));
else await endAt(workerData as Ending);
