// Models from a Hub that runs on this machine, with everything that goes wrong on the way.
import { mkdtempSync, readdirSync, readFileSync, readlinkSync, rmSync, writeFileSync } from 'node:fs';
import { mkdir } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { downloadFileToCacheDir, scanCacheDir } from '@huggingface/hub';
import { afterAll, afterEach, beforeEach, describe, expect, it } from 'vitest';
import { OnelaunchError } from '../../errors.ts';
import { tryLock } from '../../file-lock.ts';
import { findCached } from '../../hub/cache.ts';
import { notWritten } from '../../hub/failures.ts';
import { type Pulled, type PullOptions, pull } from '../../hub/pull.ts';
import type { Hub } from '../../hub/request.ts';
import { type FakeHub, type FakeRepo, type Fault, fakeHub, hashes } from '../support/fake-hub.ts';

const folder = mkdtempSync(join(tmpdir(), 'onelaunch-hub-'));
afterAll(() => rmSync(folder, { recursive: true }));

const id = 'Qwen/Qwen3-Micro';
const commit = 'c0ffee'.padEnd(40, '0');
const config = readFileSync(join(import.meta.dirname, '../fixtures/qwen3-micro/config.json'), 'utf8');
/** Bytes that are all different pages, so that what is put together wrongly shows. */
const bytesOf = (length: number, seed: number) =>
  Buffer.from(Uint32Array.from({ length: length / 4 }, (_, i) => i * 2654435761 + seed).buffer);
const weights = bytesOf(400_000, 1);
const sharded = {
  'config.json': config,
  'model.safetensors.index.json': JSON.stringify({
    weight_map: { a: 'model-1.safetensors', b: 'model-2.safetensors', c: 'model-1.safetensors' },
  }),
  'model-1.safetensors': bytesOf(8000, 2),
  'model-2.safetensors': bytesOf(4000, 3),
  'consolidated.safetensors': bytesOf(12_000, 4),
};
const needed = [
  'chat_template.jinja',
  'config.json',
  'generation_config.json',
  'tokenizer.json',
  'tokenizer_config.json',
];
const files = {
  'config.json': config,
  ...Object.fromEntries(
    needed.filter((name) => name !== 'config.json').map((name) => [name, `{"is":"${name}"}`]),
  ),
  'model.safetensors': weights,
  ...{
    '.gitattributes': 'x',
    'README.md': 'x',
    'pytorch_model.bin': 'x',
    'onnx/model.safetensors': 'x',
    'vocab.json': '{}',
  },
};

let hub: FakeHub;
let cache: string;
beforeEach(() => {
  cache = mkdtempSync(join(folder, 'cache-'));
});
afterEach(() => hub.close());

const serve = async (repo: Partial<FakeRepo> = {}) => {
  hub = await fakeHub({ [id]: { commit, files, ...repo } });
};

const waits = [1, 1, 1];
const options = (more: Partial<PullOptions> = {}): PullOptions => ({
  ...{ id, cache, suggest: () => '', check: () => {} },
  ...more,
});
const asking = (more: Partial<Hub> = {}): Hub => ({
  ...{ endpoint: hub.url, token: null, signal: new AbortController().signal, waits },
  ...more,
});
const fetchIt = (more: Partial<PullOptions> = {}, from: Partial<Hub> = {}): Promise<Pulled> =>
  pull(asking(from), options(more));

const inCache = (...path: readonly string[]) => join(cache, 'models--Qwen--Qwen3-Micro', ...path);
const snapshot = (name: string) => inCache('snapshots', commit, name);
const part = () => inCache('blobs', `${hashes(weights).sha256}.pull.incomplete`);
/** Not toEqual, which takes seconds for so many bytes. */
const isWeights = (path: string) => readFileSync(path).equals(weights);
const ranges = () => hub.seen.filter(({ host }) => host === 'store').map(({ range }) => range);

