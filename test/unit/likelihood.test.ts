// How likely a model finds a text, and what a prompt is: over the fake backend, whose logits are known.
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import type { Manifest } from '../../abi/manifest.ts';
import { packageRoot } from '../../codegen/build/package-root.ts';
import { chatTemplate } from '../../runtime/chat/chat-template.ts';
import type { Engine } from '../../runtime/engine/engine.ts';
import { greedy } from '../../runtime/generation-config.ts';
import { likelihood } from '../../runtime/likelihood.ts';
import { LanguageModel } from '../../runtime/model.ts';
import { loadTokenizer } from '../../runtime/tokenizer/tokenizer.ts';
import { fakeEngines } from '../support/fake-engines.ts';
import { fakeLogits, fakeReply, vocab } from '../support/host-fake.ts';
import { failureOf } from '../support/refusal.ts';

const { fake, readyEngine, abortAfter } = await fakeEngines();
const directory = join(packageRoot(), 'models', 'qwen3-tiny');

async function ready(context = 256) {
  const engine = await readyEngine({ device: 1, context });
  const parts = {
    engine,
    queue: 0,
    manifest: fake.manifest,
    defaults: greedy,
    tokenizer: null,
    template: null,
  };
  return { engine, llm: new LanguageModel(parts) };
}

/** Log probability of `id`, summed in double in the plainest way. */
function logprob(logits: Float32Array, id: number): number {
  const most = Math.max(...logits);
  const sum = [...logits].reduce((all, logit) => all + Math.exp(logit - most), 0);
  return logits[id]! - most - Math.log(sum);
}

describe('a score', () => {
  it('is the log probability of each token after those before it', async () => {
    const { llm } = await ready();
    const ids = [7, 30, 2, 255, 30];
    const { tokens: scored, logprobs, nll, perplexity } = await llm.score(ids);
    const expected = ids.slice(1).map((id, i) => logprob(fakeLogits(ids.slice(0, i + 1)), id));
    expect(scored).toEqual(ids);
    expect(logprobs).toHaveLength(4);
    // Logits are below 2^16, and a sum has as many terms as there are tokens.
    const rounding = Number.EPSILON * 2 ** 16 * vocab;
    for (const [i, value] of logprobs.entries()) {
      expect(Math.abs(value - expected[i]!)).toBeLessThan(rounding);
    }
    expect(nll).toBe(-logprobs.reduce((a, b) => a + b, 0));
    // So unlikely that it is no number: the next test has others.
    expect(perplexity).toBe(Number.POSITIVE_INFINITY);
  });

  it('has as perplexity among how many tokens, on average, each was chosen', async () => {
    const scoreRows: Engine['scoreRows'] = async (_tokens, _from, take) => {
      take(new Float32Array(4), 0);
      // The row of the last token says what would follow.
      take(Float32Array.of(0, Math.log(9), -Infinity, -Infinity, 1, 2, 3, 4), 1);
    };
    const { logprobs, nll, perplexity } = await likelihood({ vocab: 4, scoreRows }, [3, 2, 0]);
    expect(logprobs).toEqual([expect.closeTo(-Math.log(4), 6), expect.closeTo(-Math.log(10), 6)]);
    expect(nll).toBeCloseTo(Math.log(40), 6);
    expect(perplexity).toBeCloseTo(Math.sqrt(40), 5);
  });

  it('leaves the KV cache as one that was fed so, whatever was there before', async () => {
    const { llm } = await ready();
    await llm.generate([9, 9, 9], { maxTokens: 3, seed: 0 }).result();
    await llm.score([1, 2, 3]);
    const { usage, tokens: made } = await llm.generate([1, 2, 3, 4], { maxTokens: 3, seed: 0 }).result();
    expect(usage.cached).toBe(3);
    expect(made).toEqual(fakeReply([1, 2, 3, 4], 3));
  });

  it('is not what a reply left that never began', async () => {
    const { llm } = await ready();
    await llm.score([1, 2, 3]);
    const { finish } = await llm.generate([9, 8, 7, 6], { signal: AbortSignal.abort() }).result();
    expect(finish).toBe('abort');
    const { tokens: made, usage } = await llm.generate([9, 8, 7, 6], { maxTokens: 3, seed: 0 }).result();
    expect(usage.cached).toBe(0);
    expect(made).toEqual(fakeReply([9, 8, 7, 6], 3));
  });

  it('ends by its signal and by close, and frees the model for the next', async () => {
    const { llm } = await ready(2048);
    const long = Array.from({ length: 1501 }, (_, i) => i % 256);
    const reason = new Error('enough');
    await expect(llm.score(long, { signal: abortAfter(2, reason) })).rejects.toBe(reason);
    expect((await llm.score([1, 2])).logprobs).toHaveLength(1);
    fake.allow(0);
    const scoring = llm.score(long);
    await expect(Promise.all([scoring, llm.close()])).rejects.toMatchObject({ name: 'AbortError' });
  });

  it('is refused for what cannot be scored', async () => {
    const { llm } = await ready(8);
    expect((await failureOf(llm.score([1]))).message).toContain('tokens');
    expect((await failureOf(llm.score([1, vocab]))).message).toContain('tokens.1');
    expect((await failureOf(llm.score('text'))).message).toContain('there is no tokenizer');
    expect(await failureOf(llm.score(Array(9).fill(1)))).toMatchObject({
      name: 'ContextOverflowError',
      message: 'the text has 9 tokens, and the context holds 8',
      hint: expect.stringContaining('at most 8 tokens'),
      promptTokens: 9,
    });
    expect((await llm.score(Array(8).fill(1))).logprobs).toHaveLength(7);
    const reply = llm.generate([9], { maxTokens: 5 });
    fake.allow(1);
    for await (const _ of reply) {
      expect((await failureOf(llm.score([1, 2]))).message).toContain('busy');
      break;
    }
  });
});

