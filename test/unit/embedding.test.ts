// Embeddings: what is asked of a model, and what is refused before one is loaded.
import { cpSync, mkdirSync, readdirSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect, it, vi } from 'vitest';
import { load } from '../../load.ts';
import { preflight } from '../../preflight.ts';
import { readPooling } from '../../runtime/embedding.ts';
import { duringIdentityHead, withIdentityHead } from '../../runtime/weights/identity-head.ts';
import { writeGguf } from '../support/gguf.ts';
import { makeDirectory } from '../support/model-directory.ts';
import { failureOf, refusalOf } from '../support/refusal.ts';
import { chatBody, post, served } from '../support/served.ts';
import { withKey } from '../support/small-gguf.ts';

const pooled = (config: object): string => {
  const directory = makeDirectory({});
  mkdirSync(join(directory, '1_Pooling'));
  writeFileSync(join(directory, '1_Pooling', 'config.json'), JSON.stringify(config));
  return directory;
};

it('the pooling is that of the model, else the last token', () => {
  expect(readPooling(null)).toBe('last');
  expect(readPooling(makeDirectory({}))).toBe('last');
  expect(readPooling(pooled({ pooling_mode_lasttoken: true, word_embedding_dimension: 8 }))).toBe('last');
  expect(readPooling(pooled({ pooling_mode_mean_tokens: true }))).toBe('mean');
  expect(readPooling(pooled({ pooling_mode: 'mean', embedding_dimension: 8 }))).toBe('mean');
  expect(readPooling(pooled({ pooling_mode: ['lasttoken'] }))).toBe('last');
});

it.each([
  [{ pooling_mode_cls_token: true, pooling_mode_mean_tokens: false }, 'the pooling pooling_mode_cls_token'],
  [
    { pooling_mode_mean_tokens: true, pooling_mode_lasttoken: true },
    'the pooling pooling_mode_mean_tokens and pooling_mode_lasttoken',
  ],
  [{ pooling_mode: 'cls' }, 'the pooling cls'],
  [{ pooling_mode: ['mean', 'lasttoken'] }, 'the pooling mean and lasttoken'],
  [{ pooling_mode: 'constructor' }, 'the pooling constructor'],
  [{ pooling_mode_mean_tokens: false }, 'no pooling'],
])('another pooling is refused: %j', (config, what) => {
  const directory = pooled(config);
  expect(refusalOf(() => readPooling(directory)).message).toBe(
    `${join(directory, '1_Pooling', 'config.json')} names ${what}, supported: lasttoken, mean`,
  );
});

it('of a GGUF file it is that of its metadata', () => {
  const path = join(makeDirectory({}), 'model.gguf');
  const poolingOf = (type: number | undefined) => {
    writeGguf(path, withKey('llama.pooling_type', type === undefined ? undefined : { u32: type }));
    return readPooling(path);
  };
  expect([undefined, 0, 1, 3].map(poolingOf)).toEqual(['last', 'last', 'mean', 'last']);
  expect(refusalOf(() => poolingOf(2)).message).toBe(
    `${path} has llama.pooling_type 2, supported: 0 (last), 1 (mean), 3 (last)`,
  );
});

it('a pooling that is not supported is told before anything is compiled', async () => {
  const directory = pooled({ pooling_mode: 'cls' });
  cpSync(join(import.meta.dirname, '../fixtures/qwen3-micro'), directory, { recursive: true });
  const needs = { weights: true, embeddings: true } as const;
  const { message } = await failureOf(preflight({ model: directory, target: 'cpu' }, needs));
  expect(message).toContain('names the pooling cls, supported: lasttoken, mean');
  expect(await preflight({ model: directory, target: 'cpu' }, { weights: true })).toBeDefined();
});

it('the head is there while it is read, and gone behind it, also where that fails', async () => {
  const left = () => readdirSync(tmpdir()).filter((name) => name.startsWith('onelaunch-head-'));
  const before = left();
  const dims = { name: 'a model', vocab: 5, hidden: 3 };
  const tensors = await duringIdentityHead(dims, async (file) => {
    expect(left()).toHaveLength(before.length + 1);
    return withIdentityHead(new Map(), dims, file);
  });
  expect(tensors.get('lm_head.weight')).toMatchObject({ dtype: 'BF16', shape: [5, 3], bytes: 30 });
  await expect(duringIdentityHead(dims, () => Promise.reject(new Error('lost')))).rejects.toThrow('lost');
  expect(left()).toEqual(before);
  const small = { ...dims, vocab: 2 };
  expect(refusalOf(() => withIdentityHead(new Map(), small)).message).toBe(
    'a model has 2 tokens, fewer than the 3 numbers of its embeddings',
  );
});

