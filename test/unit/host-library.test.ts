// The library without the engine around it, and a process that leaves an engine open.

import { execFile } from 'node:child_process';
import { closeSync, mkdtempSync, readSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { afterAll, describe, expect, it } from 'vitest';
import {
  abiStatus,
  type Functions,
  jobState,
  toldByte,
  zeroProgress,
} from '../../runtime/engine/bindings.ts';
import { openLibrary } from '../../runtime/engine/library.ts';
import { fakeEngines, greedy, randomSource, randomSources } from '../support/fake-engines.ts';
import { slots } from '../support/fake-slots.ts';
import { fakeLogits, fakeReply, tokens, vocab } from '../support/host-fake.ts';
import { until } from '../support/within.ts';

const { fake } = await fakeEngines();
const folder = mkdtempSync(join(tmpdir(), 'onelaunch-host-'));
afterAll(() => rmSync(folder, { recursive: true }));

describe('the library itself', () => {
  it('answers every wrong call with a status and a text', () => {
    const { functions: f } = openLibrary(fake.path, fake.manifest);
    const options = { device: 0, threads: 1, context: 8, sequences: 1, isa: 0 };
    const out: [bigint | null] = [null];
    const channel = () => channelOf(f).theirs;
    expect(f.ol_create({ ...options, context: 0 }, channel(), out)).toBe(abiStatus.badArgument);
    expect(f.ol_error(null)).toBe('context is 0, not at least 1');
    expect(f.ol_create({ ...options, isa: 5 }, channel(), out)).toBe(abiStatus.badArgument);
    expect(f.ol_create(options, channel(), out)).toBe(abiStatus.ok);
    const engine = out[0];
    const refused = (status: number, expected: number, text: string) => {
      expect([status, f.ol_error(engine)]).toEqual([expected, text]);
    };
    const { badArgument } = abiStatus;
    const generate = (change: object) => f.ol_generate(engine, { ...oneToken, ...change });
    refused(generate({ ids: null }), badArgument, 'ids is null');
    refused(generate({ count: 0 }), badArgument, 'the prompt is empty');
    refused(generate({ max_tokens: 0 }), badArgument, 'max_tokens is not at least 1');
    refused(generate({ ids: Int32Array.of(512) }), badArgument, 'ids[0] is 512; tokens are 0 to 511');
    refused(generate({ stop_count: -1 }), badArgument, 'stop_ids: count is -1');
    refused(generate({ top_logprobs: 21 }), badArgument, 'top_logprobs is 21, not -1 to 20');
    refused(generate({ bias_count: 1 }), badArgument, 'bias_ids is null');
    const biases = { bias_ids: Int32Array.of(7, 7), biases: Float32Array.of(1, 2), bias_count: 2 };
    refused(generate(biases), badArgument, 'a token has two biases');
    refused(generate({ ...biases, biases: null }), badArgument, 'biases is null');
    const strange = { ...biases, bias_count: 1, biases: Float32Array.of(Number.NaN) };
    refused(generate(strange), badArgument, 'a bias is not a number');
    refused(
      generate({ sampling: { ...greedy, temperature: Number.NaN } }),
      badArgument,
      'temperature is not a number from 0 on',
    );
    refused(generate({ sampling: { ...greedy, top_p: Number.NaN } }), badArgument, 'top_p is not in (0, 1]');
    refused(
      generate({ sampling: { ...greedy, vocab: 513 } }),
      badArgument,
      'sampling.vocab is 513, not 1 to 512',
    );
    refused(generate({}), badArgument, 'no weights are loaded');
    const score = { ids: Int32Array.of(1), count: 1, first: 0 };
    refused(f.ol_score(engine, { ...score, first: 2 }), badArgument, 'first is not in [0, count]');
    refused(f.ol_load(engine, [], 0), badArgument, 'there are no sources');
    refused(
      f.ol_load(engine, [{ ...randomSource(0), slot: 99 }], 1),
      badArgument,
      `sources[0].slot is 99, not 0 to ${slots.length - 1}`,
    );
    refused(f.ol_load(engine, [{ ...randomSource(0), dtype: 99 }], 1), badArgument, 'sources[0].dtype is 99');
    refused(
      f.ol_load(engine, [{ ...randomSource(0), dtype: 0 }], 1),
      badArgument,
      'sources[0] has no path, or a negative offset',
    );
    refused(f.ol_reset(engine, 1), badArgument, 'cannot reset to 1: the positions in use are 0 to 0');
    refused(
      f.ol_poll(engine, zeroProgress(), null, 4),
      badArgument,
      'tokens is null, or capacity is negative',
    );
    refused(f.ol_sequence_open(engine, null), badArgument, 'slot is null');
    refused(f.ol_sequence_open(engine, new Int32Array(1)), badArgument, 'no weights are loaded');
    for (const slot of [-1, 0, 1]) {
      const closed = `no sequence is open in slot ${slot}`;
      refused(f.ol_sequence_generate(engine, slot, oneToken), badArgument, closed);
      refused(f.ol_sequence_score(engine, slot, score), badArgument, closed);
      refused(f.ol_sequence_logits(engine, slot, null, 0), badArgument, closed);
      refused(f.ol_sequence_poll(engine, slot, zeroProgress(), null, 0), badArgument, closed);
      refused(f.ol_sequence_stop(engine, slot), badArgument, closed);
      refused(f.ol_sequence_reset(engine, slot, 0), badArgument, closed);
      refused(f.ol_sequence_close(engine, slot), badArgument, closed);
    }
    f.ol_close(engine);
    expect(f.ol_generate(null, oneToken)).toBe(badArgument);
    expect(f.ol_poll(null, zeroProgress(), null, 0)).toBe(badArgument);
    expect(f.ol_channel(null)).toBe(badArgument);
    f.ol_close(null);
  });

  it('calls a job running until its last token is fetched', async () => {
    const { functions: f } = openLibrary(fake.path, fake.manifest);
    const { engine, ours } = created(f, { context: 64, sequences: 1 });
    const progress = zeroProgress();
    const finish = async () => {
      do {
        await new Promise((resolve) => setTimeout(resolve, 20));
        f.ol_poll(engine, progress, null, 0);
      } while (progress.state === 1 && Number(progress.done) < 5);
    };
    f.ol_load(engine, randomSources(), slots.length);
    await finish();
    while (progress.state === 1) f.ol_poll(engine, progress, null, 0);
    f.ol_generate(engine, { ...oneToken, max_tokens: 5 });
    await finish();
    const got: number[] = [];
    const states: number[] = [];
    const two = new Int32Array(2);
    for (let i = 0; i < 3; i++) {
      if (i === 0) told(ours); // of all before
      f.ol_poll(engine, progress, two, 2);
      got.push(...two.subarray(0, progress.tokens));
      states.push(progress.state);
      // The event is there as long as tokens are.
      expect(told(ours)).toBe(i < 2);
    }
    expect(states).toEqual([1, 1, 2]);
    expect(got).toEqual(fakeReply([1], 5));
    f.ol_close(engine);
    closeSync(ours);
  });

  it('tells of a sequence also after a caller who has looked at the engine alone', async () => {
    const { functions: f } = openLibrary(fake.path, fake.manifest);
    const { engine, ours } = created(f, { context: 4096, sequences: 2 });
    const progress = zeroProgress();
    f.ol_load(engine, randomSources(), slots.length);
    while (progress.state !== 2) f.ol_poll(engine, progress, null, 0);
    const slot = new Int32Array(1);
    const reply = (args: typeof oneToken) => {
      expect(f.ol_sequence_open(engine, slot)).toBe(abiStatus.ok);
      expect(f.ol_sequence_generate(engine, slot[0]!, args)).toBe(abiStatus.ok);
    };
    reply(oneToken);
    await until(
      () => f.ol_sequence_poll(engine, slot[0]!, progress, null, 0) === 0 && Number(progress.done) === 1,
      () => 'a token that nobody fetches',
    );
    await until(
      () => f.ol_sequence_close(engine, slot[0]!) === abiStatus.ok,
      () => 'the end of its job',
    );
    await until(
      () => f.ol_poll(engine, progress, null, 0) === 0 && progress.state !== 1,
      () => 'the end of the passes',
    );
    while (told(ours));
    f.ol_poll(engine, progress, null, 0);
    reply({ ...oneToken, ids: Int32Array.of(tokens.slow), max_tokens: 4000 });
    await until(
      () => told(ours),
      () => 'a byte for the second reply, which goes on for longer than this waits',
    );
    f.ol_close(engine);
    closeSync(ours);
  });

  it('says that a sequence has ended, whatever news before it was not fetched', async () => {
    const { functions: f } = openLibrary(fake.path, fake.manifest);
    const { engine, ours } = created(f, { context: 4096, sequences: 2 });
    f.ol_load(engine, randomSources(), slots.length);
    const progress = zeroProgress();
    while (progress.state !== jobState.done) f.ol_poll(engine, progress, null, 0);
    while (told(ours));
    const open = () => {
      const slot = new Int32Array(1);
      f.ol_sequence_open(engine, slot);
      return slot[0]!;
    };
    const said: number[] = [];
    const reply = { ...oneToken, ids: Int32Array.of(tokens.slow) };
    f.ol_sequence_generate(engine, open(), { ...reply, max_tokens: 4000 });
    f.ol_sequence_generate(engine, open(), { ...reply, max_tokens: 3 });
    await until(
      () => told(ours, said) && said.includes(toldByte.end),
      () => `the end of the shorter reply in ${said}`,
    );
    expect(said).toEqual([toldByte.news, toldByte.end]);
    f.ol_close(engine);
    closeSync(ours);
  });

  it('keeps the logits of a score until they are fetched, and then no longer', async () => {
    const { functions: f } = openLibrary(fake.path, fake.manifest);
    const { engine, ours } = created(f, { context: 64, sequences: 1 });
    const ended = async () => {
      const progress = zeroProgress();
      do {
        await new Promise((resolve) => setTimeout(resolve, 5));
        f.ol_poll(engine, progress, null, 0);
      } while (progress.state === 1);
    };
    f.ol_load(engine, randomSources(), slots.length);
    await ended();
    f.ol_score(engine, { ids: Int32Array.of(1, 2, 3), count: 3, first: 2 });
    await ended();
    const row = new Float32Array(vocab);
    expect(f.ol_logits(engine, row, 2)).toBe(abiStatus.badArgument);
    expect(f.ol_error(engine)).toBe('2 rows of logits were asked for, and there are 1');
    f.ol_score(engine, { ids: Int32Array.of(1, 2, 3), count: 3, first: 2 });
    await ended();
    expect(f.ol_logits(engine, row, 1)).toBe(abiStatus.ok);
    expect(row).toEqual(fakeLogits([1, 2, 3, 1, 2, 3]));
    expect(f.ol_logits(engine, row, 1)).toBe(abiStatus.badArgument);
    // Those of a score that nobody fetched are not those of the next, which fails.
    f.ol_score(engine, { ids: Int32Array.of(1), count: 1, first: 0 });
    await ended();
    f.ol_score(engine, { ids: Int32Array.of(tokens.fail), count: 1, first: 0 });
    await ended();
    expect(f.ol_logits(engine, row, 1)).toBe(abiStatus.badArgument);
    expect(f.ol_error(engine)).toBe('1 rows of logits were asked for, and there are 0');
    f.ol_close(engine);
    closeSync(ours);
  });

  it('leaves no job behind that could not be begun for want of memory', async () => {
    const { functions: f } = openLibrary(fake.path, fake.manifest);
    const { engine, ours } = created(f, { context: 64, sequences: 1 });
    f.ol_load(engine, randomSources(), slots.length);
    const progress = zeroProgress();
    while (progress.state !== jobState.done) f.ol_poll(engine, progress, null, 0);
    const slot = new Int32Array(1);
    f.ol_sequence_open(engine, slot);
    let refused = 0;
    for (let left = 0, failed = true; failed; left++) {
      fake.exhaustCaller(left);
      const status = f.ol_sequence_generate(engine, slot[0]!, { ...oneToken, ids: Int32Array.of(5) });
      failed = fake.exhausted();
      fake.exhaustCaller(-1);
      // Of a job that has begun its own thread may be the one that finds none.
      expect([abiStatus.ok, ...(failed ? [abiStatus.outOfMemory] : [])]).toContain(status);
      refused += Number(status !== abiStatus.ok);
      await until(
        () => {
          f.ol_sequence_poll(engine, slot[0]!, progress, new Int32Array(4), 4);
          return progress.state !== jobState.running;
        },
        () => `the end of a job that was begun with ${left} allocations`,
      );
      expect(f.ol_sequence_reset(engine, slot[0]!, 0)).toBe(abiStatus.ok);
    }
    expect(refused).toBeGreaterThan(2);
    f.ol_close(engine);
    closeSync(ours);
  });

  it('closes an engine whose caller is gone, also in the middle of a job', async () => {
    const { functions: f } = openLibrary(fake.path, fake.manifest);
    for (const device of [0, 1, 2]) {
      for (const busy of ['no', 'replying', 'sharing']) {
        const { engine, ours } = created(f, { device, context: 4096, sequences: 3 });
        f.ol_load(engine, randomSources(), slots.length);
        const progress = zeroProgress();
        while (busy !== 'no' && progress.state !== 2) f.ol_poll(engine, progress, null, 0);
        const reply = { ...oneToken, ids: Int32Array.of(tokens.slow), max_tokens: 4000 };
        if (busy === 'replying') expect(f.ol_generate(engine, reply)).toBe(abiStatus.ok);
        for (const slot of busy === 'sharing' ? [new Int32Array(1), new Int32Array(1)] : []) {
          expect(f.ol_sequence_open(engine, slot)).toBe(abiStatus.ok);
          expect(f.ol_sequence_generate(engine, slot[0]!, reply)).toBe(abiStatus.ok);
        }
        expect(fake.alive()).toBe(1);
        closeSync(ours);
        await until(
          () => fake.alive() === 0,
          () => `the end of an engine of device ${device} that was ${busy}`,
        );
      }
    }
  });
});

/** Neither biases, log probabilities nor masks. */
const plain = { bias_ids: null, biases: null, bias_count: 0, top_logprobs: -1, masked: 0 } as const;

/** A reply of one token. */
const oneToken = {
  ids: Int32Array.of(1),
  count: 1,
  max_tokens: 1,
  stop_ids: null,
  stop_count: 0,
  draft_tokens: 0,
  draft_ngram: 3,
  ...plain,
  sampling: greedy,
};

/** A channel for one engine: file descriptors. */
function channelOf(functions: Functions): { ours: number; theirs: number } {
  const ends = new Int32Array(2);
  expect(functions.ol_channel(ends)).toBe(abiStatus.ok);
  return { ours: ends[0]!, theirs: ends[1]! };
}

/** An engine, and our end of its channel. */
function created(
  functions: Functions,
  options: { readonly device?: number; readonly context: number; readonly sequences: number },
): { engine: bigint | null; ours: number } {
  const out: [bigint | null] = [null];
  const { ours, theirs } = channelOf(functions);
  functions.ol_create({ device: 0, threads: 1, isa: 0, ...options }, theirs, out);
  return { engine: out[0], ours };
}

/** Takes what the engine has said, into `said`. */
function told(end: number, said: number[] = []): boolean {
  const bytes = new Uint8Array(64);
  try {
    said.push(...bytes.subarray(0, readSync(end, bytes)));
    return true;
  } catch {
    return false;
  }
}

describe('a process with an open engine', () => {
  it.each(['idle', 'open', 'close'])('lives as long as its job, and no longer (%s)', async (how) => {
    const manifest = join(folder, 'manifest.json');
    writeFileSync(manifest, JSON.stringify(fake.manifest));
    const script = new URL('../support/host-exit.ts', import.meta.url).pathname;
    const { stdout } = await promisify(execFile)(
      process.execPath,
      ['--import', 'tsx', script, fake.path, manifest, how, String(tokens.slow)],
      {
        timeout: 30_000,
      },
    );
    if (how === 'idle') {
      expect(stdout).toBe('end');
      return;
    }
    expect(stdout).toMatch(/^(\d+ )+end$/);
    const made = stdout.split(' ').slice(0, -1).map(Number);
    expect(made.reduce((sum, n) => sum + n, 0)).toBe(10);
  });
});
