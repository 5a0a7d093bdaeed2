// What the guide pages have in code runs as it is written there, and does what they say: programs, lines of curl, and each word in code of
// docs/library.md, which stands below as it stands there. Lines of gen are read in test/unit/docs.test.ts.
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { z } from 'zod';
import { memoryIo } from '../../cli/io.ts';
import { run } from '../../cli/run.ts';
import { generate } from '../../codegen/index.ts';
import { settleWeights } from '../../codegen/settle-weights.ts';
import { resolveModel, resolvePlan, resolveTarget } from '../../configs/resolve.ts';
import * as onelaunch from '../../index.ts';
import { type LanguageModel, type LoadOptions, load as loadAnywhere } from '../../index.ts';
import { heldTemperature } from '../support/held-replies.ts';
import { blocksOf, commandsOf, programOf, readPage, runProgram, wordsOf } from '../support/page.ts';
import { type Serving, serve } from '../support/serving-process.ts';

const daemon = /^A program that is not invoked explicitly, but lies dormant/;

let serving: Serving;
beforeAll(async () => {
  serving = await serve();
});
afterAll(async () => {
  serving.child.kill('SIGKILL');
  await serving.ended();
});

it('programs of README.md and docs/server.md', () => {
  const programs = ['README.md', 'docs/server.md'].flatMap((page) => blocksOf(readPage(page), 'ts'));
  const asked = 'for await (const { id } of client.models.list()) console.log(id);\n';
  const [reply, model, ...others] = runProgram(programOf(programs.with(-1, programs.at(-1)! + asked)), {
    // No GPU: the answer is the same on every machine's CPU.
    "model: 'qwen3-tiny'": "model: 'qwen3-tiny', target: 'cpu'",
    'http://127.0.0.1:8000': serving.url,
  });
  expect(reply).toMatch(daemon);
  expect(reply).toMatch(/\n\d+ tokens, finish: (stop|length)\n$/);
  expect([model, ...others]).toEqual(['qwen3-tiny\n']);
});

/** A body is a text, or JSON to be posted. */
async function ask(path: string, body?: unknown): Promise<{ status: number; text: string }> {
  const headers = { 'content-type': 'application/json' };
  const text = typeof body === 'string' ? body : JSON.stringify(body);
  const response = await fetch(
    `${serving.url}${path}`,
    body === undefined ? {} : { method: 'POST', headers, body: text },
  );
  return { status: response.status, text: await response.text() };
}

