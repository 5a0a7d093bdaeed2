// A model that is closed, and replies that nobody reads on, over the library itself.
import { describe, expect, it } from 'vitest';
import { greedy } from '../../runtime/generation-config.ts';
import { LanguageModel } from '../../runtime/model.ts';
import type { Reply } from '../../runtime/reply.ts';
import { collectGarbage } from '../support/collect-garbage.ts';
import { backends, fakeEngines, randomSources } from '../support/fake-engines.ts';
import { fakeReply } from '../support/host-fake.ts';
import { failureOf } from '../support/refusal.ts';
import { until } from '../support/within.ts';

const { fake, readyEngine, emptyEngine } = await fakeEngines();

describe.each(backends)('a model over %s', (_, device) => {
  async function ready(queue?: number) {
    const engine = await readyEngine({ device });
    return new LanguageModel({
      ...{ engine, queue },
      manifest: fake.manifest,
      defaults: greedy,
      tokenizer: null,
      template: null,
    });
  }
  /** A reply of one token; it waits for its end. */
  const held = (model: LanguageModel) => {
    fake.allow(1);
    return model.generate([9], { maxTokens: 200 });
  };

  it('is closed from within the loop over its reply, which then ends', async () => {
    const model = await ready();
    const reply = held(model);
    let made = 0;
    for await (const piece of reply) {
      made += piece.tokens.length;
      await model.close();
      expect(fake.alive()).toBe(0);
    }
    const result = await reply.result();
    expect(result.finish).toBe('abort');
    expect(result.tokens).toHaveLength(made);
    expect(result.tokens.length).toBeLessThan(200);
    expect((await failureOf(held(model).result())).message).toBe('the model is closed');
  });

  it('is closed twice at the same time, and both wait until it is', async () => {
    const model = await ready();
    const reading = held(model).result();
    const first = model.close();
    await model.close();
    expect(fake.alive()).toBe(0);
    expect((await reading).finish).toBe('abort');
    await first;
  });

  it('is closed while a reply waits for its reader', async () => {
    const model = await ready();
    const iterator = held(model)[Symbol.asyncIterator]();
    await iterator.next();
    await model.close();
    expect(fake.alive()).toBe(0);
    let last = await iterator.next();
    while (!last.done) last = await iterator.next();
    expect(last.value).toMatchObject({ finish: 'abort' });
  });

  it('replies again when return() has ended the reply before', async () => {
    const model = await ready(0);
    const iterator = held(model)[Symbol.asyncIterator]();
    await iterator.next();
    const busy = await failureOf(model.generate([4]).result());
    expect(busy.message).toBe('the model is busy with another reply');
    expect(busy.hint).toContain('return()');
    await iterator.return();
    const { tokens: made } = await model.generate([4], { maxTokens: 3, seed: 0 }).result();
    expect(made).toEqual(fakeReply([4], 3));
  });

  it('replies again once an iterator that was dropped is collected', async () => {
    const model = await ready();
    await begin(held(model));
    let made: readonly number[] | null = null;
    const isCollected = async () => {
      collectGarbage();
      const next = model.generate([4], { maxTokens: 3, seed: 0 }).result();
      made = await next.then(
        (result) => result.tokens,
        () => null,
      );
      return made !== null;
    };
    await until(isCollected, () => 'that the iterator is collected');
    expect(made).toEqual(fakeReply([4], 3));
  });
});

/** Reads a piece, and forgets the iterator. */
async function begin(reply: Reply): Promise<void> {
  await reply[Symbol.asyncIterator]().next();
}

describe.each(backends)('an engine over %s', (_, device) => {
  it('is closed while it loads: the load fails, and closing resolves', async () => {
    const closedWhileLoading = async () => {
      const engine = await emptyEngine({ device });
      const loading = engine.load(randomSources()).then(
        () => null,
        (error: Error) => error.message,
      );
      await Promise.all([engine[Symbol.asyncDispose](), engine[Symbol.asyncDispose]()]);
      expect(fake.alive()).toBe(0);
      await engine[Symbol.asyncDispose]();
      return await loading;
    };
    // One that was over before shows nothing, and another is begun.
    let said: string | null = null;
    const isClosedFirst = async () => {
      said = await closedWhileLoading();
      return said !== null;
    };
    await until(isClosedFirst, () => 'a load that is closed before its end');
    expect(said).toBe('the engine was closed during this job');
  });

  it('is closed while it scores, whether or not the rows are taken', async () => {
    const engine = await readyEngine({ device });
    fake.allow(0);
    const scoring = failureOf(engine.score(Array(150).fill(1), 0));
    await engine[Symbol.asyncDispose]();
    expect((await scoring).message).toBe('the engine was closed during this job');
  });
});
