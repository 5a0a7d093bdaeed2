// A system that starts no more threads: what needs one says so, or does without.
import { expect, it, vi } from 'vitest';
import { abiStatus } from '../../runtime/engine/bindings.ts';
import { failure } from '../../runtime/engine/library-failure.ts';
import { GrammarThreads } from '../../runtime/grammar/grammar-threads.ts';
import { TokenizerApart } from '../../runtime/tokenizer-apart.ts';
import { tokenizer } from '../support/served.ts';

const started = vi.hoisted(() => ({ count: 0 }));
vi.mock('node:worker_threads', async (original) => ({
  ...(await original<typeof import('node:worker_threads')>()),
  Worker: class {
    constructor() {
      started.count++;
      throw new Error('Worker initialization failure: EAGAIN');
    }
  },
}));

const refused = {
  kind: 'environment',
  message: 'the system starts no more threads for this process',
  hint: expect.stringContaining('ulimit -u'),
};

it('has long texts read in this thread, and each of them tries again', async () => {
  const apart = new TokenizerApart(tokenizer);
  const text = 'a daemon '.repeat(1000);
  for (const count of [1, 2]) {
    expect(await apart.encode(text)).toEqual(tokenizer.encode(text));
    expect(started.count).toBe(count);
  }
});

it('has grammars refused, and tries again for the next', async () => {
  const threads = new GrammarThreads(tokenizer, tokenizer.size);
  const before = started.count;
  for (const count of [1, 2]) {
    const made = threads.mask('root ::= "a"', [2], new AbortController().signal);
    await expect(made).rejects.toMatchObject(refused);
    expect(started.count).toBe(before + count);
  }
});

it('is named where a library finds it', () => {
  const text = 'Resource temporarily unavailable';
  expect(failure(abiStatus.internal, text, 'environment')).toMatchObject(refused);
  const message = `cannot start thread 2 of 2: ${text}`;
  expect(failure(abiStatus.device, message, 'environment')).toMatchObject({ ...refused, message });
});
