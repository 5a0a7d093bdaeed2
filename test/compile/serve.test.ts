// gen serve with the bundled model: OpenAI's own client, signals, the page in a browser.
import { spawnSync } from 'node:child_process';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import OpenAI from 'openai';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { z } from 'zod';
import { packageRoot } from '../../codegen/build/package-root.ts';
import { Browser, findBrowser, looks } from '../support/browser.ts';
import { heldTemperature } from '../support/held-replies.ts';
import { type Serving, serve } from '../support/serving-process.ts';
import { until } from '../support/within.ts';

const model = 'qwen3-tiny';
const messages = [{ role: 'user' as const, content: 'What is a daemon?' }];
const answer = /^A program that is not invoked explicitly, but lies dormant/;
/** A reply that does not end by itself. */
const endless = {
  model,
  prompt: 'The',
  max_tokens: 300,
  temperature: heldTemperature,
  stream: true as const,
};

let serving: Serving;
let client: OpenAI;
beforeAll(async () => {
  serving = await serve();
  expect(serving.url, serving.written.err).toMatch(/^http:\/\/127\.0\.0\.1:\d+$/);
  client = new OpenAI({ baseURL: `${serving.url}/v1`, apiKey: 'none', maxRetries: 0 });
});
afterAll(async () => {
  serving.child.kill('SIGKILL');
  await serving.ended();
});