describe('a pulled model', () => {
  it('has what running it takes, and no more, as links to blobs named by their hashes', async () => {
    await serve();
    const pulled = await fetchIt();
    expect(readdirSync(pulled.directory).sort()).toEqual([...needed, 'model.safetensors'].sort());
    expect(pulled).toMatchObject({ id, commit, directory: inCache('snapshots', commit) });
    expect(isWeights(snapshot('model.safetensors'))).toBe(true);
    expect(readlinkSync(snapshot('model.safetensors'))).toBe(
      join('..', '..', 'blobs', hashes(weights).sha256),
    );
    expect(readlinkSync(snapshot('config.json'))).toBe(
      join('..', '..', 'blobs', hashes(Buffer.from(config)).git),
    );
    expect(readFileSync(inCache('refs', 'main'), 'utf8')).toBe(commit);
    expect(readdirSync(inCache('blobs'))).toHaveLength(needed.length + 1);
  });

  it('is found by the library of the Hub, which asks no server for it', async () => {
    await serve();
    await fetchIt();
    const scanned = await scanCacheDir(cache);
    expect(scanned.warnings).toEqual([]);
    expect(scanned.repos.map((repo) => repo.id)).toEqual([{ type: 'model', name: id }]);
    expect(scanned.repos[0]!.revisions[0]).toMatchObject({ commitOid: commit, refs: ['main'] });
    const asked = {
      repo: id,
      path: 'model.safetensors',
      revision: commit,
      cacheDir: cache,
      hubUrl: 'http://127.0.0.1:9',
    };
    expect(await downloadFileToCacheDir(asked)).toBe(snapshot('model.safetensors'));
  });

  it('is not fetched again, and its commit is asked for each time', async () => {
    await serve();
    await fetchIt();
    const sent = hub.sentBytes;
    hub.seen.length = 0;
    const again = await fetchIt();
    expect(again.fetchedBytes).toBe(0);
    expect(hub.sentBytes - sent).toBe(config.length);
    expect(hub.seen.map(({ path }) => path)).toEqual([
      `/api/models/${id}/revision/main?blobs=true`,
      `/${id}/resolve/${commit}/config.json`,
    ]);
  });

  it('has the shards that its index names', async () => {
    await serve({ files: sharded });
    const { directory } = await fetchIt();
    const names = Object.keys(sharded).filter((name) => name !== 'consolidated.safetensors');
    expect(readdirSync(directory).sort()).toEqual(names.sort());
    expect(findCached(id, cache)).toMatchObject({ snapshot: directory, missing: null });
  });

  it('goes by the name that the Hub gives it', async () => {
    hub = await fakeHub({ 'qwen/qwen3-micro': { id, commit, files } });
    expect(await fetchIt({ id: 'qwen/qwen3-micro' })).toMatchObject({
      id,
      directory: inCache('snapshots', commit),
    });
  });

  it('of a revision has its ref under that name, of a commit none', async () => {
    await serve();
    await fetchIt({ revision: commit });
    expect(() => readdirSync(inCache('refs'))).toThrow('ENOENT');
  });

  it('lies plainly in a folder of the user, where what differs is fetched again', async () => {
    await serve();
    const directory = join(cache, 'mine');
    await fetchIt({ directory });
    expect(readdirSync(directory).sort()).toEqual([...needed, 'model.safetensors'].sort());
    expect((await fetchIt({ directory })).fetchedBytes).toBe(0);
    const other = Buffer.from(weights).fill(0, 100, 200);
    writeFileSync(join(directory, 'model.safetensors'), other);
    expect((await fetchIt({ directory })).fetchedBytes).toBe(weights.length);
    expect(isWeights(join(directory, 'model.safetensors'))).toBe(true);
  });
});

