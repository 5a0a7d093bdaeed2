// Models from a Hub that runs on this machine, with everything that goes wrong on the way.
import fs, { lstatSync, readdirSync, readFileSync, readlinkSync, writeFileSync } from 'node:fs';
import { mkdir } from 'node:fs/promises';
import { syncBuiltinESMExports } from 'node:module';
import { join } from 'node:path';
import { downloadFileToCacheDir, scanCacheDir } from '@huggingface/hub';
import { describe, expect, it, vi } from 'vitest';
import { OnelaunchError } from '../../errors.ts';
import { tryLock } from '../../files/file-lock.ts';
import { findCached } from '../../hub/cache.ts';
import { Passing } from '../../hub/failures.ts';
import { persistently } from '../../hub/request.ts';
import { readPooling } from '../../runtime/embedding.ts';
import { hashes } from '../support/fake-hub.ts';
import {
  bytesOf,
  commit,
  config,
  id,
  isWeights,
  mostAsked,
  needed,
  pulls,
  weights,
} from '../support/pulls.ts';
import { failureOf } from '../support/refusal.ts';
import { within } from '../support/within.ts';

const sharded = {
  'config.json': config,
  'model.safetensors.index.json': JSON.stringify({
    weight_map: { a: 'model-1.safetensors', b: 'model-2.safetensors', c: 'model-1.safetensors' },
  }),
  'model-1.safetensors': bytesOf(8000, 2),
  'model-2.safetensors': bytesOf(4000, 3),
  'consolidated.safetensors': bytesOf(12_000, 4),
};

const at = pulls();