describe("OpenAI's client", () => {
  it('lists models', async () => {
    const { data } = await client.models.list();
    expect(data).toMatchObject([{ id: model, object: 'model' }]);
    expect(await client.models.retrieve(model)).toMatchObject({ id: model });
  });

  it('chats, and gets the same text as a stream, with its usage', async () => {
    const whole = await client.chat.completions.create({ model, messages, temperature: 0 });
    expect(whole.choices[0]!.message.content).toMatch(answer);
    expect(whole.choices[0]!.finish_reason).toBe('stop');
    const stream = client.chat.completions.stream({
      ...{ model, messages, temperature: 0, stream_options: { include_usage: true } },
    });
    const final = await stream.finalChatCompletion();
    expect(final.choices[0]!.message.content).toBe(whole.choices[0]!.message.content);
    expect(final.usage).toEqual({
      ...whole.usage,
      prompt_tokens_details: { cached_tokens: whole.usage!.prompt_tokens - 1 },
    });
  });

  it('gets log probabilities of a stream, which an entry of logit_bias then bans', async () => {
    const ask = async (more: object = {}) => {
      const stream = client.chat.completions.stream({
        ...{ model, messages, temperature: 0, max_tokens: 3, logprobs: true, top_logprobs: 2, ...more },
      });
      const { choices, usage } = await stream.finalChatCompletion();
      const content = choices[0]!.logprobs!.content!;
      expect(content).toHaveLength(usage?.completion_tokens ?? 3);
      return content;
    };
    const [first] = await ask();
    const [best, second] = first!.top_logprobs;
    expect(first!.token).toBe(best!.token);
    expect(best!.logprob).toBeGreaterThan(second!.logprob);
    const { tokens } = (await (
      await fetch(`${serving.url}/tokenize`, {
        ...{ method: 'POST', headers: { 'content-type': 'application/json' } },
        body: JSON.stringify({ model, prompt: first!.token }),
      })
    ).json()) as { tokens: number[] };
    const [banned] = await ask({ logit_bias: { [tokens[0]!]: -100 } });
    expect(banned).toMatchObject({ token: second!.token, logprob: second!.logprob });
    expect(banned!.top_logprobs).toEqual(first!.top_logprobs);
  });

  it('completes, with a seed the same twice', async () => {
    const ask = async () =>
      client.completions.create({
        ...{ model, prompt: 'A kernel is', temperature: 1, seed: 7, max_tokens: 20 },
      });
    await ask();
    const [one, two] = [await ask(), await ask()];
    expect(one.choices[0]!.text).toBe(two.choices[0]!.text);
    expect(one.usage!.completion_tokens).toBe(20);
  });

  it('leaves a stream, and the next request has its turn', async () => {
    const left = () => serving.written.out.split('\n').filter((line) => line.includes('client_left'));
    const before = left().length;
    const stream = await client.completions.create(endless);
    for await (const _ of stream) break;
    expect((await client.chat.completions.create({ model, messages })).choices[0]!.message.content).toMatch(
      answer,
    );
    await until(
      () => left().length > before,
      () => 'the line of a client that left',
    );
    expect(left()).toHaveLength(before + 1);
    expect(JSON.parse(left().at(-1)!)).toMatchObject({ status: 499, finish: 'abort' });
  });

  it('gets errors of its own classes', async () => {
    const ask = (more: object) => client.chat.completions.create({ model, messages, ...more });
    await expect(ask({ model: 'gpt-4o' })).rejects.toBeInstanceOf(OpenAI.NotFoundError);
    await expect(ask({ temperature: -1 })).rejects.toMatchObject({
      ...{ status: 400, param: 'temperature', type: 'invalid_request_error' },
    });
    await expect(ask({ n: 2 })).rejects.toBeInstanceOf(OpenAI.BadRequestError);
    await expect(client.embeddings.create({ model, input: 'x' })).rejects.toThrow('gen serve --embeddings');
    await expect(client.moderations.create({ input: 'x' })).rejects.toBeInstanceOf(OpenAI.NotFoundError);
    const tools = [{ type: 'function' as const, function: { name: 'a b' } }];
    await expect(ask({ tools })).rejects.toThrow('up to 64 letters');
  });

  it('gets a call of a function, and goes on behind its result', async () => {
    const parameters = {
      type: 'object',
      properties: { city: { enum: ['Paris', 'Rome'] } },
      required: ['city'],
    };
    const tools = [{ type: 'function' as const, function: { name: 'weather', parameters } }];
    const asked = { model, tools, temperature: 0, max_tokens: 60, parallel_tool_calls: false };
    const { choices } = await client.chat.completions.create({ ...asked, messages, tool_choice: 'required' });
    const { message, finish_reason } = choices[0]!;
    const [call] = message.tool_calls ?? [];
    if (call?.type !== 'function') throw new Error(`no call: ${JSON.stringify(message)}`);
    expect([finish_reason, call.function.name]).toEqual(['tool_calls', 'weather']);
    const { city } = z.object({ city: z.string() }).parse(JSON.parse(call.function.arguments));
    const result = { role: 'tool' as const, tool_call_id: call.id, content: `It rains in ${city}.` };
    const behind = await client.chat.completions.create({
      ...asked,
      messages: [...messages, message, result],
    });
    expect(behind.choices[0]!.message.content).not.toBe('');
  });

  it('gets a response, whole and streamed', async () => {
    const asked = { model, input: messages, temperature: 0 };
    const { output_text } = await client.responses.create(asked);
    expect(output_text).toMatch(answer);
    expect((await client.responses.stream(asked).finalResponse()).output_text).toBe(output_text);
  });

  it('in number is answered each as if it were alone', async () => {
    const prompts = ['A kernel is', 'A daemon is', 'The moon', 'To hack'];
    const ask = async (prompt: string) =>
      (await client.completions.create({ model, prompt, temperature: 0, max_tokens: 12 })).choices[0]!.text;
    const alone: string[] = [];
    for (const prompt of prompts) alone.push(await ask(prompt));
    expect(await Promise.all([...prompts, ...prompts].map(ask))).toEqual([...alone, ...alone]);
  });
});

describe('a port that is taken', () => {
  it('is said in a line, before anything else is done', () => {
    const main = join(packageRoot(), 'cli', 'main.ts');
    const { port } = new URL(serving.url);
    const { status, stderr } = spawnSync(
      process.execPath,
      ['--import', 'tsx', main, 'serve', 'qwen3-tiny', '--port', port],
      { encoding: 'utf8', cwd: packageRoot() },
    );
    expect(stderr).toBe(
      `error: 127.0.0.1:${port} is in use already\nhint: --port 0 takes any that is free\n`,
    );
    expect(status).toBe(2);
  });
});

