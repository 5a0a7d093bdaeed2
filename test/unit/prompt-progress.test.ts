// How far a prompt is: what the engine tells of it, pass by pass, what the model adds, and the line of a terminal.
import { describe, expect, it, test } from 'vitest';
import { memoryIo } from '../../cli/io.ts';
import { printReply } from '../../cli/reply.ts';
import { createUi } from '../../cli/ui.ts';
import type { Engine } from '../../runtime/engine/engine.ts';
import type { OnPrompt } from '../../runtime/engine/options.ts';
import { greedy as greedyDefaults } from '../../runtime/generation-config.ts';
import { LanguageModel } from '../../runtime/model.ts';
import type { Reply } from '../../runtime/reply.ts';
import { backends, fakeEngines } from '../support/fake-engines.ts';
import { fakeReply, tokens } from '../support/host-fake.ts';
import { read } from '../support/read-reply.ts';
import { failureOf } from '../support/refusal.ts';

const { fake, readyEngine } = await fakeEngines();

/** A prompt whose passes take long. */
const slowIds = (count: number) => [
  tokens.slow,
  ...Array.from({ length: count - 1 }, (_, i) => (i * 7) % 256),
];

/** What is told of a prompt. */
function listener() {
  const told: [number, number][] = [];
  return { told, onPrompt: (...of: Parameters<OnPrompt>) => void told.push(of) };
}

/** Ends of the passes of a prompt, as the fake backend takes it in: 64 tokens where it has kernels for prompts, else 4. */
function endsOf(count: number, device: number): number[] {
  const ends: number[] = [];
  for (let at = 0; at < count; ends.push(at)) {
    at += device === 3 && count - at > 4 ? Math.min(count - at - 1, 64) : Math.min(count - at, 4);
  }
  return ends;
}

describe.each(backends)('%s', (_, device) => {
  const count = device === 3 ? 400 : 50;
  /** Passes that end while nobody looks are told of together. */
  const expectPasses = (told: readonly (readonly [number, number])[]) => {
    const ends = endsOf(count, device);
    expect(ends).toEqual(expect.arrayContaining(told.map(([done]) => done)));
    expect(told.map(([done]) => done)).toEqual(
      [...new Set(told.map(([done]) => done))].sort((a, b) => a - b),
    );
    expect(told.length).toBeGreaterThan(1);
    expect(told.at(-1)).toEqual([count, count]);
  };

  it('tells how much of a prompt is in the cache, after each pass', async () => {
    const engine = await readyEngine({ device, context: 500 });
    const { told, onPrompt } = listener();
    const { ids } = await read(engine.generate(slowIds(count), { maxTokens: 3, onPrompt }));
    expectPasses(told);
    expect(ids).toEqual(fakeReply(slowIds(count), 3));
  });

  it('tells each sequence of its own prompt', async () => {
    const engine = await readyEngine({ device, context: 500, sequences: 3 });
    const told = await Promise.all(
      [count, 2].map(async (length) => {
        await using sequence = engine.open();
        await sequence.append([1, 2, 3]);
        const heard = listener();
        await read(sequence.generate(slowIds(length), { maxTokens: 2, onPrompt: heard.onPrompt }));
        return heard.told;
      }),
    );
    expectPasses(told[0]!);
    expect(told[1]!.at(-1)).toEqual([2, 2]);
  });

  it('ends a reply with what its listener throws, and keeps what was taken in', async () => {
    const engine = await readyEngine({ device, context: 500 });
    const prompt = slowIds(count);
    const onPrompt = () => {
      throw new Error('enough');
    };
    await expect(read(engine.generate(prompt, { maxTokens: 3, onPrompt }))).rejects.toThrow('enough');
    const { position } = engine;
    expect(endsOf(count, device)).toContain(position);
    expect(position).toBeLessThan(count);
    const rest = await read(engine.generate(prompt.slice(position), { maxTokens: 3 }));
    expect(rest.ids).toEqual(fakeReply(prompt, 3));
  });
});

const modelOf = (engine: Engine) =>
  new LanguageModel({
    ...{ engine, manifest: fake.manifest, defaults: greedyDefaults },
    ...{ tokenizer: null, template: null },
  });

test('of a model: what the cache still held counts as taken in', async () => {
  const engine = await readyEngine({ device: 0 });
  await using llm = modelOf(engine);
  const prompt = slowIds(12);
  await llm.generate(prompt.slice(0, 6), { maxTokens: 1 }).result();
  const { told, onPrompt } = listener();
  const { usage } = await llm.generate(prompt, { maxTokens: 1, onPrompt }).result();
  expect(usage.cached).toBe(6);
  expect(told.at(-1)).toEqual([12, 12]);
  for (const [done, total] of told) expect([done > usage.cached, total]).toEqual([true, 12]);
});

test('a listener that is no function is refused', async () => {
  const engine = await readyEngine();
  const wrong = { maxTokens: 1, onPrompt: 'loud' as unknown as OnPrompt };
  const { message } = await failureOf(read(engine.generate([1], wrong)));
  expect(message).toBe('options.onPrompt is "loud", not a function');
  await using llm = modelOf(engine);
  const refused = await failureOf(llm.generate([1], wrong).result());
  expect(refused.message).toBe('options.onPrompt: expected a function');
});

describe('the line of a terminal', () => {
  /** A reply to a prompt of so many tokens, of which half are told of first. */
  const written = async (total: number, errIsTty: boolean) => {
    let seen = '';
    const say = (text: string) => {
      seen += text;
    };
    const ui = createUi({ ...memoryIo().io, out: say, err: say, errIsTty, env: {} }, { color: false });
    await printReply(ui, ({ onPrompt }) => {
      const usage = { prompt: total, cached: 0, completion: 1, drafted: 0, accepted: 0 };
      const timings = { promptMs: 1, decodeMs: 1, tokensPerSecond: null, firstTokenMs: null };
      const result = { text: 'hi', tokens: [1], finish: 'stop', usage, timings };
      return {
        async *[Symbol.asyncIterator]() {
          onPrompt?.(total / 2, total);
          onPrompt?.(total, total);
          yield { text: 'hi', tokens: [1] };
        },
        result: async () => result,
      } as unknown as Reply;
    });
    return seen.replace(/\[1 tokens.*/s, '');
  };

  it('says how far a long prompt is, and is gone when the reply begins', async () => {
    const bar = `${'█'.repeat(12)}${'░'.repeat(12)}`;
    expect(await written(2000, true)).toBe(`\r\x1b[Kprompt ${bar} 1,000 of 2,000 tokens\r\x1b[Khi\n`);
  });

  it('is not there for a short prompt, and in no file', async () => {
    expect(await written(200, true)).toBe('hi\n');
    expect(await written(2000, false)).toBe('hi\n');
  });
});