describe('what broke off', () => {
  it('is gone on with from where it ended, each time further', async () => {
    await serve();
    // More often than there are waits in a row: each of them got on.
    const cuts = [100_000, 50_000, 60_000, 20_000, 30_000];
    hub.faults.set(
      'model.safetensors',
      cuts.map((after) => ({ kind: 'cut', after })),
    );
    const { directory } = await fetchIt();
    expect(isWeights(join(directory, 'model.safetensors'))).toBe(true);
    expect(ranges()).toHaveLength(cuts.length + 1);
    const starts = ranges().map((range) => Number(/bytes=(\d+)-/.exec(range ?? 'bytes=0-')![1]));
    expect(starts).toEqual([...starts].sort((a, b) => a - b));
    expect(new Set(starts).size).toBe(starts.length);
  });

  it('by Ctrl-C is kept, and the next attempt asks for the rest alone', async () => {
    await serve();
    hub.faults.set('model.safetensors', [{ kind: 'stall', after: 150_000 }]);
    const stop = new AbortController();
    const onBytes = (done: number) => {
      if (done > 150_000) stop.abort(new DOMException('interrupted', 'AbortError'));
    };
    await expect(fetchIt({ onBytes }, { signal: stop.signal })).rejects.toThrow('interrupted');
    const kept = readFileSync(part());
    expect(kept.length).toBeGreaterThan(100_000);
    expect(kept.equals(weights.subarray(0, kept.length))).toBe(true);
    expect(findCached(id, cache)).toMatchObject({ missing: 'model.safetensors' });

    hub.seen.length = 0;
    const { directory, fetchedBytes } = await fetchIt();
    expect(ranges()).toEqual([`bytes=${kept.length}-`]);
    expect(fetchedBytes).toBe(weights.length - kept.length);
    expect(isWeights(join(directory, 'model.safetensors'))).toBe(true);
    expect(readdirSync(inCache('blobs')).filter((name) => name.includes('incomplete'))).toEqual([]);
  });

  it('over a server that knows no ranges begins anew', async () => {
    await serve();
    hub.faults.set('model.safetensors', [{ kind: 'cut', after: 100_000 }, { kind: 'no ranges' }]);
    const { directory } = await fetchIt();
    expect(isWeights(join(directory, 'model.safetensors'))).toBe(true);
  });

  it('by silence is given up and asked for again', async () => {
    await serve();
    hub.faults.set('model.safetensors', [{ kind: 'stall', after: 100_000 }]);
    const { directory } = await fetchIt({}, { stallMillis: 1500 });
    expect(isWeights(join(directory, 'model.safetensors'))).toBe(true);
    expect(ranges()).toContain('bytes=100000-');
  });

  it('and was damaged since is fetched anew', async () => {
    await serve();
    await mkdir(inCache('blobs'), { recursive: true });
    writeFileSync(part(), Buffer.alloc(120_000, 1));
    const { directory } = await fetchIt();
    expect(ranges()).toEqual(['bytes=120000-', undefined]);
    expect(isWeights(join(directory, 'model.safetensors'))).toBe(true);
  });

  it.each([weights.length, weights.length + 5])('and has %i bytes is judged by its hash', async (bytes) => {
    await serve();
    await mkdir(inCache('blobs'), { recursive: true });
    writeFileSync(part(), Buffer.concat([weights, Buffer.alloc(5)]).subarray(0, bytes));
    const { directory } = await fetchIt();
    expect(ranges()).toEqual(bytes === weights.length ? [] : [undefined]);
    expect(isWeights(join(directory, 'model.safetensors'))).toBe(true);
  });
});

describe('a Hub that is busy', () => {
  it('is asked again, after the wait that it asks for', async () => {
    await serve();
    const busy = { kind: 'status', status: 503 } as const;
    hub.faults.set('info', [busy, { kind: 'status', status: 429, headers: { 'retry-after': '0.02' } }]);
    hub.faults.set('model.safetensors', [busy, busy, busy]);
    const told: [string, number][] = [];
    await fetchIt({}, { onWait: (why, millis) => void told.push([why.replace(/^\S+/, 'HUB'), millis]) });
    expect(told).toEqual([
      ['HUB answers 503', 1],
      ['HUB answers 429', 20],
      ...Array.from({ length: 3 }, () => ['HUB answers 503', 1]),
    ]);
  });

  it('for ever is given up', async () => {
    await serve();
    hub.faults.set(
      'info',
      Array.from({ length: 9 }, () => ({ kind: 'status', status: 502 }) as const),
    );
    expect(await refusal(fetchIt())).toMatchObject({
      kind: 'failed',
      message: expect.stringMatching(/^\S+ answers 502$/),
    });
    expect(hub.seen).toHaveLength(waits.length + 1);
  });
});

describe('bytes that are not the model', () => {
  it('are told by their hash, and not kept', async () => {
    await serve();
    hub.faults.set('model.safetensors', [{ kind: 'other bytes' }]);
    const { kind, message } = await refusal(fetchIt());
    expect({ kind, message }).toEqual({
      kind: 'failed',
      message: `model.safetensors arrived damaged: its hash is not ${hashes(weights).sha256.slice(0, 12)}...`,
    });
    expect(readFileSync(part())).toHaveLength(0);
    expect(findCached(id, cache)?.missing).toBe('model.safetensors');
    await fetchIt();
    expect(isWeights(snapshot('model.safetensors'))).toBe(true);
  });

  it('of a small file are told too', async () => {
    await serve();
    hub.faults.set('tokenizer.json', [{ kind: 'other bytes' }]);
    expect((await refusal(fetchIt())).message).toMatch(/^tokenizer.json arrived damaged/);
  });

  it('such as the page of a network with a login do not come for ever', async () => {
    await serve();
    const page = { kind: 'page', text: '<html>Log in</html>' } as const;
    hub.faults.set(
      'model.safetensors',
      Array.from({ length: 20 }, () => page),
    );
    expect(await refusal(fetchIt())).toMatchObject({ kind: 'environment' });
    expect(ranges().length).toBeLessThan(8);
  });
});

