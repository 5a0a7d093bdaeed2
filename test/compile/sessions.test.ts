// Conversations with the bundled model: what they have in common is computed once, and one that was saved goes on after a kill, bit by bit.
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { cpSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, describe, expect, it } from 'vitest';
import { type LoadOptions, load } from '../../load.ts';
import type { LanguageModel } from '../../runtime/model.ts';
import type { Session } from '../../runtime/session.ts';
import { conversation } from '../support/conversation.ts';
import { tinyDirectory } from '../support/model-directory.ts';
import { failureOf } from '../support/refusal.ts';
import { within } from '../support/within.ts';

const folder = mkdtempSync(join(tmpdir(), 'sessions-'));
afterAll(() => rmSync(folder, { recursive: true }));
const opened = (parallel: number, more: Partial<LoadOptions> = {}) =>
  load({ model: 'qwen3-tiny', target: 'cpu', context: 1024, parallel, ...more });

/** All that an answer is, but for the time it took. */
async function answer(session: Session, question: string) {
  const numbers: (readonly number[])[] = [];
  const reply = session.chat(question, { topLogprobs: 3 });
  for await (const { logprobs = [] } of reply)
    for (const { logprob, top } of logprobs) numbers.push([logprob, ...top.map((one) => one.logprob)]);
  const { text, tokens, usage } = await reply.result();
  return { text, tokens, numbers, usage };
}

const question = 'And what is a kernel?';
const computed = ({ usage }: { readonly usage: { readonly prompt: number; readonly cached: number } }) =>
  usage.prompt - usage.cached;

/** What the conversation of a model comes to, and of one in which it was saved and restored. */
async function goesOn(parallel: number, saved: (file: string) => Promise<void>) {
  const file = join(folder, `saved-${parallel}`);
  await saved(file);
  await using never = await opened(parallel);
  const kept = never.session(conversation);
  await kept.chat('What is a daemon?').result();
  await using llm = await opened(parallel);
  const restored = await llm.restore(file);
  expect(restored.messages).toEqual(kept.messages);
  const went = await answer(restored, question);
  expect(went).toEqual(await answer(kept, question));
  expect(went.numbers.length).toBeGreaterThan(5);
  expect(computed(went)).toBeLessThan(40);
}

describe('a conversation that was saved goes on as if it had not been left', () => {
  it('by a process that was killed then, in one of several places', () =>
    goesOn(3, async (file) => {
      const program = join(import.meta.dirname, '../support/saving-process.ts');
      const args = ['--import', 'tsx', program, file, '3'];
      const child = spawn(process.execPath, args, { stdio: ['ignore', 'pipe', 'inherit'] });
      const ended = once(child, 'close');
      try {
        await within(once(child.stdout, 'data'), () => 'a saved conversation');
      } finally {
        child.kill('SIGKILL'); // it goes on for ever
        await ended;
      }
    }));

  it('by a model that was closed, in its only place', () =>
    goesOn(1, async (file) => {
      await using llm = await opened(1);
      const session = llm.session(conversation);
      await session.chat('What is a daemon?').result();
      await session.save(file);
    }));
});

it('a file of another model, of a longer context or of other weights is refused', async () => {
  const file = join(folder, 'own');
  await using llm = await opened(1);
  const session = llm.session(conversation);
  await session.chat('What is a daemon?').result();
  await session.save(file);
  const refusal = async (more: Partial<LoadOptions>) => {
    await using other = await opened(1, more);
    return (await failureOf(other.restore(file))).message;
  };
  const model = join(import.meta.dirname, '../fixtures/qwen2-micro');
  expect(await refusal({ model, context: 64 })).toMatch(
    /was saved with the kernel qwen3-tiny-.* is qwen2-micro-/,
  );
  expect(await refusal({ context: 64 })).toMatch(/holds \d+ tokens, and the context 64/);
  expect(await refusal({ randomWeights: { seed: 1 } })).toMatch(/was saved with other weights$/);
});

it('a model whose files are gone saves what another one of them restores', async () => {
  const model = join(folder, 'qwen3-tiny');
  cpSync(tinyDirectory, model, { recursive: true });
  await using one = await opened(1, { model });
  rmSync(model, { recursive: true });
  await one.session(conversation).save(join(folder, 'gone'));
  await using other = await opened(1);
  expect((await other.restore(join(folder, 'gone'))).messages).toEqual(conversation.messages);
});

it('16 sessions with one system prompt of 500 tokens compute it once', async () => {
  await using llm = await opened(16);
  await using alone = await opened(1);
  const words = ['meta', 'a kernel', 'water', 'a daemon'];
  const asked = Array.from({ length: 16 }, (_, i) => `What is ${words[i % 4]}${'?'.repeat(1 + i / 4)}`);
  const all = await Promise.all(asked.map((one) => llm.session(conversation).chat(one).result()));
  const shared = Math.min(...all.map(({ usage }) => usage.prompt)) - 30;
  expect(shared).toBeGreaterThan(500);
  const sums = all.map(computed).toSorted((a, b) => b - a);
  expect(sums[0]).toBeGreaterThan(shared);
  expect(sums[1]).toBeLessThan(30);
  for (const [i, one] of asked.slice(0, 6).entries()) {
    expect((await alone.session(conversation).chat(one).result()).tokens, one).toEqual(all[i]!.tokens);
  }
});

it('200 sessions take no more memory than fifty did', async () => {
  await using llm = await opened(3);
  const rss: number[] = [];
  let positions = 0;
  for (let i = 0; i < 200; i++) {
    const session = llm.session(conversation);
    const { usage } = await session.chat(`${i}?`, { maxTokens: 2 }).result();
    positions = usage.prompt;
    rss.push(process.memoryUsage.rss());
  }
  // The caches alone of those since would be so much.
  const leaked = 150 * positions * cacheBytes(llm);
  expect(rss[199]! - rss[49]!).toBeLessThan(leaked / 4);
});

const cacheBytes = ({ manifest }: LanguageModel) => manifest.bytes.kvPerPosition;