describe('a pulled model', () => {
  it('has what running it takes, and no more, as links to blobs named by their hashes', async () => {
    await at.serve();
    const pulled = await at.fetchIt();
    expect(readdirSync(pulled.directory).sort()).toEqual([...needed, 'model.safetensors'].sort());
    expect(pulled).toMatchObject({ id, commit, directory: at.inCache('snapshots', commit) });
    expect(isWeights(at.snapshot('model.safetensors'))).toBe(true);
    expect(readlinkSync(at.snapshot('model.safetensors'))).toBe(
      join('..', '..', 'blobs', hashes(weights).sha256),
    );
    expect(readlinkSync(at.snapshot('config.json'))).toBe(
      join('..', '..', 'blobs', hashes(Buffer.from(config)).git),
    );
    expect(readFileSync(at.inCache('refs', 'main'), 'utf8')).toBe(commit);
    expect(readdirSync(at.inCache('blobs'))).toHaveLength(needed.length + 1);
  });

  it('is found by the library of the Hub, which asks no server for it', async () => {
    await at.serve();
    await at.fetchIt();
    const scanned = await scanCacheDir(at.cache);
    expect(scanned.warnings).toEqual([]);
    expect(scanned.repos.map((repo) => repo.id)).toEqual([{ type: 'model', name: id }]);
    expect(scanned.repos[0]!.revisions[0]).toMatchObject({ commitOid: commit, refs: ['main'] });
    const asked = {
      repo: id,
      path: 'model.safetensors',
      revision: commit,
      cacheDir: at.cache,
      hubUrl: 'http://127.0.0.1:9',
    };
    expect(await downloadFileToCacheDir(asked)).toBe(at.snapshot('model.safetensors'));
  });

  it('is not fetched again, and its commit is asked for each time', async () => {
    await at.serve();
    await at.fetchIt();
    const sent = at.hub.sentBytes;
    at.hub.seen.length = 0;
    const again = await at.fetchIt();
    expect(again.fetchedBytes).toBe(0);
    expect(at.hub.sentBytes - sent).toBe(config.length);
    expect(at.hub.seen.map(({ path }) => path)).toEqual([
      `/api/models/${id}/revision/main?blobs=true`,
      `/${id}/resolve/${commit}/config.json`,
    ]);
  });

  it('has the shards that its index names', async () => {
    await at.serve({ files: sharded });
    const { directory } = await at.fetchIt();
    const names = Object.keys(sharded).filter((name) => name !== 'consolidated.safetensors');
    expect(readdirSync(directory).sort()).toEqual(names.sort());
    expect(findCached(id, at.cache)).toMatchObject({ snapshot: directory, missing: null });
  });

  it('has its pooling and its other templates, which lie in folders of their own', async () => {
    const text = '{"pooling_mode_mean_tokens": true}';
    const files = {
      ...{ 'config.json': config, 'model.safetensors': weights },
      ...{ '1_Pooling/config.json': text, '2_Dense/config.json': '{}', '1_Pooling/x/config.json': '{}' },
      ...{ 'additional_chat_templates/rag.jinja': 'x', 'additional_chat_templates/README.md': 'x' },
      ...{ 'modules.json': '[]', 'config_sentence_transformers.json': '{}' },
    };
    await at.serve({ files });
    const { directory } = await at.fetchIt();
    const mine = await at.fetchIt({ directory: join(at.cache, 'mine') });
    for (const folder of [directory, mine.directory]) {
      expect(readdirSync(folder).sort()).toEqual(
        [
          ...['1_Pooling', 'additional_chat_templates', 'config.json', 'model.safetensors'],
          ...['modules.json', 'config_sentence_transformers.json'],
        ].sort(),
      );
      expect(readdirSync(join(folder, '1_Pooling'))).toEqual(['config.json']);
      expect(readdirSync(join(folder, 'additional_chat_templates'))).toEqual(['rag.jinja']);
      expect(readPooling(folder)).toBe('mean');
    }
    expect((await at.fetchIt()).fetchedBytes).toBe(0);
  });

  it('has the files themselves where there are no links, and they are not fetched again', async () => {
    await at.serve();
    const link = vi.spyOn(fs, 'symlinkSync').mockImplementation(() => {
      throw Object.assign(new Error('EPERM: operation not permitted, symlink'), { code: 'EPERM' });
    });
    syncBuiltinESMExports();
    try {
      await at.fetchIt();
    } finally {
      link.mockRestore();
      syncBuiltinESMExports();
    }
    expect(lstatSync(at.snapshot('model.safetensors')).isFile()).toBe(true);
    expect(isWeights(at.snapshot('model.safetensors'))).toBe(true);
    expect((await at.fetchIt()).fetchedBytes).toBe(0);
  });

  it('goes by the name that the Hub gives it', async () => {
    await at.serve({ id }, 'qwen/qwen3-micro');
    expect(await at.fetchIt({ id: 'qwen/qwen3-micro' })).toMatchObject({
      id,
      directory: at.inCache('snapshots', commit),
    });
  });

  it('is not taken from a Hub that gives it a name which is none', async () => {
    for (const name of ['../../mine/x', 'x\0y']) {
      await at.serve({ id: name }, id);
      expect(await failureOf(at.fetchIt())).toMatchObject({
        kind: 'failed',
        message: expect.stringContaining(`does not answer as a Hub: it names the model '${name}'`),
        hint: expect.stringContaining('HF_ENDPOINT'),
      });
    }
    expect(readdirSync(at.cache)).toEqual([]);
  });

  it('of a revision has its ref under that name, of a commit none', async () => {
    await at.serve();
    await at.fetchIt({ revision: commit });
    expect(() => readdirSync(at.inCache('refs'))).toThrow('ENOENT');
  });

  it('lies plainly in a folder of the user, where what differs is fetched again', async () => {
    await at.serve();
    const directory = join(at.cache, 'mine');
    await at.fetchIt({ directory });
    expect(readdirSync(directory).sort()).toEqual([...needed, 'model.safetensors'].sort());
    expect((await at.fetchIt({ directory })).fetchedBytes).toBe(0);
    const other = Buffer.from(weights).fill(0, 100, 200);
    writeFileSync(join(directory, 'model.safetensors'), other);
    expect((await at.fetchIt({ directory })).fetchedBytes).toBe(weights.length);
    expect(isWeights(join(directory, 'model.safetensors'))).toBe(true);
  });
});

