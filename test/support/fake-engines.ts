// Engines over the fake backend, for the tests of a file: opened here, closed after each test.
import { afterEach, expect } from 'vitest';
import { notPacked } from '../../runtime/engine/arguments.ts';
import { type Sampling, sourceDtype, type TensorSource } from '../../runtime/engine/bindings.ts';
import { Engine } from '../../runtime/engine/engine.ts';
import { type EngineSettings, greedy as greedyOf } from '../../runtime/engine/options.ts';
import { slots } from './fake-slots.ts';
import { buildFake, type FakeSlot, vocab } from './host-fake.ts';

/** What the fake library can stand for, and the ordinal that makes it so. */
export const backends: readonly (readonly [string, number])[] = [
  ['a backend in host memory', 0],
  ['a backend on a device', 1],
  ['a backend on a device that takes many steps in one request', 2],
  ['a backend on a device that takes prompts of many tokens', 3],
];

/** The fake library of these weight slots, and how to open engines over it that the test need not close. */
export async function fakeEngines(of: readonly FakeSlot[] = slots) {
  const fake = await buildFake(of);
  const open: Engine[] = [];
  afterEach(() => {
    fake.allow(Number.POSITIVE_INFINITY);
    for (const engine of open.splice(0)) engine.close();
    expect(fake.alive(), 'every backend is freed').toBe(0);
  });

  async function emptyEngine(settings: Partial<EngineSettings> = {}): Promise<Engine> {
    const engine = await Engine.open(fake.path, fake.manifest, { context: 256, threads: 2, ...settings });
    open.push(engine);
    return engine;
  }
  async function readyEngine(settings: Partial<EngineSettings> = {}): Promise<Engine> {
    const engine = await emptyEngine(settings);
    await engine.load(of.map((_, slot) => randomSource(slot)));
    return engine;
  }
  /** Aborts once the engine made last has run so many passes; until then it runs no more. */
  function abortAfter(passes: number, reason?: unknown): AbortSignal {
    const abort = new AbortController();
    fake.allow(passes);
    const before = fake.work().passes;
    const watching = setInterval(() => {
      if (fake.work().passes < before + passes) return;
      clearInterval(watching);
      abort.abort(reason);
    }, 1).unref();
    return abort.signal;
  }
  return { fake, emptyEngine, readyEngine, abortAfter };
}

export const randomSource = (slot: number): TensorSource => ({
  path: null,
  offset: 0,
  slot,
  dtype: sourceDtype.random,
  head_rows: 0,
  seed: slot + 1,
  mean: 0,
  scale: 1,
  packing: notPacked,
});
export const randomSources = () => slots.map((_, slot) => randomSource(slot));

export const greedy: Sampling = greedyOf(vocab);
