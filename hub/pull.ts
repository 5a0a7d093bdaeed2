// A model from the Hub onto this machine: the files that running it takes, checked, and gone on with where an earlier attempt ended.
import { statfsSync, statSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { OnelaunchError } from '../errors.ts';
import { tryLock } from '../files/file-lock.ts';
import { download } from './download.ts';
import { type Asked, noHub, notWritten } from './failures.ts';
import { isHubId } from './id.ts';
import { pathOf, type Repo, type RepoFile, readRepo } from './repo.ts';
import { type Hub, readText } from './request.ts';
import { sizeText } from './size-text.ts';
import { cacheStore, folderStore, type Store } from './store.ts';
import { index, isSmallFile, shardsOf, single } from './weights.ts';

export interface PullOptions {
  /** ORG/NAME. */
  readonly id: string;
  /** Branch, tag or commit. @default main */
  readonly revision?: string | undefined;
  /** A folder for the plain files. @default the Hub cache */
  readonly directory?: string | undefined;
  /** The folder of the Hub cache. */
  readonly cache: string;
  /** `did you mean 'x'? `, where the Hub has no such model. */
  readonly suggest: (id: string) => string;
  /** Throws for the config.json of a model that cannot be run: before its weights come. */
  readonly check: (config: string, id: string) => void;
  readonly onBegin?: (repo: Repo, bytes: { readonly total: number; readonly here: number }) => void;
  readonly onBytes?: (done: number, total: number) => void;
}

export interface Pulled {
  readonly id: string;
  readonly commit: string;
  readonly directory: string;
  readonly files: readonly string[];
  /** Of all files, and of those that were not here before. */
  readonly bytes: number;
  readonly fetchedBytes: number;
}

/** @throws OnelaunchError; the abort reason of the hub's signal. What came is kept. */
export async function pull(hub: Hub, options: PullOptions): Promise<Pulled> {
  const asked = checked(options);
  const repo = await readRepo(hub, asked);
  // Old models have no ORG.
  if (!isHubId(repo.id) && !/^\w[\w.-]*$/.test(repo.id)) throw noHub(hub, `it names the model '${repo.id}'`);
  const files = await choose(hub, repo, options.check);
  const place = options.directory === undefined ? options.cache : resolve(options.directory);
  try {
    const store = options.directory === undefined ? cacheStore(place, repo) : folderStore(place);
    // One download at a time into one place.
    const lock = await tryLock(join(store.parts, '.pull.lock'));
    if (lock === null) {
      throw new OnelaunchError('failed', `another process is fetching ${repo.id}`, {
        hint: 'Wait for it; the same command then finds what it fetched.',
      });
    }
    try {
      return await fetchAll(hub, { repo, files, store, place }, options);
    } finally {
      lock.release();
    }
  } catch (error) {
    throw notWritten(error, place);
  }
}

function checked({ id, revision = 'main', suggest }: PullOptions): Asked {
  if (!isHubId(id)) {
    throw new OnelaunchError('usage', `'${id}' is not the name of a model on the Hub`, {
      hint: `${suggest(id)}for example: gen pull Qwen/Qwen3-0.6B`,
    });
  }
  // It becomes the path of a file under refs/.
  if (!/^\w[\w.-]*(\/\w[\w.-]*)*$/.test(revision) || revision.includes('..')) {
    throw new OnelaunchError('usage', `'${revision}' is not a revision`, {
      hint: 'a branch, a tag or a commit: --revision main',
    });
  }
  return { id, revision, didYouMean: suggest(id) };
}

/** The files to fetch, small ones first. @throws OnelaunchError for a model that cannot be run */
async function choose(hub: Hub, repo: Repo, check: PullOptions['check']): Promise<RepoFile[]> {
  const { files, id, asked } = repo;
  const text = (name: string) => readText(hub, pathOf(repo, name), asked, 100_000_000);
  if (!files.has('config.json')) throw notRun(id, 'has no config.json', [...files.keys()]);
  check(await text('config.json'), id);
  const small = [...files.values()].filter(({ name }) => isSmallFile(name));
  if (files.has(single)) return [...small, files.get(single)!];
  if (!files.has(index)) throw notRun(id, 'has no safetensors files', [...files.keys()]);
  const shards = shardsOf(await text(index))?.map((name) => files.get(name));
  if (!shards || shards.includes(undefined))
    throw notRun(id, `has a ${index} that does not name its shards`, []);
  return [...small, files.get(index)!, ...shards.filter((file) => file !== undefined)];
}

function notRun(id: string, what: string, names: readonly string[]): OnelaunchError {
  const is = (pattern: RegExp) => names.some((name) => pattern.test(name));
  let hint = 'A model that can be run has config.json, tokenizer.json and model.safetensors.';
  if (is(/\.gguf$/)) hint = 'It has GGUF files: pull the model that they were made from.';
  else if (is(/^adapter_config\.json$/)) hint = 'It is an adapter: merge it into its base model.';
  else if (is(/\.(bin|pt|pth)$/))
    hint = 'It has weights of PyTorch only: save them as safetensors with transformers.';
  return new OnelaunchError('usage', `${id} ${what}`, { hint });
}

interface Work {
  readonly repo: Repo;
  readonly files: readonly RepoFile[];
  readonly store: Store;
  readonly place: string;
}

async function fetchAll(
  hub: Hub,
  { repo, files, store, place }: Work,
  options: PullOptions,
): Promise<Pulled> {
  const missing: RepoFile[] = [];
  for (const file of files) if (!(await store.has(file, hub.signal))) missing.push(file);
  const total = sum(files);
  const parts = missing.map((file) => Math.min(sizeOf(store.part(file)), file.bytes));
  let done = total - sum(missing);
  const here = done + parts.reduce((a, b) => a + b, 0);
  refuseFullDisk(place, total - here);
  options.onBegin?.(repo, { total, here });
  for (const file of files) {
    if (missing.includes(file)) {
      await download(hub, repo, file, store.part(file), (bytes) => options.onBytes?.(done + bytes, total));
      done += file.bytes;
    }
    store.place(file);
  }
  store.finish();
  return {
    ...{ id: repo.id, commit: repo.commit, directory: store.directory },
    ...{ files: files.map(({ name }) => name), bytes: total, fetchedBytes: total - here },
  };
}

/** Before the first byte, not after the last that fits. */
function refuseFullDisk(folder: string, bytes: number): void {
  const { bavail, bsize } = statfsSync(folder);
  const free = bavail * bsize;
  if (bytes <= free) return;
  throw new OnelaunchError(
    'environment',
    `${sizeText(bytes)} are to come, and ${folder} has ${sizeText(free)} free`,
    {
      hint: 'Free some space, or choose another folder: HF_HUB_CACHE, or --dir.',
    },
  );
}

const sum = (files: readonly RepoFile[]): number => files.reduce((bytes, file) => bytes + file.bytes, 0);
const sizeOf = (path: string): number => statSync(path, { throwIfNoEntry: false })?.size ?? 0;