describe('what broke off', () => {
  it('is gone on with from where it ended, each time further', async () => {
    await at.serve();
    // More often than there are waits in a row: each of them got on.
    const cuts = [100_000, 50_000, 60_000, 20_000, 30_000];
    at.hub.faults.set(
      'model.safetensors',
      cuts.map((after) => ({ kind: 'cut', after })),
    );
    const { directory } = await at.fetchIt();
    expect(isWeights(join(directory, 'model.safetensors'))).toBe(true);
    expect(at.ranges()).toHaveLength(cuts.length + 1);
    const starts = at.ranges().map((range) => Number(/bytes=(\d+)-/.exec(range ?? 'bytes=0-')![1]));
    expect(starts).toEqual([...starts].sort((a, b) => a - b));
    expect(new Set(starts).size).toBe(starts.length);
  });

  it('by Ctrl-C is kept, and the next attempt asks for the rest alone', async () => {
    await at.serve();
    at.hub.faults.set('model.safetensors', [{ kind: 'stall', after: 150_000 }]);
    const stop = new AbortController();
    const onBytes = (done: number) => {
      if (done > 150_000) stop.abort(new DOMException('interrupted', 'AbortError'));
    };
    await expect(at.fetchIt({ onBytes }, { signal: stop.signal })).rejects.toThrow('interrupted');
    const kept = readFileSync(at.part());
    expect(kept.length).toBeGreaterThan(100_000);
    expect(kept.equals(weights.subarray(0, kept.length))).toBe(true);
    expect(findCached(id, at.cache)).toMatchObject({ missing: 'model.safetensors' });

    at.hub.seen.length = 0;
    const { directory, fetchedBytes } = await at.fetchIt();
    expect(at.ranges()).toEqual([`bytes=${kept.length}-`]);
    expect(fetchedBytes).toBe(weights.length - kept.length);
    expect(isWeights(join(directory, 'model.safetensors'))).toBe(true);
    expect(readdirSync(at.inCache('blobs')).filter((name) => name.includes('incomplete'))).toEqual([]);
  });

  it('over a server that knows no ranges begins anew', async () => {
    await at.serve();
    at.hub.faults.set('model.safetensors', [{ kind: 'cut', after: 100_000 }, { kind: 'no ranges' }]);
    const { directory } = await at.fetchIt();
    expect(isWeights(join(directory, 'model.safetensors'))).toBe(true);
  });

  it('by silence is given up and asked for again', async () => {
    await at.serve();
    at.hub.faults.set('model.safetensors', [{ kind: 'stall', after: 100_000 }]);
    const { directory } = await at.fetchIt({}, { stallMillis: 1500 });
    expect(isWeights(join(directory, 'model.safetensors'))).toBe(true);
    expect(at.ranges()).toContain('bytes=100000-');
  });

  it('and was damaged since is fetched anew', async () => {
    await at.serve();
    await mkdir(at.inCache('blobs'), { recursive: true });
    writeFileSync(at.part(), Buffer.alloc(120_000, 1));
    const { directory } = await at.fetchIt();
    expect(at.ranges()).toEqual(['bytes=120000-', undefined]);
    expect(isWeights(join(directory, 'model.safetensors'))).toBe(true);
  });

  it.each([weights.length, weights.length + 5])('and has %i bytes is judged by its hash', async (bytes) => {
    await at.serve();
    await mkdir(at.inCache('blobs'), { recursive: true });
    writeFileSync(at.part(), Buffer.concat([weights, Buffer.alloc(5)]).subarray(0, bytes));
    const { directory } = await at.fetchIt();
    expect(at.ranges()).toEqual(bytes === weights.length ? [] : [undefined]);
    expect(isWeights(join(directory, 'model.safetensors'))).toBe(true);
  });
});