describe('the token', () => {
  it('goes to the Hub, and to no other host', async () => {
    await serve();
    await fetchIt({}, { token: 'hf_secret' });
    const sent = (host: string) =>
      new Set(hub.seen.filter((one) => one.host === host).map((one) => one.authorization));
    expect(sent('hub')).toEqual(new Set(['Bearer hf_secret']));
    expect(sent('store')).toEqual(new Set([undefined]));
  });
});

describe('two downloads of one model', () => {
  it('do not write into one part: the second is refused while the first lives', async () => {
    await serve();
    await mkdir(inCache('blobs'), { recursive: true });
    const first = await tryLock(inCache('blobs', '.pull.lock'));
    expect((await refusal(fetchIt())).message).toMatch(/^another process is fetching /);
    first!.release();
    // What a dead process left locks nothing.
    writeFileSync(inCache('blobs', '.pull.lock'), '');
    await fetchIt();
    expect(readdirSync(inCache('blobs'))).not.toContain('.pull.lock');
  });
});

const gated = { kind: 'status', status: 403, headers: { 'x-error-code': 'GatedRepo' } } as const;
const badToken = { 'x-error-message': 'Invalid credentials in Authorization header' };
const outside = { weight_map: { a: '../x.safetensors' } };

interface Case {
  readonly files?: FakeRepo['files'];
  readonly fault?: readonly [name: string, fault: Fault];
  readonly ask?: Partial<PullOptions>;
  readonly from?: Partial<Hub>;
  readonly says: readonly [kind: OnelaunchError['kind'], message: RegExp, hint: RegExp];
}

const cases: readonly (readonly [what: string, one: Case])[] = [
  [
    'a model behind terms, without a token',
    {
      fault: ['config.json', gated],
      says: [
        'environment',
        /^access to Qwen\/Qwen3-Micro is restricted$/,
        /^Accept its terms at \S+Qwen3-Micro, then set HF_TOKEN/,
      ],
    },
  ],
  [
    'a model behind terms, with a token',
    {
      fault: ['config.json', gated],
      from: { token: 'hf_x' },
      says: ['environment', /is restricted$/, /has no access yet: ask for it at/],
    },
  ],
  [
    'a token that the Hub does not know',
    {
      fault: ['info', { kind: 'status', status: 401, headers: badToken }],
      says: ['environment', /does not know the token in HF_TOKEN$/, /or unset it/],
    },
  ],
  [
    'a name that the Hub does not have',
    {
      ask: { id: 'Qwen/Qwen3-Mikro', suggest: () => "did you mean 'x'? " },
      says: [
        'usage',
        /^there is no model Qwen\/Qwen3-Mikro on 127.0.0.1:\d+, or it is private$/,
        /^did you mean 'x'\? A private one needs HF_TOKEN/,
      ],
    },
  ],
  [
    'a revision that the model does not have',
    {
      ask: { revision: 'v2' },
      says: ['usage', /^Qwen\/Qwen3-Micro has no revision 'v2'$/, /branches and tags/],
    },
  ],
  [
    'a revision that is a path out of refs/',
    { ask: { revision: '../../x' }, says: ['usage', /is not a revision$/, /--revision main/] },
  ],
  [
    'a name that is none',
    {
      ask: { id: 'a/b/c' },
      says: ['usage', /^'a\/b\/c' is not the name of a model on the Hub$/, /Qwen\/Qwen3-0.6B/],
    },
  ],
  [
    'a repository without config.json',
    { files: { 'README.md': 'x' }, says: ['usage', /has no config.json$/, /tokenizer.json/] },
  ],
  [
    'a repository of GGUF files',
    {
      files: { 'config.json': config, 'model-q4.gguf': 'x' },
      says: ['usage', /has no safetensors files$/, /the model that they were made from/],
    },
  ],
  [
    'a repository of PyTorch files',
    {
      files: { 'config.json': config, 'pytorch_model.bin': 'x' },
      says: ['usage', /has no safetensors files$/, /save them as safetensors/],
    },
  ],
  [
    'an adapter',
    {
      files: { 'adapter_config.json': '{}' },
      says: ['usage', /has no config.json$/, /merge it into its base model/],
    },
  ],
  [
    'an index that leads out of the folder',
    {
      files: {
        ...{ 'config.json': config, '../x.safetensors': 'x' },
        'model.safetensors.index.json': JSON.stringify(outside),
      },
      says: ['usage', /does not name its shards$/, /config.json/],
    },
  ],
  [
    'a folder that cannot be made',
    {
      ask: { directory: join(import.meta.filename, 'below') },
      says: [
        'environment',
        /^cannot write in .*test.ts\/below: what should be its folder is a file$/,
        /--dir/,
      ],
    },
  ],
  [
    'a Hub that nobody runs',
    {
      from: { endpoint: 'http://127.0.0.1:65535' },
      says: ['environment', /^127.0.0.1:65535 cannot be reached: connection refused$/, /HF_ENDPOINT/],
    },
  ],
  [
    'an address that is no Hub',
    {
      fault: ['info', { kind: 'page', text: '<html>Log in</html>' }],
      says: ['failed', /does not answer as a Hub/, /HF_ENDPOINT/],
    },
  ],
];

