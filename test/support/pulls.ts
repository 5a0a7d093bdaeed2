// A Hub that runs on this machine, with one model on it, and downloads from it into caches of their own.
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, afterEach, beforeEach } from 'vitest';
import { type Pulled, type PullOptions, pull } from '../../hub/pull.ts';
import type { Hub } from '../../hub/request.ts';
import { type FakeHub, type FakeRepo, fakeHub, hashes } from './fake-hub.ts';

export const id = 'Qwen/Qwen3-Micro';
export const commit = 'c0ffee'.padEnd(40, '0');
export const config = readFileSync(join(import.meta.dirname, '../fixtures/qwen3-micro/config.json'), 'utf8');
/** Bytes that are all different pages, so that what is put together wrongly shows. */
export const bytesOf = (length: number, seed: number) =>
  Buffer.from(Uint32Array.from({ length: length / 4 }, (_, i) => i * 2654435761 + seed).buffer);
export const weights = bytesOf(400_000, 1);
export const needed = [
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

const waits = [1, 1, 1];
/** How often a Hub that does not answer is asked. */
export const mostAsked = waits.length + 1;

/** The Hub and the cache of the test that runs, and what is done with them. */
export function pulls() {
  const folder = mkdtempSync(join(tmpdir(), 'onelaunch-hub-'));
  afterAll(() => rmSync(folder, { recursive: true }));
  let hub: FakeHub | undefined;
  let cache = '';
  beforeEach(() => {
    cache = mkdtempSync(join(folder, 'cache-'));
  });
  afterEach(() => hub?.close());
  const running = () => hub!;
  const inCache = (...path: readonly string[]) => join(cache, 'models--Qwen--Qwen3-Micro', ...path);
  return {
    get hub() {
      return running();
    },
    get cache() {
      return cache;
    },
    /** Starts the Hub. @param repo what its model has otherwise @param name under which it is asked for */
    async serve(repo: Partial<FakeRepo> = {}, name = id): Promise<void> {
      hub = await fakeHub({ [name]: { commit, files, ...repo } });
    },
    fetchIt: (more: Partial<PullOptions> = {}, from: Partial<Hub> = {}): Promise<Pulled> =>
      pull(
        {
          ...{ endpoint: running().url, token: null, signal: new AbortController().signal, waits },
          ...from,
        },
        { ...{ id, cache, suggest: () => '', check: () => {} }, ...more },
      ),
    inCache,
    snapshot: (name: string) => inCache('snapshots', commit, name),
    part: () => inCache('blobs', `${hashes(weights).sha256}.pull.incomplete`),
    /** Of weights, as they were asked for. */
    ranges: () =>
      running()
        .seen.filter(({ host }) => host === 'store')
        .map(({ range }) => range),
  };
}

/** Not toEqual, which takes seconds for so many bytes. */
export const isWeights = (path: string): boolean => readFileSync(path).equals(weights);
