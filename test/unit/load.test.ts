// From a name to a model that replies: over the real engine, on the CPU.
import { cpSync, mkdtempSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { beforeAll, describe, expect, it } from 'vitest';
import { ContextOverflowError } from '../../errors.ts';
import { buildKernel, load } from '../../load.ts';
import type { LanguageModel } from '../../runtime/model.ts';
import type { ReplyOptions } from '../../runtime/sampling.ts';
import { heldTemperature } from '../support/held-replies.ts';
import { tinyDirectory } from '../support/model-directory.ts';

it('a signal that was aborted before ends a load before anything is looked for', async () => {
  const reason = new Error('enough');
  const asked = { model: 'no-such-model', signal: AbortSignal.abort(reason) };
  await expect(load(asked)).rejects.toBe(reason);
});

describe('load', () => {
  it.each([
    [{ model: 'qwen3-tinny' }, "unknown model 'qwen3-tinny'"],
    [{ model: 'qwen3-0.6b' }, 'there are no weights of qwen3-0.6b here'],
    [{ model: 'qwen3-tiny', contex: 5 }, 'options has no contex'],
    [{ model: 'qwen3-tiny', context: 0 }, 'options.context: expected more than 0'],
    [{ model: 'qwen3-tiny', threads: 2000 }, 'options.threads: expected at most 1024'],
    [{ model: 'qwen3-tiny', randomWeights: new Map([['seed', 1]]) }, 'expected a plain object'],
    [{ model: 'qwen3-tiny', target: 'h1000' }, "unknown target 'h1000'"],
    [{}, 'options.model'],
  ])('refuses %j', async (options, message) => {
    await expect(load(options as { model: string })).rejects.toThrow(message);
  });

  it.each([
    [['qwen3-tinny'], "unknown model 'qwen3-tinny'"],
    [[''], 'options.model'],
    [['qwen3-tiny', { contex: 5 }], 'options has no contex'],
    [['qwen3-tiny', new Map([['context', 64]])], 'options: expected a plain object'],
    [['qwen3-tiny', 64], 'options: expected object'],
    [['qwen3-tiny', { model: 'qwen3-0.6b' }], 'options has no model'],
    [[{ model: 'qwen3-tiny' }, { context: 64 }], 'load is given options twice'],
  ])('refuses what is given apart: %j', async (given, message) => {
    await expect(load(...(given as [string]))).rejects.toThrow(message);
  });
});

describe('over the real engine, on the CPU', () => {
  beforeAll(() => buildKernel({ model: 'qwen3-tiny', target: 'cpu' }));

  const ask = (llm: LanguageModel, contents: readonly string[], options: ReplyOptions = {}) =>
    llm
      .chat(
        contents.map((content, i) => ({ role: i % 2 === 0 ? 'user' : 'assistant', content })),
        options,
      )
      .result();

  it('has its model as a name, with options behind it', async () => {
    await using llm = await load('qwen3-tiny', { target: 'cpu', context: 64 });
    await using usual = await load(tinyDirectory, { target: 'cpu' });
    expect([llm.context, usual.context]).toEqual([64, 1024]);
  });

  it('sessions one after another give what each gives alone', async () => {
    await using llm = await load({ model: 'qwen3-tiny', target: 'cpu' });
    await using other = await load({ model: 'qwen3-tiny', target: 'cpu', context: 512 });
    const water = await ask(llm, ['define water']);
    expect(water.text).toMatch(/^noun: binary compound .* used as a solvent\.$/);
    expect(water.finish).toBe('stop');
    const foo = await ask(llm, ['Explain foo.']);
    expect(foo.text).toBe((await ask(other, ['Explain foo.'])).text);
    expect((await ask(llm, ['define water'])).text).toBe(water.text);
  });

  it('a kept beginning counts for penalties, and changes nothing else', async () => {
    await using llm = await load({ model: 'qwen3-tiny', target: 'cpu' });
    const options = { repetitionPenalty: 1.3, presencePenalty: 0.5, maxTokens: 60 };
    const first = await ask(llm, ['define water'], options);
    const messages = ['define water', first.text, 'What is a daemon?'];
    const kept = await ask(llm, messages, options);
    expect(kept.usage.cached).toBeGreaterThan(20);
    await using fresh = await load({ model: 'qwen3-tiny', target: 'cpu' });
    const anew = await ask(fresh, messages, options);
    expect(anew.usage.cached).toBe(0);
    expect(kept.tokens).toEqual(anew.tokens);
    const plain = await ask(fresh, messages, { maxTokens: 60 });
    expect(plain.tokens).not.toEqual(kept.tokens);
  });

  it('an aborted reply, one stopped by a text and one left early are gone on from', async () => {
    await using llm = await load({ model: 'qwen3-tiny', target: 'cpu' });
    const whole = await ask(llm, ['What is a daemon?']);
    const stop = new AbortController();
    const held = { signal: stop.signal, temperature: heldTemperature };
    const aborted = llm.chat([{ role: 'user', content: 'What is a daemon?' }], held);
    for await (const _ of aborted) stop.abort();
    const { text, finish } = await aborted.result();
    expect(finish).toBe('abort');
    expect(whole.text.startsWith(text)).toBe(true);
    const cut = await ask(llm, ['What is a daemon?'], { stop: 'lies dormant' });
    expect(cut).toMatchObject({ text: 'A program that is not invoked explicitly, but ', finish: 'stop' });
    for await (const _ of llm.chat([{ role: 'user', content: 'What is a daemon?' }])) break;
    expect((await ask(llm, ['What is a daemon?'])).tokens).toEqual(whole.tokens);
  });

  it('what the files of a model disagree in is told by the model', async () => {
    const model = mkdtempSync(join(tmpdir(), 'onelaunch-'));
    cpSync(tinyDirectory, model, { recursive: true });
    writeFileSync(
      join(model, 'generation_config.json'),
      JSON.stringify({ eos_token_id: 0, max_new_tokens: 3 }),
    );
    await using llm = await load({ model, target: 'cpu' });
    expect(llm.notes).toEqual([expect.stringContaining('a chat ends at either')]);
    expect(await ask(llm, ['define water'])).toMatchObject({ finish: 'length', text: 'noun: binary' });
    await using plain = await load({ model: 'qwen3-tiny', target: 'cpu' });
    expect(plain.notes).toEqual([]);
  });

  it('a reply ends with the context, and a prompt that fills it is refused', async () => {
    await using llm = await load({ model: 'qwen3-tiny', target: 'cpu', context: 32 });
    const full = await ask(llm, ['What is a daemon?']);
    expect(full.finish).toBe('context');
    expect(full.usage.prompt + full.usage.completion).toBe(32);
    await expect(ask(llm, ['What is a daemon? '.repeat(9)])).rejects.toThrow(ContextOverflowError);
    expect((await ask(llm, ['define water'], { maxTokens: 3 })).text).toBe('noun: binary');
  });

  it('random weights need no files, and their seed decides', async () => {
    const tokens = async (seed: number) => {
      await using llm = await load({ model: 'qwen3-tiny', target: 'cpu', randomWeights: { seed } });
      return (await llm.generate([1, 2, 3], { maxTokens: 12, stopIds: [] }).result()).tokens;
    };
    expect(await tokens(1)).toEqual(await tokens(1));
    expect(await tokens(1)).not.toEqual(await tokens(2));
  });

  it('two models at once do not disturb each other', async () => {
    await using a = await load({ model: 'qwen3-tiny', target: 'cpu', threads: 1 });
    await using b = await load({ model: 'qwen3-tiny', target: 'cpu', threads: 1 });
    const [one, two] = await Promise.all([ask(a, ['define water']), ask(b, ['What is a daemon?'])]);
    expect(one.text).toMatch(/^noun: binary compound/);
    expect(two.text).toMatch(/^A program that is not invoked explicitly/);
  });
});