describe('a signal', () => {
  const streamed = async (url: string) => {
    const own = new OpenAI({ baseURL: `${url}/v1`, apiKey: 'secret', maxRetries: 0 });
    const events = (await own.completions.create(endless))[Symbol.asyncIterator]();
    await events.next();
    return {
      rest: async () => {
        let last: OpenAI.Completion | undefined;
        for (let next = await events.next(); !next.done; next = await events.next()) last = next.value;
        return last?.choices[0]?.finish_reason;
      },
    };
  };

  it('ends the server when the reply that runs has ended: SIGTERM with 0', async () => {
    const { child, url, ended, letGo, written, wrote } = await serve('--api-key', 'secret');
    expect((await fetch(`${url}/v1/models`)).status).toBe(401);
    const stream = await streamed(url);
    child.kill('SIGTERM');
    await wrote('ending: the answer to 1 request comes first;');
    letGo();
    expect(await stream.rest()).toBe('length');
    expect(await ended()).toBe(0);
    expect(written.err).not.toMatch(/^\s+at /m);
  });

  it('given twice ends it at once, with 130', async () => {
    const { child, url, ended, wrote } = await serve('--api-key', 'secret');
    const stream = await streamed(url);
    child.kill('SIGINT');
    await wrote('ending: ');
    child.kill('SIGTERM');
    expect(await ended()).toBe(130);
    await expect(stream.rest()).rejects.toThrow();
  });
});

it('goes on where nobody reads the log any more, and says so once', async () => {
  const { child, url, ended, written, wrote } = await serve();
  child.stdout!.destroy();
  const own = new OpenAI({ baseURL: `${url}/v1`, apiKey: 'none', maxRetries: 0 });
  for (let i = 0; i < 4; i++) {
    const { choices } = await own.completions.create({ model, prompt: 'The', max_tokens: 3 });
    expect(choices[0]!.finish_reason).toBe('length');
  }
  await wrote('nobody reads the log on stdout any more');
  child.kill('SIGTERM');
  expect(await ended()).toBe(0);
  expect(written.err.match(/nobody reads/g)).toHaveLength(1);
});

const browser = findBrowser();
describe.skipIf(!browser)(browser ? 'the page' : 'the page (skipped: no browser is installed)', () => {
  let chromium: Browser;
  beforeAll(() => {
    chromium = new Browser(browser!);
  });
  afterAll(() => chromium.close());

  it('fits a desk and a phone, light and dark, without complaint', async () => {
    const shots: Buffer[] = [];
    for (const look of looks) {
      const page = await chromium.open(serving.url, { ...look, scripts: true });
      await page.until("document.title === 'qwen3-tiny'");
      const seen = await page.seen();
      expect(seen.complaints).toEqual([]);
      expect(seen.contentWidth).toBe(look.width);
      shots.push(seen.png);
      await page.close();
    }
    expect(shots[0]!.equals(shots[1]!)).toBe(false);
  });

  it('streams an answer, stops one, and shows an error', async () => {
    const page = await chromium.open(serving.url, { width: 390, scheme: 'light', scripts: true });
    const ask = (text: string) =>
      page.run(`document.getElementById('question').value = ${JSON.stringify(text)};
        document.getElementById('ask').requestSubmit();`);
    const last = (kind: string) =>
      page.run(`[...document.querySelectorAll('.${kind}')].at(-1)?.textContent ?? ''`);
    await page.until("document.title === 'qwen3-tiny'");
    await ask('What is a daemon?');
    await page.until("document.querySelector('.figures') !== null");
    expect(await last('assistant')).toMatch(answer);
    expect(await last('figures')).toMatch(/^\d+ tokens, \d+ tokens a second; prompt \d+, \d+ of them kept$/);

    await page.run(`document.getElementById('temperature').value = ${heldTemperature}`);
    await ask('The');
    await page.until("[...document.querySelectorAll('.assistant')].at(-1).textContent.length > 0");
    await page.run("document.getElementById('send').click()");
    await page.until("[...document.querySelectorAll('.figures')].at(-1).textContent === 'stopped'");

    await page.run("document.getElementById('temperature').value = -1");
    await ask('Hm?');
    await page.until("document.querySelector('.error') !== null");
    expect(await last('error')).toBe('temperature: expected at least 0');
    expect(await page.run("document.getElementById('question').value")).toBe('Hm?');
    const kept = process.env['ONELAUNCH_PICTURES'];
    if (kept) writeFileSync(join(kept, 'chat.png'), (await page.seen()).png);
    await page.close();
  });
});
