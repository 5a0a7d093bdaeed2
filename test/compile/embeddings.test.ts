// Embeddings by the engine, against the hidden states of the reference; and over the API, as OpenAI's own client has them.
import { join } from 'node:path';
import OpenAI from 'openai';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { packageRoot } from '../../codegen/build/package-root.ts';
import { load } from '../../load.ts';
import type { LanguageModel } from '../../runtime/model.ts';
import { referenceForward } from '../../runtime/reference/reference.ts';
import { readReferenceModel } from '../../runtime/reference/weights.ts';
import { tolerance } from '../../runtime/verify/tolerance.ts';
import { createApp } from '../../server/app.ts';
import { Service } from '../../server/service.ts';

const folder = join(packageRoot(), 'test', 'fixtures', 'llama3-micro');
let llm: LanguageModel;
beforeAll(async () => {
  llm = await load({ model: folder, target: 'cpu', embeddings: true, context: 64 });
});
afterAll(() => llm?.close());

const tokens = [5, 700, 31, 31, 2, 404, 77, 600, 9];

/** Hidden states [tokens, hidden] of the reference: its logits, under a head that is the identity. */
function hiddenStates(ids: readonly number[]): Float32Array[] {
  const { dims, tensors } = readReferenceModel(folder);
  const { hidden, vocab } = dims;
  const identity = new Float32Array(vocab * hidden);
  for (let i = 0; i < hidden; i++) identity[i * hidden + i] = 1;
  const withHead = (name: string) => (name === 'lm_head.weight' ? identity : tensors(name));
  const logits = referenceForward({ ...dims, tiedHead: false }, withHead, ids);
  return ids.map((_, t) => logits.subarray(t * vocab, t * vocab + hidden));
}

const rms = (values: readonly number[]) => Math.hypot(...values) / Math.sqrt(values.length);

describe('the vector of tokens', () => {
  it.each(['last', 'mean'] as const)('by %s is that of the reference, of length 1', async (pooling) => {
    const states = hiddenStates(tokens);
    const pooled = [...states[0]!].map((_, i) => {
      const all = states.map((state) => state[i]!);
      return pooling === 'last' ? all.at(-1)! : all.reduce((sum, x) => sum + x, 0) / all.length;
    });
    const length = Math.hypot(...pooled);
    const { vector, tokens: count } = await llm.embed(tokens, { pooling });
    expect(count).toBe(tokens.length);
    expect(Math.hypot(...vector)).toBeCloseTo(1, 5);
    const { dims } = llm.manifest;
    const { logit: most } = tolerance({
      ...{ dims, dtype: dims.dtype, positions: tokens.length, counted: vector.length, decimals: null },
      logitRms: rms(states.flatMap((state) => [...state])) / length,
      extraRoundings: llm.manifest.roundings,
    });
    const errors = [...vector].map((x, i) => Math.abs(x - pooled[i]! / length));
    expect(Math.max(...errors)).toBeLessThan(most);
    // Such bounds tell it from that of other tokens.
    const other = await llm.embed(tokens.slice(1), { pooling });
    expect(Math.max(...[...other.vector].map((x, i) => Math.abs(x - vector[i]!)))).toBeGreaterThan(most);
  });

  it('has fewer numbers where it is so asked, again of length 1', async () => {
    const { vector } = await llm.embed(tokens);
    const { vector: short } = await llm.embed(tokens, { dimensions: 16 });
    const length = Math.hypot(...vector.slice(0, 16));
    for (let i = 0; i < 16; i++) expect(short[i]).toBeCloseTo(vector[i]! / length, 6);
    await expect(llm.embed(tokens, { dimensions: 129 })).rejects.toThrow('options.dimensions is 129');
  });

  it('is the same whatever came before, and refused of what does not fit', async () => {
    const { vector } = await llm.embed(tokens);
    await llm.embed([1, 2, 3]);
    expect((await llm.embed(tokens)).vector).toEqual(vector);
    await expect(llm.embed([])).rejects.toThrow('tokens');
    await expect(llm.embed(Array.from({ length: 65 }, () => 1))).rejects.toThrow('the context holds 64');
    await expect(llm.generate(tokens).result()).rejects.toThrow('makes no replies');
    await expect(llm.score(tokens)).rejects.toThrow('makes no replies');
  });
});

describe("OpenAI's client", () => {
  const service = new Service({ name: 'micro', queue: 4, queueMillis: 60_000, replyMillis: 60_000 });
  const lines: object[] = [];
  const app = createApp(service, {
    ...{ version: '1.2.3', page: '', apiKey: null, localOnly: false, corsOrigins: [], mostBodyBytes: null },
    ...{ log: (line) => lines.push(line), report: (error) => lines.push({ error }) },
  });
  const client = new OpenAI({
    ...{ baseURL: 'http://localhost/v1', apiKey: 'none', maxRetries: 0 },
    fetch: async (url, init) => app.request(url as string, init as RequestInit),
  });
  beforeAll(() => service.ready(llm));

  it('gets the vectors of several inputs, as numbers and as bytes', async () => {
    const input = [tokens, tokens.slice(3)];
    const { data, usage, model } = await client.embeddings.create({ model: 'micro', input });
    const { vector } = await llm.embed(tokens.slice(3));
    expect([model, usage.prompt_tokens]).toEqual(['micro', 2 * tokens.length - 3]);
    expect(data.map(({ index }) => index)).toEqual([0, 1]);
    expect(data[1]!.embedding).toEqual([...vector]);
    const plain = await client.embeddings.create({
      model: 'micro',
      input,
      encoding_format: 'float',
      dimensions: 8,
    });
    expect(plain.data[0]!.embedding).toHaveLength(8);
  });

  it('is told what is wrong', async () => {
    const ask = (more: object) => client.embeddings.create({ model: 'micro', input: tokens, ...more });
    await expect(ask({ input: [] })).rejects.toMatchObject({ status: 400, param: 'input' });
    await expect(ask({ input: [777] })).rejects.toMatchObject({ status: 400 });
    await expect(ask({ dimensions: 1000 })).rejects.toThrow('a vector of this model has 128');
    const messages = [{ role: 'user' as const, content: 'x' }];
    await expect(client.chat.completions.create({ model: 'micro', messages })).rejects.toMatchObject({
      status: 400,
    });
    expect(JSON.stringify(lines)).not.toContain('"error":{');
  });
});
