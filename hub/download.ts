// One file, from where its part ends, checked against its hash.
import { createHash, type Hash } from 'node:crypto';
import { createReadStream } from 'node:fs';
import { type FileHandle, open } from 'node:fs/promises';
import { OnelaunchError } from '../errors.ts';
import { Passing, unreachable } from './failures.ts';
import { pathOf, type Repo, type RepoFile } from './repo.ts';
import { type Hub, persistently, request } from './request.ts';

/** Completes the part of a file. @param onBytes how much of it is here; less than before where it begins anew
 *  @throws OnelaunchError; the part stays, unless it is damaged */
export async function download(
  hub: Hub,
  repo: Repo,
  file: RepoFile,
  part: string,
  onBytes: (bytes: number) => void,
): Promise<void> {
  const handle = await open(part, 'a');
  try {
    const { size } = await handle.stat();
    if (size > file.bytes) await handle.truncate(0);
    const here = size > file.bytes ? 0 : size;
    if (await fill(hub, repo, file, { handle, part, here }, onBytes)) return;
    // A part that was damaged before is not worth a word.
    await handle.truncate(0);
    if (here > 0 && (await fill(hub, repo, file, { handle, part, here: 0 }, onBytes))) return;
    await handle.truncate(0);
  } finally {
    await handle.close();
  }
  throw new OnelaunchError(
    'failed',
    `${file.name} arrived damaged: its hash is not ${file.hash.slice(0, 12)}...`,
    {
      hint: 'The same command fetches it again.',
    },
  );
}

interface Part {
  readonly handle: FileHandle;
  readonly part: string;
  /** Bytes of it. */
  readonly here: number;
}

/** Fetches the rest. @returns whether all of it is what the Hub says */
async function fill(
  hub: Hub,
  repo: Repo,
  file: RepoFile,
  { handle, part, here }: Part,
  onBytes: (bytes: number) => void,
): Promise<boolean> {
  let hash = beginHash(file);
  let bytes = 0;
  /** A server that begins anew each time gets on only where it comes further. */
  let furthest = here;
  const take = (chunk: Uint8Array) => {
    hash.update(chunk);
    bytes += chunk.length;
    onBytes(bytes);
  };
  if (here > 0)
    for await (const chunk of createReadStream(part, { signal: hub.signal })) take(chunk as Uint8Array);
  const attempt = async (gotOn: () => void) => {
    if (bytes === file.bytes) return;
    const from = bytes;
    const range = from > 0 ? { range: `bytes=${from}-` } : {};
    const { response, chunks } = await request(hub, pathOf(repo, file.name), repo.asked, range);
    if (from > 0 && response.status !== 206) {
      await handle.truncate(0);
      hash = beginHash(file);
      bytes = 0;
    }
    for await (const chunk of chunks) {
      // More than there is to come is no part of this file.
      if (bytes + chunk.length > file.bytes) throw tooLong(file);
      await handle.appendFile(chunk);
      take(chunk);
      if (bytes > furthest) gotOn();
      furthest = Math.max(furthest, bytes);
    }
    if (bytes < file.bytes) throw new Passing(unreachable(hub, new Error('the connection broke off')));
  };
  await persistently(hub, attempt, { isPatient: true });
  return hash.digest('hex') === file.hash;
}

/** As git hashes a file, and LFS. */
function beginHash({ hash, bytes }: RepoFile): Hash {
  return hash.length === 64 ? createHash('sha256') : createHash('sha1').update(`blob ${bytes}\0`);
}

/** Whether a file is what the Hub has. */
export async function isWhole(file: RepoFile, path: string, signal: AbortSignal): Promise<boolean> {
  const hash = beginHash(file);
  for await (const chunk of createReadStream(path, { signal })) hash.update(chunk as Uint8Array);
  return hash.digest('hex') === file.hash;
}

const tooLong = ({ name, bytes }: RepoFile) =>
  new OnelaunchError('failed', `${name} is longer than the ${bytes} bytes that the Hub says`, {
    hint: 'A proxy or mirror may have changed it: HF_ENDPOINT names the Hub that is asked.',
  });