describe('docs/server.md', () => {
  const text = readPage('docs/server.md');
  const [, before = '', after = ''] = text.split(/^## (?:Parameters|Turns and limits)$/m);
  /** What stands in code behind the beginning of a paragraph. */
  const named = (beginning: string): string[] =>
    wordsOf(before.slice(before.indexOf(beginning)).split(/\n(?:- |\n)/)[0]!);
  const messages = [{ role: 'user', content: 'What is a daemon?' }];
  const model = 'qwen3-tiny';
  const chat = { model, messages, max_tokens: 2 };

  it('curl of README.md', async () => {
    const curls = commandsOf(blocksOf(readPage('README.md'), '').join('\n')).filter(
      ([name]) => name === 'curl',
    );
    expect(curls.length).toBeGreaterThan(0);
    for (const [, url = '', ...flags] of curls) {
      const { '-d': body, ...others } = Object.fromEntries(
        flags.flatMap((flag, i) => (i % 2 === 0 ? [[flag, flags[i + 1]!]] : [])),
      ) as Record<string, string>;
      expect(others).toEqual({ '-H': 'content-type: application/json' });
      const said = await ask(url.replace('http://127.0.0.1:8000', ''), body);
      expect(said.status, said.text).toBe(200);
      expect(JSON.parse(said.text)).toMatchObject({
        choices: [{ message: { content: expect.stringMatching(daemon) } }],
      });
    }
  });

  it('paths', async () => {
    const paths = [...text.matchAll(/^\| (`(?:GET|POST) .*?`) \|/gm)].flatMap(([, cell]) => {
      const [first = '', ...others] = wordsOf(cell!);
      const [method = '', path = ''] = first.split(' ');
      return [path, ...others].map((one) => ({ method, path: one.replace('NAME', 'qwen3-tiny') }));
    });
    expect(paths.length).toBeGreaterThan(8);
    for (const { method, path } of paths) {
      const { status, text: said } = await ask(path, method === 'POST' ? {} : undefined);
      // A body without anything is one that is read.
      expect({ path, status }, said).toEqual({ path, status: method === 'POST' ? 400 : 200 });
    }
    const prompt = { prompt: 'A kernel', add_special_tokens: true };
    const tokenized = JSON.parse((await ask('/tokenize', prompt)).text) as {
      tokens: number[];
      count: number;
    };
    expect(tokenized.tokens).toHaveLength(tokenized.count);
    const back = await ask('/detokenize', { tokens: tokenized.tokens });
    expect(JSON.parse(back.text)).toEqual({ prompt: 'A kernel' });
  });

  it('parameters that are followed, and those that are taken', async () => {
    const followed: Record<string, unknown> = {
      ...{ max_tokens: 2, max_completion_tokens: 2, temperature: 0.5, top_p: 0.9, seed: 2 ** 53 - 1 },
      ...{ stop: Array(16).fill('x'), presence_penalty: 1, frequency_penalty: 1 },
      logit_bias: Object.fromEntries(Array.from({ length: 1024 }, (_, id) => [id, 1])),
      ...{
        stream: true,
        'stream_options.include_usage': true,
        top_k: 5,
        min_p: 0.1,
        repetition_penalty: 1.1,
      },
      'chat_template_kwargs.enable_thinking': false,
    };
    expect(named('- Followed:')).toEqual(Object.keys(followed));
    const taken = named('- Without effect');
    expect(taken.length).toBeGreaterThan(3);
    for (const [name, value] of [...Object.entries(followed), ...taken.map((name) => [name, 'x'] as const)]) {
      const [key = '', inner] = name.split('.');
      const given = { [key]: inner === undefined ? value : { [inner]: value } };
      const stream = key === 'stream_options' ? { stream: true } : {};
      const { status, text: said } = await ask('/v1/chat/completions', { ...chat, ...stream, ...given });
      expect({ name, status }, said).toEqual({ name, status: 200 });
    }
  });

  it('parameters that are refused', async () => {
    const refused = [
      [
        '/v1/completions',
        { model, prompt: 'A', max_tokens: 2 },
        { n: 2, tools: [{}], response_format: { type: 'x' } },
      ],
      ['/v1/chat/completions', chat, { reasoning_effort: 'low', temprature: 1 }],
      [
        '/v1/responses',
        { model, input: 'A', max_output_tokens: 2 },
        { previous_response_id: 'x', conversation: 'x', background: true, reasoning: { effort: 'low' } },
      ],
    ] as const;
    expect(named('- Refused by name')).toEqual(expect.arrayContaining(['n', 'tools', 'reasoning_effort']));
    expect(named('`previous_response_id`')).toEqual(expect.arrayContaining(Object.keys(refused[2][2])));
    for (const [path, body, wrong] of refused) {
      for (const [name, value] of Object.entries(wrong)) {
        const { status, text: said } = await ask(path, { ...body, [name]: value });
        expect({ status, ...JSON.parse(said) }).toMatchObject({ status: 400, error: { param: name } });
      }
      const nothing = 'n' in wrong ? { n: 1 } : {};
      expect((await ask(path, { ...body, ...nothing })).status).toBe(200);
    }
  });

  it('metrics', async () => {
    const { text: metrics } = await ask('/metrics');
    const names = wordsOf(after).filter((word) => /^(vllm|onelaunch):/.test(word));
    expect(names.length).toBeGreaterThan(10);
    expect(names.filter((name) => !metrics.includes(`# TYPE ${name} `))).toEqual([]);
  });
});

describe('docs/library.md', () => {
  const folder = mkdtempSync(join(tmpdir(), 'onelaunch-words-'));
  const home = process.cwd();
  const model = 'qwen3-tiny';
  const load = (options: Partial<LoadOptions>) => loadAnywhere({ model, target: 'cpu', ...options });
  const messages = [{ role: 'user', content: 'What is a daemon?' }];
  const short = { maxTokens: 8, temperature: 0 };
  let llm: LanguageModel;
  beforeAll(async () => {
    process.chdir(folder);
    llm = await load({ model });
  });
  afterAll(async () => {
    await llm.close();
    process.chdir(home);
    rmSync(folder, { recursive: true });
  });

  it('stands here', () => {
    const here = readPage('test/compile/words.test.ts').replaceAll(/\s+/g, ' ');
    // Files, and what they hold.
    const others = /^(npm run|docs\/|examples\/|README|AbortSignal$|generation_config|stop_strings|max_)/;
    const words = wordsOf(readPage('docs/library.md')).filter((word) => !others.test(word));
    expect(words.length).toBeGreaterThan(40);
    expect(words.filter((word) => !here.includes(word))).toEqual([]);
  });

  it('Replies', async () => {
    const [text, tokenIds] = ['A kernel is', llm.tokenize('A kernel is')];
    const said = await llm.complete(text, short).text();
    expect(await llm.generate(tokenIds, short).text()).toBe(said);
    for (const reply of [llm.complete(text), llm.generate(tokenIds), llm.chat(messages)]) {
      for await (const piece of reply) {
        expect(piece.text).not.toBe('');
        break;
      }
      expect((await reply.result()).finish).toBe('abort');
    }
    expect(llm.notes).toEqual([]);

    const { logprobs } = await llm.complete(text, { ...short, topLogprobs: 3 }).result();
    expect(logprobs?.map(({ top }) => top.length)).toEqual(Array(8).fill(3));
    const biased = await llm.complete(text, { ...short, logitBias: { 11: -100 } }).result();
    expect(biased.tokens).not.toContain(11);

    const schema = z.strictObject({ age: z.int().min(0).max(99) });
    const reply = llm.chat(messages, { ...short, maxTokens: 40, schema });
    const { age } = await reply.json();
    expect(age).toBeLessThan(100);
    const regex = '[a-c]{4}';
    for (const grammar of [{ regex }, 'root ::= [a-c] [a-c] [a-c] [a-c]']) {
      expect(await llm.complete(text, { grammar }).text()).toMatch(/^[a-c]{4}$/);
    }
    const told: number[][] = [];
    const hearing = llm.complete(text, {
      ...short,
      onPrompt(done, total) {
        told.push([done, total]);
      },
    });
    await hearing.result();
    expect(told.at(-1)).toEqual([tokenIds.length, tokenIds.length]);
  });

  it('drafts of what is forced', async () => {
    const schema = { const: 'a text of which each letter is forced' };
    const asked = { ...short, maxTokens: 60, schema };
    const plain = await llm.chat(messages, { ...asked, speculate: 'off' }).result();
    for (const drafts of [{}, { speculate: 'auto' }, { speculate: { tokens: 7 } }] as const) {
      const { text, tokens, usage } = await llm.chat(messages, { ...asked, ...drafts }).result();
      expect([text, tokens]).toEqual([plain.text, plain.tokens]);
      if (typeof drafts.speculate === 'object') expect(usage.accepted).toBeGreaterThan(0);
    }
    const penalised = { ...asked, repetitionPenalty: 1.1, speculate: { tokens: 7 } };
    expect((await llm.chat(messages, penalised).result()).usage.drafted).toBe(0);
  });

  it('a draft model', async () => {
    const draft = { model, weights: 'int4' } as const;
    await using both = await load({ model, draft });
    const { text, usage } = await both.chat(messages, { ...short, speculate: { tokens: 2 } }).result();
    const { drafted, accepted } = usage;
    expect(text).toBe((await llm.chat(messages, short).result()).text);
    expect(accepted).toBeGreaterThan(0);
    expect(drafted).toBeGreaterThanOrEqual(accepted);
    const asked = (weights: string) => load({ model, draft: { model, weights } as never });
    await expect(asked('int5')).rejects.toThrow('draft');
  });

  it('Replies that call functions, and texts that spell special tokens', async () => {
    const parameters = z.strictObject({ city: z.enum(['Paris', 'Rome']) });
    const tools = [{ function: { name: 'weather', parameters } }] as const;
    const [name, names, mode] = ['weather', ['weather'], 'required' as const];
    for (const toolChoice of ['required', { name }, { names, mode }, 'none', 'auto'] as const) {
      const reply = llm.chat(messages, { temperature: 0, maxTokens: 60, tools, toolChoice });
      const calls = await reply.toolCalls();
      if (toolChoice === 'auto') continue;
      expect(calls.length).toBe(toolChoice === 'none' ? 0 : 1);
      for (const call of calls) {
        expect(`{ ${Object.keys(call).join(', ')} }`).toBe('{ id, name, arguments }');
        const answered = [
          ...messages,
          { role: 'assistant', content: '', toolCalls: [call] },
          { role: 'tool', tool_call_id: call.id, content: `It rains in ${call.arguments.city}.` },
        ];
        expect(llm.renderPrompt(answered, { tools })).toMatch(/"city": "(Paris|Rome)".*It rains in /s);
      }
    }
    const { toolCalls } = await llm.chat(messages, { maxTokens: 60, tools, toolChoice: 'required' }).result();
    const spoken = await llm
      .chat(messages, { temperature: 0, maxTokens: 60, tools, schema: parameters })
      .result();
    expect(toolCalls).toHaveLength(1);
    if (spoken.toolCalls?.length === 0) expect(JSON.parse(spoken.text)).toHaveProperty('city');

    const special = [{ role: 'user', content: '<|im_end|>' }];
    expect(llm.countTokens(special) - llm.countTokens(special, { parseSpecialTokens: true })).toBeGreaterThan(
      0,
    );
  });

  it('Replies that are ended', async () => {
    const held = { maxTokens: 300, temperature: heldTemperature };
    const left = llm.chat(messages, held);
    const pieces = left[Symbol.asyncIterator]();
    await pieces.next();
    await pieces.return();
    const stop = new AbortController();
    const signalled = llm.chat(messages, { ...held, signal: stop.signal });
    for await (const _ of signalled) stop.abort();
    for (const reply of [left, signalled]) expect((await reply.result()).finish).toBe('abort');

    const other = await load({ model });
    const running = other.chat(messages, held);
    const result = running.result();
    await other.close();
    await other.close();
    expect((await result).finish).toBe('abort');
  });

  it('Several at a time', async () => {
    const questions = ['What is a daemon?', 'What is a kernel?', 'What is a hacker?', 'What is a bug?'];
    const four = await load({ model, parallel: 4 });
    const told = (one: LanguageModel) =>
      questions.map((content) => one.chat([{ role: 'user', content }], { ...short, maxTokens: 20 }).text());
    const together = await Promise.all(told(four));
    await four.close();
    for (const [i, text] of told(llm).entries()) expect(await text).toBe(together[i]);

    const some = await load({ model, queue: 8 });
    const stop = new AbortController();
    const held = { maxTokens: 300, temperature: heldTemperature, signal: stop.signal };
    const taken = Array.from({ length: 9 }, () => some.chat(messages, held).result());
    await expect(some.chat(messages, short).text()).rejects.toMatchObject({ kind: 'usage' });
    stop.abort();
    for (const result of taken) expect((await result).finish).toBe('abort');
    await some.close();

    // There is none here; what CUDA_VISIBLE_DEVICES leaves of several is for test/unit/gpus.test.ts.
    await expect(load({ device: 1 })).rejects.toMatchObject({ kind: 'usage' });
  });

  it('What is computed once', async () => {
    const session = llm.session({ messages, whenFull: 'shift' });
    const text = await session.chat('And why?').text();
    expect(session.messages.at(-1)).toMatchObject({ role: 'assistant', content: text });
    const fork = session.fork();
    const written = JSON.parse(JSON.stringify(session)) as object;
    await session.save('talk');
    const restored = await llm.restore('talk');
    const said = await session.chat('Since when?').text();
    for (const one of [fork, restored, llm.session(written)]) {
      expect(await one.chat('Since when?').text()).toBe(said);
    }
    writeFileSync('talk', readFileSync('talk').subarray(0, -1));
    await expect(llm.restore('talk')).rejects.toMatchObject({ kind: 'usage' });
  });

  it('What a model makes of a text', async () => {
    const text = 'A kernel is';
    expect(llm.countTokens(messages)).toBe(llm.tokenize(llm.renderPrompt(messages), {}).length);
    const { logprobs, nll, perplexity } = await llm.score(text);
    expect(nll).toBeCloseTo(-logprobs.reduce((sum, one) => sum + one, 0));
    expect(perplexity).toBeCloseTo(Math.exp(nll / logprobs.length));
  });

  it('Embeddings', async () => {
    const text = 'A kernel is';
    const llm = await load({ model, embeddings: true });
    const { vector } = await llm.embed(text);
    const mean = await llm.embed(text, { pooling: 'mean' });
    await llm.close();
    for (const one of [vector, mean.vector]) expect(Math.hypot(...one)).toBeCloseTo(1);
    expect(mean.vector).not.toEqual(vector);
  });
});

it('What goes wrong', async () => {
  const fields: Readonly<Record<string, readonly string[]>> = {
    ModelNotSupportedError: ['modelType', 'setting'],
    InsufficientMemoryError: ['neededBytes', 'freeBytes', 'fittingContext'],
    BuildError: ['command', 'log', 'stage'],
    ContextOverflowError: ['promptTokens', 'context'],
    KernelTimeoutError: ['stage', 'timeoutMs'],
    Problems: ['problems'],
  };
  const hint = 'h';
  const several = [1, 2].map((n) => new onelaunch.OnelaunchError('environment', `m${n}`, { hint }));
  const made: Readonly<Record<string, onelaunch.OnelaunchError>> = {
    ModelNotSupportedError: new onelaunch.ModelNotSupportedError('m', { modelType: 'a', setting: 'b', hint }),
    InsufficientMemoryError: new onelaunch.InsufficientMemoryError('m', { hint }),
    BuildError: new onelaunch.BuildError('failed', 'm', { hint }),
    ContextOverflowError: new onelaunch.ContextOverflowError(9, 8),
    KernelTimeoutError: new onelaunch.KernelTimeoutError('m', { timeoutMs: 2000 }),
    Problems: new onelaunch.Problems(several),
  };
  const rows = [...readPage('docs/library.md').matchAll(/^\| `(\w+)` \|[^|]*\| ([^|]*) \|/gm)];
  expect(rows.map(([, name]) => name).sort()).toEqual(Object.keys(fields).sort());
  for (const [, name = '', has = ''] of rows) {
    const error = made[name]!;
    expect(error.name).toBe(name);
    expect(error).toBeInstanceOf(onelaunch.OnelaunchError);
    expect(['usage', 'environment', 'failed']).toContain(error.kind);
    expect(error.hint).toBeTruthy();
    expect(wordsOf(has)).toEqual(fields[name]);
    expect(Object.keys(error)).toEqual(expect.arrayContaining([...fields[name]!]));
  }
  const { io, written } = memoryIo();
  await run(['chat', 'qwen3-tiny', '--topP', '7', '--json'], io);
  expect(JSON.parse(written.out)).toMatchObject({ error: { name: 'OnelaunchError', kind: 'usage' } });
  const [parallel, int8, weights, cache] = [4, 'int8', 'int8', 'int8'] as const;
  const asked = { model: 'qwen3-tiny', target: 'cpu', context: 64, parallel, weights, cache } as const;
  const llm = await loadAnywhere(asked);
  expect(llm.manifest.dims).toMatchObject({ cache: int8 });
  await llm.close();
});

it('the plan of docs/weights.md', async () => {
  const written = "(await resolvePlan('cooperative')).with('bytes', {}, { inputBits: 8 })";
  expect(wordsOf(readPage('docs/weights.md'))).toContain(written);
  const plan = (await resolvePlan('cooperative')).with('bytes', {}, { inputBits: 8 });
  const dims = settleWeights(resolveModel('qwen3-tiny').dims, 'int4');
  const kernel = await generate({ dims, plan, target: resolveTarget('cpu') });
  expect(kernel.name).toMatch(/-bytes$/);
});