it('a model is loaded for embeddings, or for replies', async () => {
  const both = load({ model: 'qwen3-tiny', embeddings: true, randomWeights: { seed: 1 } });
  await expect(both).rejects.toThrow('both embeddings and randomWeights');
  const { llm, app } = served();
  await expect(llm.embed('A text')).rejects.toThrow('was not loaded for embeddings');
  const refused = await post(app, '/v1/embeddings', { model: 'qwen3-tiny', input: 'A text' });
  expect([refused.status, await refused.text()]).toEqual([
    400,
    expect.stringContaining('gen serve --embeddings'),
  ]);
});

it.each([
  ['/v1/chat/completions', chatBody()],
  ['/v1/completions', { model: 'qwen3-tiny', prompt: 'x' }],
  ['/v1/responses', { model: 'qwen3-tiny', input: 'x' }],
])('a server of embeddings says of %s that it is not served', async (path, body) => {
  const { app } = served({ pooling: 'last' });
  const refused = await post(app, path, body);
  const { error } = (await refused.json()) as { error: object };
  expect([refused.status, error]).toEqual([
    400,
    expect.objectContaining({
      message: 'this server makes embeddings, and no replies: gen serve without --embeddings does',
      code: 'unsupported_endpoint',
    }),
  ]);
});

it('metrics and log count embeddings, texts by their tokens', async () => {
  const { app, llm, lines } = served({ pooling: 'last' });
  const vector = Float32Array.of(1, 0);
  vi.spyOn(llm, 'embed').mockImplementation(async (text) => ({ vector, tokens: text.length }));
  await post(app, '/v1/embeddings', { model: 'qwen3-tiny', input: [[1, 2, 3], [4]] });
  const text = await (await app.request('/metrics')).text();
  const counted = [
    'vllm:prompt_tokens_total{model_name="qwen3-tiny"} 4',
    'vllm:request_prompt_tokens_count{model_name="qwen3-tiny"} 2',
    'vllm:request_success_total{model_name="qwen3-tiny",finished_reason="stop"} 1',
    'vllm:e2e_request_latency_seconds_count{model_name="qwen3-tiny"} 1',
    'vllm:request_queue_time_seconds_count{model_name="qwen3-tiny"} 1',
    'vllm:generation_tokens_total{model_name="qwen3-tiny"} 0',
  ];
  expect(text.split('\n')).toEqual(expect.arrayContaining(counted));
  expect(lines).toMatchObject([
    { path: '/v1/embeddings', status: 200, prompt: 4, queuedMs: expect.any(Number) },
  ]);
});

it.each([
  [[[1], [2, -1]], 'input[1][1]', 'input[1][1]: expected at least 0'],
  [[[2, 5000], [1]], 'input[0][1]', 'input[0][1]: expected less than 4096'],
  [[[1], []], 'input[1]', 'input[1]: expected at least 1 item'],
  [[[1], 'a'], 'input[1]', 'input[1]: expected array, received string'],
  [['a', 5], 'input[1]', 'input[1]: expected string, received number'],
  [['a', ''], 'input[1]', 'input[1]: expected at least 1 character'],
  [['long '.repeat(600), 'a'], 'input[0]', 'the text has '],
  [[5, 5000], 'input[1]', 'input[1]: expected less than 4096'],
  ['long '.repeat(600), 'input', 'the text has '],
  [[], 'input', 'input: expected a text, or tokens, or up to 2048 of either'],
  [[null], 'input', 'input: expected a text, or tokens, or up to 2048 of either'],
  [new Array(2049).fill('a'), 'input', 'input: expected at most 2048 items'],
])('what is wrong with an input is told with its place: %#', async (input, param, why) => {
  const { app } = served({ pooling: 'last' });
  const refused = await post(app, '/v1/embeddings', { model: 'qwen3-tiny', input });
  const { error } = (await refused.json()) as { error: object };
  expect([refused.status, error]).toEqual([
    400,
    expect.objectContaining({ param, message: expect.stringContaining(why) }),
  ]);
});

it('a work that its client leaves, or that takes too long, gives its place back and says so', async () => {
  const { service } = served({ replyMillis: 5 });
  const until = (signal: AbortSignal) =>
    new Promise<never>((_, reject) => signal.addEventListener('abort', () => reject(signal.reason)));
  const leaving = new AbortController();
  const left = service.turn(leaving.signal, (_, signal) => {
    const ended = until(signal);
    leaving.abort();
    return ended;
  });
  await expect(left).rejects.toMatchObject({ status: 499 });
  const late = service.turn(new AbortController().signal, (_, signal) => until(signal));
  await expect(late).rejects.toMatchObject({ status: 504, code: 'reply_timeout' });
  expect(service.queue.running).toBe(0);
  await expect(service.turn(new AbortController().signal, async () => 7)).resolves.toMatchObject({ made: 7 });
});
