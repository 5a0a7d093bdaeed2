// The logits that an engine hands over, in blocks of bounded size.

import { describe, expect, it } from 'vitest';
import type { EngineSettings } from '../../runtime/engine/options.ts';
import { backends, fakeEngines } from '../support/fake-engines.ts';
import { fakeHashes, fakeLogits, tokens, vocab } from '../support/host-fake.ts';
import { read } from '../support/read-reply.ts';
import { failureOf } from '../support/refusal.ts';

const { abortAfter, readyEngine } = await fakeEngines();

describe.each(backends)('an engine over %s', (_, device) => {
  const ready = (settings: Partial<EngineSettings> = {}) => readyEngine({ device, ...settings });

  it('scores every token from the first one wanted', async () => {
    const engine = await ready();
    const ids = Array.from({ length: 23 }, (_i, i) => (i * 37) % 256);
    for (const first of [0, 5, 8, 22]) {
      engine.reset(0);
      const logits = await engine.score(ids, first);
      const expected = ids.slice(first).flatMap((_id, i) => [...fakeLogits(ids.slice(0, first + i + 1))]);
      expect(logits).toEqual(Float32Array.from(expected));
      expect(engine.position).toBe(23);
    }
    engine.reset(0);
    expect(await engine.score(ids, ids.length)).toEqual(new Float32Array(0));
    expect(engine.position).toBe(23);
  });

  it('hands rows over in blocks of at most 64 MB', async () => {
    const engine = await ready({ context: 40_000 });
    const ids = Array.from({ length: 40_000 }, (_i, i) => (i * 37) % 256);
    const hashes = fakeHashes(ids);
    const blocks: number[] = [];
    let next = 100;
    await engine.scoreRows(ids, 100, async (rows, token) => {
      expect(token).toBe(next);
      expect(rows.byteLength).toBeLessThanOrEqual(64 << 20);
      const count = rows.length / vocab;
      for (let row = 0; row < count; row++) {
        if (rows[row * vocab] !== (hashes[token + row]! & 0xffff))
          throw new Error(`row ${token + row} is wrong`);
      }
      await new Promise((resolve) => setTimeout(resolve, 1));
      blocks.push(count);
      next += count;
    });
    expect(blocks).toEqual([32768, 40_000 - 100 - 32768]);
  });

  it('scores more than one block into one array, and stays busy between blocks', async () => {
    const engine = await ready({ context: 40_000 });
    const ids = Array.from({ length: 40_000 }, (_i, i) => (i * 37) % 256);
    const hashes = fakeHashes(ids);
    const logits = await engine.score(ids, 0);
    expect(logits.length).toBe(40_000 * vocab);
    expect(hashes.findIndex((hash, row) => logits[row * vocab] !== (hash & 0xffff))).toBe(-1);
    engine.reset(0);
    await engine.scoreRows([1, 2, 3], 0, async () => {
      expect((await failureOf(read(engine.generate([1], { maxTokens: 1 })))).message).toContain('busy');
    });
  });

  it('ends at the first row that holds a number that is none', async () => {
    const engine = await ready();
    const ids = Array.from({ length: 23 }, (_i, i) => (i === 6 || i === 9 ? tokens.nan : i));
    for (const first of [0, 6]) {
      engine.reset(0);
      const error = await failureOf(engine.score(ids, first));
      expect([error.kind, error.message]).toEqual(['failed', 'the logits are not finite at position 6']);
      expect(error.hint).toContain('the weights hold NaN');
    }
    engine.reset(0);
    expect(await engine.score(ids.slice(0, 6), 5)).toEqual(fakeLogits(ids.slice(0, 6)));
  });

  it('throws the reason of the signal when scoring is aborted, and what onRows throws', async () => {
    const engine = await ready({ context: 2048 });
    const ids = Array.from({ length: 2000 }, (_i, i) => i % 256);
    const reason = new Error('enough');
    await expect(engine.score(ids, 0, { signal: abortAfter(2, reason) })).rejects.toBe(reason);
    expect(engine.position).toBeLessThan(ids.length);
    engine.reset(0);
    const thrown = engine.scoreRows([1, 2], 0, () => {
      throw reason;
    });
    await expect(thrown).rejects.toBe(reason);
    engine.reset(0);
    expect(await engine.score([1], 0)).toEqual(fakeLogits([1]));
  });
});
