// Several engines beside each other say what each says alone: in one process, in two, and behind one that was killed.
// The CPU: test/compile/several-engines.test.ts. A GPU: test/cuda/several-engines.test.ts.
import { spawn } from 'node:child_process';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { type BuiltKernel, buildKernel, openEngine } from '../../load.ts';
import type { Engine } from '../../runtime/engine/engine.ts';
import { read } from './read-reply.ts';
import { within } from './within.ts';

const prompt = Array.from({ length: 40 }, (_, i) => (i * 7919 + 13) % 4096);
const program = fileURLToPath(new URL('./replying-process.ts', import.meta.url));

export interface SeveralEngines {
  readonly target: string;
  readonly plan: string;
  readonly model: string;
  /** Tokens of each reply. */
  readonly tokens: number;
  /** Replies of each engine. */
  readonly rounds: number;
}

export function severalEnginesSuite({ target, plan, model, tokens, rounds }: SeveralEngines): void {
  describe(`plan ${plan}, ${model} with random weights`, () => {
    let built: BuiltKernel;
    let alone: readonly number[];
    beforeAll(async () => {
      built = await buildKernel({ model, target, plan });
      const engine = await open();
      alone = await reply(engine);
      engine.close();
    });

    const children: ReturnType<typeof spawn>[] = [];
    afterAll(() => {
      for (const child of children) child.kill('SIGKILL');
    });

    const open = async () =>
      (await openEngine(built, { randomWeights: { seed: 0 }, context: 512, threads: 1 })).engine;

    async function reply(engine: Engine): Promise<readonly number[]> {
      engine.reset(0);
      return (await read(engine.generate(prompt, { maxTokens: tokens }))).ids;
    }
    async function replies(engine: Engine): Promise<void> {
      for (let round = 0; round < rounds; round++) expect(await reply(engine)).toEqual(alone);
    }

    /** A process with an engine of its own, which replies again and again; each line it says is a reply. */
    function beside() {
      const args = [join(built.directory, 'manifest.json'), built.library, String(tokens), prompt.join()];
      const child = spawn(process.execPath, ['--import', 'tsx', program, ...args]);
      children.push(child);
      const lines: string[] = [];
      let said = '';
      let heard = () => {};
      let errors = '';
      child.stderr.on('data', (data) => (errors += data));
      child.stdout.on('data', (data) => {
        const parts = (said + data).split('\n');
        said = parts.pop() ?? '';
        lines.push(...parts);
        heard();
      });
      const ended = new Promise<string | null>((resolve) => {
        child.on('exit', (_code, signal) => {
          resolve(signal);
          heard();
        });
      });
      return {
        ended: () => within(ended, () => 'the end of the process beside'),
        kill: () => child.kill('SIGKILL'),
        /** The replies of the process from now on: so many, right, without an error. */
        async replies(count: number): Promise<void> {
          const until = lines.length + count;
          while (lines.length < until) {
            if (child.exitCode !== null) throw new Error(`the process beside ended: ${errors}`);
            const more = new Promise<void>((resolve) => {
              heard = resolve;
            });
            await within(more, () => `a reply of the process beside, which wrote ${errors}`);
          }
          expect(lines.slice(until - count, until)).toEqual(Array(count).fill(alone.join()));
        },
      };
    }

    test.each([2, 3])('%i engines of one process', async (count) => {
      const engines = await Promise.all(Array.from({ length: count }, open));
      try {
        await Promise.all(engines.map(replies));
      } finally {
        for (const engine of engines) engine.close();
      }
    });

    test('an engine that is closed while another replies', async () => {
      const [one, other] = await Promise.all([open(), open()]);
      const failing = reply(one).catch((error: Error) => error.message);
      const going = replies(other);
      one.close();
      expect(['the engine was closed during this job', alone]).toContainEqual(await failing);
      await going;
      other.close();
    });

    test('two processes, one of which is killed; then another begins', async () => {
      const killed = beside();
      const engine = await open();
      await Promise.all([killed.replies(rounds), replies(engine)]);
      killed.kill();
      expect(await killed.ended()).toBe('SIGKILL');
      await replies(engine);
      const next = beside();
      await Promise.all([next.replies(rounds), replies(engine)]);
      engine.close();
      await next.replies(1);
      next.kill();
    });
  });
}