describe('what cannot be had', () => {
  it.each(cases)(
    'is told in one line: %s',
    async (_, { files: own, fault, ask, from, says: [kind, message, hint] }) => {
      await serve(own ? { files: own } : {});
      if (fault) hub.faults.set(fault[0], [fault[1]]);
      const error = await refusal(fetchIt(ask, from));
      expect(error).toMatchObject({
        ...{ kind, message: expect.stringMatching(message), hint: expect.stringMatching(hint) },
      });
      expect(hub.seen.filter(({ path }) => path.endsWith('.safetensors'))).toEqual([]);
    },
  );

  it('is refused before weights come when its config.json says so', async () => {
    await serve();
    const check = (text: string, name: string) => {
      expect([text, name]).toEqual([config, id]);
      throw new OnelaunchError('usage', 'not supported');
    };
    expect((await refusal(fetchIt({ check }))).message).toBe('not supported');
    expect(hub.seen.map(({ path }) => path.split('/').at(-1))).toEqual(['main?blobs=true', 'config.json']);
    expect(readdirSync(cache)).toEqual([]);
  });

  it('is refused before weights come when the disk is too small', async () => {
    const text = JSON.stringify({ id, sha: commit, siblings: siblings(10 ** 15) });
    hub = await fakeHub({ [id]: { commit, files } });
    hub.faults.set('info', [{ kind: 'page', text }]);
    const error = await refusal(fetchIt());
    expect(error).toMatchObject({ kind: 'environment', hint: expect.stringContaining('HF_HUB_CACHE') });
    expect(error.message).toMatch(/^1000000\.00 GB are to come, and \S+ has [\d.]+ [MG]B free$/);
    expect(ranges()).toEqual([]);
  });

  it.each([
    ['ENOSPC', 'the disk of /there is full'],
    ['EDQUOT', 'the disk of /there is full'],
    ['EROFS', 'cannot write in /there: its disk can only be read'],
  ])('for want of a disk, %s, is said in one line', (code, message) => {
    const error = notWritten(Object.assign(new Error(code), { code, syscall: 'write' }), '/there');
    expect(error).toMatchObject({ kind: 'environment', message, hint: expect.stringContaining('--dir') });
  });
});

const siblings = (bytes: number) => [
  { rfilename: 'config.json', size: config.length, blobId: hashes(Buffer.from(config)).git },
  {
    ...{ rfilename: 'model.safetensors', size: bytes, blobId: commit },
    lfs: { sha256: hashes(weights).sha256, size: bytes, pointerSize: 135 },
  },
];

async function refusal(promise: Promise<unknown>): Promise<OnelaunchError> {
  const error: unknown = await promise.then(
    () => new Error('nothing was refused'),
    (reason: unknown) => reason,
  );
  if (error instanceof OnelaunchError) return error;
  throw error;
}