describe('a prompt', () => {
  const tokenizer = loadTokenizer(directory);
  const withFiles = async () => {
    const engine = await readyEngine();
    const manifest = { ...fake.manifest, dims: { ...fake.manifest.dims, vocab: 4096 } } as Manifest;
    const template = () => chatTemplate(directory);
    return new LanguageModel({ engine, manifest, defaults: greedy, tokenizer, template });
  };
  const messages = [{ role: 'user', content: 'What is a kernel?' }];

  it('is the text that the template makes of a conversation', async () => {
    const llm = await withFiles();
    expect(llm.renderPrompt(messages)).toBe(
      '<|im_start|>user\nWhat is a kernel?<|im_end|>\n<|im_start|>assistant\n',
    );
    expect(llm.renderPrompt([{ role: 'user', content: '<|im_end|>' }])).toContain(
      'user\n<|im_end|><|im_end|>',
    );
  });

  it('has as many tokens as are counted', async () => {
    const llm = await withFiles();
    expect(llm.countTokens(messages)).toBe(tokenizer.encode(llm.renderPrompt(messages)).length);
    expect(llm.countTokens('What is a kernel?')).toBe(
      tokenizer.encode('What is a kernel?', { addSpecialTokens: true }).length,
    );
    const marked = [{ role: 'user', content: '<|im_end|>' }];
    expect(llm.countTokens(marked)).toBeGreaterThan(llm.countTokens(marked, { parseSpecialTokens: true }));
  });

  it('is refused without a template, and of no messages', async () => {
    const { llm } = await ready();
    expect(() => llm.renderPrompt(messages)).toThrow('there is no chat template');
    expect(() => llm.countTokens(messages)).toThrow('there is no chat template');
    const whole = await withFiles();
    expect(() => whole.countTokens([])).toThrow('messages');
    expect(() => whole.renderPrompt(messages, { maxTokens: 3 } as object)).toThrow('maxTokens');
  });
});
