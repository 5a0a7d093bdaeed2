// Threads and processes that end with an engine open: whatever it does at that moment, the rest of the process goes on.
import { execFile } from 'node:child_process';
import { rmSync } from 'node:fs';
import { afterAll, describe, expect, it } from 'vitest';
import { buildKernel } from '../../load.ts';
import { bundled } from '../support/bundled.ts';
import { thorough } from '../support/thorough.ts';

const { directory, manifest } = await buildKernel({ model: 'qwen3-tiny', target: 'cpu' });
// Bundled, since it begins sixty threads and processes.
const { path: program, folder } = bundled('test/support/ends-with-engine.ts');
afterAll(() => rmSync(folder, { recursive: true }));

/** What ends a thread, and what its engine does then. */
const endings = [
  ['end', 'open'],
  ['end', 'replying'],
  ...['opening', 'replying'].map((moment) => ['throw', moment] as const),
  ...['loading', 'scoring'].map((moment) => ['exit', moment] as const),
  ...['opening', 'loading', 'open', 'replying', 'scoring'].map((moment) => ['terminate', moment] as const),
  ['terminate', 'sharing'],
] as const;

/** Runs the program; its exit code, the signal that ended it, and what it said. */
async function run(moment: string, way: string, threads: number) {
  const args = [program, directory, moment, way, String(threads)];
  for (let left = 5; ; left--) {
    const ran = await new Promise<{ code: unknown; signal: unknown; out: string; err: string }>((resolve) => {
      execFile(process.execPath, args, { timeout: 45_000 }, (error, out, err) => {
        resolve({ code: error === null ? 0 : error.code, signal: error?.signal ?? null, out, err });
      });
    });
    // koffi 3.3.4 ends the process if its thread is terminated in the very moment in which koffi makes a function.
    const isKoffis = moment === 'opening' && ran.err.includes('Error::ThrowAsJavaScriptException');
    if (!isKoffis || left === 0) return ran;
  }
}

interface Said {
  readonly exits: readonly number[];
  readonly megabytes: readonly number[];
  readonly ids: readonly number[];
}

const exitCodes: Readonly<Record<string, number>> = { end: 0, throw: 1, exit: 3, terminate: 1 };

describe('a worker thread with an engine', () => {
  it.each(endings)('leaves a whole process behind (%s while %s)', async (way, moment) => {
    const { code, signal, out } = await run(moment, way, 2);
    expect({ code, signal }).toEqual({ code: 0, signal: null });
    const said = JSON.parse(out) as Said;
    expect(said.exits).toEqual([exitCodes[way], exitCodes[way]]);
    expect(said.ids.length).toBeGreaterThan(0);
  });

  if (thorough)
    it('gives its memory back when it is terminated', async () => {
      const { out } = await run('replying', 'terminate', 14);
      const { exits, megabytes } = JSON.parse(out) as Said;
      expect(exits).toEqual(Array(14).fill(1));
      // The weights alone of the last eight would be 92 MB.
      const leaked = (8 * manifest.weightBytes) / 1e6;
      expect(megabytes[13]! - megabytes[5]!).toBeLessThan(leaked / 2);
    });
});

describe('a process with an engine', () => {
  it.each([
    ['end', 'open'],
    ['throw', 'replying'],
    ['exit', 'loading'],
    ['exit', 'replying'],
    ['exit', 'scoring'],
    ['exit', 'sharing'],
  ])('ends as it wants to (%s while %s)', async (way, moment) => {
    const { code, signal } = await run(moment, way, 0);
    expect({ code, signal }).toEqual({ code: exitCodes[way], signal: null });
  });
});