describe('a Hub that is busy', () => {
  it('is asked again, after the wait that it asks for', async () => {
    await at.serve();
    const busy = { kind: 'status', status: 503 } as const;
    at.hub.faults.set('info', [busy, { kind: 'status', status: 429, headers: { 'retry-after': '0.02' } }]);
    at.hub.faults.set('model.safetensors', [busy, busy, busy]);
    const told: [string, number][] = [];
    await at.fetchIt({}, { onWait: (why, millis) => void told.push([why.replace(/^\S+/, 'HUB'), millis]) });
    expect(told).toEqual([
      ['HUB answers 503', 1],
      ['HUB answers 429', 20],
      ...Array.from({ length: 3 }, () => ['HUB answers 503', 1]),
    ]);
  });

  it('is left alone until then, and a wait ends with its signal', async () => {
    const stop = new AbortController();
    const from = { endpoint: 'http://127.0.0.1:9', token: null, signal: stop.signal, waits: [50, 600_000] };
    const asked: number[] = [];
    const attempt = () => {
      asked.push(performance.now());
      throw new Passing(new OnelaunchError('failed', 'busy'));
    };
    const onWait = (_: string, millis: number) => {
      if (millis > 50) setImmediate(() => stop.abort());
    };
    const waited = persistently({ ...from, onWait }, attempt, { isPatient: true });
    const ended = within(waited, () => 'the end of a wait');
    await expect(ended).rejects.toMatchObject({ name: 'AbortError' });
    expect(asked).toHaveLength(2);
    // A timer may be early by the fraction of a millisecond that its clock leaves out.
    expect(asked[1]! - asked[0]!).toBeGreaterThan(48);
  });

  it('for ever is given up', async () => {
    await at.serve();
    at.hub.faults.set(
      'info',
      Array.from({ length: 9 }, () => ({ kind: 'status', status: 502 }) as const),
    );
    expect(await failureOf(at.fetchIt())).toMatchObject({
      kind: 'failed',
      message: expect.stringMatching(/^\S+ answers 502$/),
    });
    expect(at.hub.seen).toHaveLength(mostAsked);
  });
});

describe('bytes that are not the model', () => {
  it('are told by their hash, and not kept', async () => {
    await at.serve();
    at.hub.faults.set('model.safetensors', [{ kind: 'other bytes' }]);
    const { kind, message } = await failureOf(at.fetchIt());
    expect({ kind, message }).toEqual({
      kind: 'failed',
      message: `model.safetensors arrived damaged: its hash is not ${hashes(weights).sha256.slice(0, 12)}...`,
    });
    expect(readFileSync(at.part())).toHaveLength(0);
    expect(findCached(id, at.cache)?.missing).toBe('model.safetensors');
    await at.fetchIt();
    expect(isWeights(at.snapshot('model.safetensors'))).toBe(true);
  });

  it('of a small file are told too', async () => {
    await at.serve();
    at.hub.faults.set('tokenizer.json', [{ kind: 'other bytes' }]);
    expect((await failureOf(at.fetchIt())).message).toMatch(/^tokenizer.json arrived damaged/);
  });

  it('of which there are more than the Hub says are not written', async () => {
    await at.serve();
    at.hub.faults.set('model.safetensors', [{ kind: 'page', text: 'x'.repeat(weights.length + 1) }]);
    const { kind, message } = await failureOf(at.fetchIt());
    expect({ kind, message }).toEqual({
      kind: 'failed',
      message: `model.safetensors is longer than the ${weights.length} bytes that the Hub says`,
    });
  });

  it('such as the page of a network with a login do not come for ever', async () => {
    await at.serve();
    const page = { kind: 'page', text: '<html>Log in</html>' } as const;
    at.hub.faults.set(
      'model.safetensors',
      Array.from({ length: 20 }, () => page),
    );
    expect(await failureOf(at.fetchIt())).toMatchObject({ kind: 'environment' });
    expect(at.ranges().length).toBeLessThan(8);
  });
});

describe('the token', () => {
  it('goes to the Hub, and to no other host', async () => {
    await at.serve();
    await at.fetchIt({}, { token: 'hf_secret' });
    const sent = (host: string) =>
      new Set(at.hub.seen.filter((one) => one.host === host).map((one) => one.authorization));
    expect(sent('hub')).toEqual(new Set(['Bearer hf_secret']));
    expect(sent('store')).toEqual(new Set([undefined]));
  });
});

describe('two downloads of one model', () => {
  it('do not write into one part: the second is refused while the first lives', async () => {
    await at.serve();
    await mkdir(at.inCache('blobs'), { recursive: true });
    const first = await tryLock(at.inCache('blobs', '.pull.lock'));
    expect((await failureOf(at.fetchIt())).message).toMatch(/^another process is fetching /);
    first!.release();
    // What a dead process left locks nothing.
    writeFileSync(at.inCache('blobs', '.pull.lock'), '');
    await at.fetchIt();
    expect(readdirSync(at.inCache('blobs'))).not.toContain('.pull.lock');
  });
});
