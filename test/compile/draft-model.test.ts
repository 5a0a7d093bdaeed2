// A model that drafts for another on the CPU: replies are those without it, token by token, and nonsense is given up.
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, describe, expect, it } from 'vitest';
import { load } from '../../load.ts';
import type { LanguageModel } from '../../runtime/model.ts';
import type { ReplyOptions } from '../../runtime/sampling.ts';
import { writeRandomModel } from '../support/random-model.ts';
import { failureOf } from '../support/refusal.ts';
import { thorough } from '../support/thorough.ts';

const root = mkdtempSync(join(tmpdir(), 'draft-model-'));
afterAll(() => rmSync(root, { recursive: true, force: true }));

const tiny = { model: 'qwen3-tiny', target: 'cpu', context: 256 } as const;
const int4 = { model: 'qwen3-tiny', weights: 'int4' } as const;
const questions = ['What is a daemon?', 'Explain foo.', 'define water'];

const ask = (llm: LanguageModel, contents: readonly string[], options: ReplyOptions) =>
  llm
    .chat(
      contents.map((content, i) => ({ role: i % 2 === 0 ? 'user' : 'assistant', content })),
      options,
    )
    .result();

/** What a reply says, whoever drafted. */
const said = ({ text, tokens, finish }: Awaited<ReturnType<typeof ask>>) => ({ text, tokens, finish });

/** A random model with the vocabulary of the bundled one, whose drafts mean nothing. */
function nonsense(): string {
  const folder = join(root, 'nonsense');
  writeRandomModel(folder, {
    ...{ type: 'qwen3', dtype: 'float16', hidden: 64, ffn: 96, layers: 1 },
    ...{ qHeads: 2, kvHeads: 1, headDim: 32, vocab: 4096, tied: true },
  });
  return folder;
}

describe('the bundled model drafts for itself in int4', () => {
  it.each([
    ...(thorough
      ? ([
          ['sampled', { temperature: 0.8, seed: 7 }],
          ['with a frequency penalty', { frequencyPenalty: 0.4 }],
          ['sampled of few', { temperature: 1, topK: 20, topP: 0.9, seed: 3 }],
          ['with penalties', { repetitionPenalty: 1.2, presencePenalty: 0.3 }],
        ] as const)
      : []),
    ['greedy', {}],
    ['with a bias', { logitBias: { 11: -100, 13: 1.5 }, temperature: 0.5, seed: 1 }],
    ['ended by a text', { stop: ['the', 'that'] }],
  ] as const)('%s: the tokens are those without it, two turns long', async (_, options) => {
    await using plain = await load(tiny);
    await using drafted = await load({ ...tiny, draft: int4 });
    const asked = { temperature: 0, maxTokens: 60, ...options };
    let right = 0;
    let all = 0;
    for (const question of questions) {
      const first = await ask(plain, [question], asked);
      const turns = [question, first.text, 'And what else?'];
      const next = await ask(plain, turns, asked);
      for (const speculate of [{ tokens: 3 }, 'auto'] as const) {
        const same = await ask(drafted, [question], { ...asked, speculate });
        expect(said(same)).toEqual(said(first));
        const second = await ask(drafted, turns, { ...asked, speculate });
        expect(said(second)).toEqual(said(next));
        if (typeof speculate !== 'object') continue;
        right += same.usage.accepted + second.usage.accepted;
        all += same.usage.drafted + second.usage.drafted;
      }
    }
    // Four bits change few choices of a model that was trained: without the model's noise, or with other positions, hardly a sampled one is right.
    expect(right).toBeGreaterThan(all / 2);
  });

  it('to the end of the context, and behind an abort', async () => {
    await using plain = await load({ ...tiny, context: 64 });
    await using drafted = await load({ ...tiny, context: 64, draft: int4 });
    const options = { temperature: 0, stopIds: [], speculate: { tokens: 3 } } as const;
    const whole = await drafted.generate([1, 2, 3], options).result();
    const without = await plain.generate([1, 2, 3], { ...options, speculate: 'off' }).result();
    expect(whole.finish).toBe('context');
    expect(whole.tokens).toEqual(without.tokens);
    const abort = new AbortController();
    const cut = drafted.generate([1, 2, 3], { ...options, signal: abort.signal });
    for await (const _ of cut) abort.abort();
    expect((await cut.result()).finish).toBe('abort');
    expect((await drafted.generate([1, 2, 3], options).result()).tokens).toEqual(without.tokens);
  });
});

it('sampled drafts have the noise of the reply: more are right than a greedy draft could be', async () => {
  await using llm = await load({ ...tiny, draft: int4 });
  let drafted = 0;
  let accepted = 0;
  let greedy = 0;
  let all = 0;
  for (let seed = 0; seed < 8; seed++) {
    const asked = { temperature: 3, topK: 0, topP: 1, seed, maxTokens: 60, stopIds: [] };
    const { usage } = await ask(llm, ['Explain foo.'], { ...asked, speculate: { tokens: 1 } });
    drafted += usage.drafted;
    accepted += usage.accepted;
    // Tokens that are the most likely ones: no greedy drafts of the model itself would have others right.
    for await (const { logprobs } of llm.chat([{ role: 'user', content: 'Explain foo.' }], {
      ...asked,
      logprobs: true,
      topLogprobs: 1,
    })) {
      for (const { token, top } of logprobs ?? []) {
        greedy += Number(top[0]!.token === token);
        all++;
      }
    }
  }
  expect(accepted / drafted).toBeGreaterThan(greedy / all);
});

it('a model that drafts nonsense changes no token, and auto gives it up', async () => {
  await using plain = await load(tiny);
  await using drafted = await load({ ...tiny, draft: nonsense() });
  let last = 0;
  for (const seed of [0, 1, 2, 3, 4, 5]) {
    const options = { temperature: 1, seed, maxTokens: 200, stopIds: [] };
    const reply = await ask(drafted, ['Explain foo.'], options);
    expect(reply.tokens).toEqual((await ask(plain, ['Explain foo.'], options)).tokens);
    last = reply.usage.drafted - reply.usage.accepted;
  }
  expect(last).toBeLessThan(40);
  const always = await ask(drafted, ['Explain foo.'], {
    temperature: 0,
    maxTokens: 60,
    speculate: { tokens: 3 },
  });
  expect(said(always)).toEqual(said(await ask(plain, ['Explain foo.'], { temperature: 0, maxTokens: 60 })));
});

it('a model of other tokens is refused before anything is compiled', async () => {
  const failed = await failureOf(
    load({ ...tiny, draft: join(import.meta.dirname, '../fixtures/qwen3-micro') }),
  );
  expect(failed).toMatchObject({ kind: 'usage' });
  expect(failed.message).toMatch(/^qwen3-micro cannot draft for qwen3-tiny: /);
});
