// Sequences of one engine on the GPU found here that join, leave, go on, are aborted and fill their cache: nothing hangs, what they say is what a
// pass over all of it would choose, and no memory is kept: npm run test:cuda.
import { execFileSync } from 'node:child_process';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { findGpu } from '../../codegen/build/gpus.ts';
import { type BuiltKernel, buildKernel, openEngine } from '../../load.ts';
import type { Sampling } from '../../runtime/engine/bindings.ts';
import type { Engine } from '../../runtime/engine/engine.ts';
import { greedy } from '../../runtime/engine/options.ts';
import type { Sequence } from '../../runtime/engine/sequence.ts';
import { tolerance } from '../../runtime/verify/tolerance.ts';
import { collectGarbage } from '../support/collect-garbage.ts';
import { wholeNumbers } from '../support/random.ts';
import { read } from '../support/read-reply.ts';

const tokens = Number(process.env['ONELAUNCH_TEST_TOKENS'] ?? 200_000);
const places = 16;
const context = 1024;

const samplings: readonly Partial<Sampling>[] = [
  {},
  { temperature: 0.8, top_k: 20, frequency_penalty: 1 },
  { temperature: 0.7, top_p: 0.9, min_p: 0.02, repetition_penalty: 1.1 },
  { repetition_penalty: 1.05, presence_penalty: 0.2 },
];

interface Memory {
  readonly host: number;
  readonly device: number;
  /** Replies so far. */
  readonly replies: number;
}

describe(`${tokens} tokens of ${places} sequences of qwen3-0.6b with random weights`, () => {
  let built: BuiltKernel;
  let engine: Engine;
  beforeAll(async () => {
    built = await buildKernel({ model: 'qwen3-0.6b', plan: 'stream' });
    ({ engine } = await openEngine(built, { randomWeights: { seed: 0 }, context, sequences: places }));
  });
  afterAll(() => engine.close());

  test('are what they are alone, and leave nothing behind', async () => {
    const { dims, manifest } = built;
    const { vocab } = dims;
    const count = { made: 0, replies: 0, aborted: 0, full: 0, left: 0, stopped: 0, checked: 0, other: 0 };
    let widest = 0;

    /** How far the choices of a greedy reply lie below the best of a pass over all of it, the sequence's own numbers alone. */
    async function check(sequence: Sequence, all: readonly number[], replied: number): Promise<void> {
      sequence.reset(0);
      const rows = await sequence.score(all.slice(0, -1), all.length - 1 - replied);
      let squares = 0;
      for (const value of rows) squares += value * value;
      const { margin } = tolerance({
        ...{ dims, dtype: dims.dtype, decimals: null, extraRoundings: manifest.roundings },
        ...{ positions: all.length, counted: rows.length, logitRms: Math.sqrt(squares / rows.length) },
      });
      for (let i = 0; i < replied; i++) {
        const row = rows.subarray(i * vocab, (i + 1) * vocab);
        let best = -Infinity;
        for (const value of row) best = Math.max(best, value);
        const below = best - row[all[all.length - replied + i]!]!;
        count.checked++;
        if (below > 0) count.other++;
        widest = Math.max(widest, below / margin);
      }
    }

    async function worker(seed: number, upTo: number): Promise<void> {
      const random = wholeNumbers(Math.imul(seed, 2654435761)); // neighbours begin alike
      while (count.made < upTo) {
        await using sequence = engine.open();
        const kind = samplings[random(samplings.length)]!;
        const isChecked = kind === samplings[0] && random(8) === 0;
        const all: number[] = [];
        // One reply, or a conversation of up to three; one of sixteen fills its cache.
        const fills = random(16) === 0;
        for (let said = 1 + random(3); said > 0 && sequence.position < context - 1; said--) {
          const room = context - sequence.position;
          const wanted = fills ? room - random(Math.min(room, 40)) : Math.min(room, 1 + random(300));
          // What came last is not in the cache yet: the next prompt begins with it.
          const open = sequence.position < all.length ? all.slice(-1) : [];
          const fresh = Array.from({ length: Math.max(wanted - open.length, 1 - open.length) }, () =>
            random(vocab),
          );
          const prompt = [...open, ...fresh].slice(0, room);
          const before = sequence.position;
          const stop = new AbortController();
          const ends = random(8);
          const options = {
            maxTokens: 20 + random(100),
            sampling: { ...greedy(vocab), seed: random(1e6), ...kind },
            ...(ends === 0 && { signal: stop.signal }),
            ...(ends === 1 && { stopIds: Array.from({ length: 1024 }, () => random(vocab)) }),
          };
          const reply = sequence.generate(prompt, options);
          if (ends === 2) {
            for await (const some of reply) {
              count.made += some.length;
              break;
            }
            count.left++;
            break;
          }
          if (ends === 0) setTimeout(() => stop.abort(), random(30));
          const { ids, finish } = await read(reply);
          count.made += ids.length;
          count.replies++;
          if (finish === 'abort') {
            count.aborted++;
            break;
          }
          if (finish === 'context') count.full++;
          if (finish === 'stop') count.stopped++;
          all.push(...fresh, ...ids);
          expect(sequence.position, `${finish} behind ${before} and ${prompt.length}`).toBe(
            before + prompt.length + Math.max(ids.length - 1, 0),
          );
          if (isChecked && ids.length > 0) {
            await check(sequence, all, ids.length);
            break;
          }
        }
      }
    }

    /** What the process has of the host's memory when nothing runs, and all have of the GPU's [bytes]. */
    function memory(): Memory {
      collectGarbage();
      const query = ['--query-gpu=memory.used', '--format=csv,noheader,nounits', '-i', findGpu()!.uuid];
      const device = Number(execFileSync('nvidia-smi', query, { encoding: 'utf8' })) * 2 ** 20;
      return { host: process.memoryUsage.rss(), device, replies: count.replies };
    }
    const quarters: Memory[] = [];
    for (const part of [1, 2, 3, 4]) {
      const upTo = (tokens * part) / 4;
      await Promise.all(Array.from({ length: places }, (_, i) => worker(i + upTo, upTo)));
      quarters.push(memory());
    }
    const [, middle, , end] = quarters as [Memory, Memory, Memory, Memory];
    console.log(JSON.stringify({ ...count, widest, quarters }));
    expect(widest).toBeLessThan(1);
    for (const kind of ['aborted', 'full', 'left', 'stopped', 'checked'] as const) {
      expect(count[kind], kind).toBeGreaterThan(0);
    }
    expect(end.device).toBe(middle.device);
    // Less than a page a reply.
    expect(end.host - middle.host).toBeLessThan((end.replies - middle.replies) * 4096);
  });
});
