// A conversation in a file, with what the KV cache has of it: written whole or not at all, and read only by the model that wrote it.
// Magic, bytes of the header [u32], SHA-256 of the header, the header as JSON; then ids [tokens] i32 and the positions of the cache, and the SHA-256 of both.
import { createHash } from 'node:crypto';
import { closeSync, read } from 'node:fs';
import { type FileHandle, open, rename, rm, stat } from 'node:fs/promises';
import { promisify } from 'node:util';
import { z } from 'zod';
import { allocated, OnelaunchError } from '../errors.ts';
import { kindOf, openPlainFile } from '../files/plain-file.ts';
import { behindLinks } from '../files/whole-file.ts';
import { whyUnwritten } from '../files/write-failure.ts';
import type { SessionOptions } from './session.ts';

/** Who can read the bytes of a cache. */
export interface CacheOrigin {
  /** Of the library, for people. */
  readonly kernel: string;
  /** Of all that its sources depend on. */
  readonly hash: string;
  /** Which weights the model has. */
  readonly weights: string;
  /** Bytes of a position. */
  readonly positionBytes: number;
}

/** Raised with every change of what is below. */
const format = 1;
const headerShape = z.strictObject({
  format: z.literal(format),
  kernel: z.string(),
  hash: z.string(),
  weights: z.string(),
  positionBytes: z.int().positive(),
  /** Positions that were saved, and how many of them lie together. */
  tokens: z.int().nonnegative(),
  together: z.int().positive(),
  session: z.record(z.string(), z.unknown()),
});

const magic = Buffer.from('onelaunch session\n');
const hashBytes = 32;
const prefixBytes = magic.length + 4 + hashBytes;
/** The longest conversation has less. */
const mostHeaderBytes = 256 << 20;
/** Of the cache that are copied at a time. */
const pieceBytes = 8 << 20;

const sha256 = (bytes: Uint8Array) => createHash('sha256').update(bytes).digest();

/** Writes a conversation and the positions that the cache has of it.
 *  @param readCache bytes of `count` positions
 *  @throws OnelaunchError of kind environment when the file cannot be written: what was there before is still there */
export async function writeSession(
  file: string,
  saved: {
    readonly origin: CacheOrigin;
    readonly session: SessionOptions;
    readonly tokens: readonly number[];
  },
  readCache: (position: number, count: number) => Uint8Array,
): Promise<void> {
  const { origin, session, tokens } = saved;
  const together = Math.max(1, Math.floor(pieceBytes / origin.positionBytes));
  const header = { format, ...origin, tokens: tokens.length, together, session };
  const text = Buffer.from(JSON.stringify(header));
  const length = Buffer.alloc(4);
  length.writeUInt32LE(text.length);
  await replacing(file, async (out) => {
    await out.writeFile(Buffer.concat([magic, length, sha256(text), text]));
    const hash = createHash('sha256');
    const put = async (bytes: Uint8Array) => {
      hash.update(bytes);
      await out.writeFile(bytes);
    };
    await put(bytesOfIds(tokens));
    for (let at = 0; at < tokens.length; at += together) {
      await put(readCache(at, Math.min(together, tokens.length - at)));
    }
    await out.writeFile(hash.digest());
  });
}

/** Has a file written beside its place, and then put there. A link stays, and what it leads to is replaced; so that a device is not, it is refused. */
async function replacing(file: string, write: (out: FileHandle) => Promise<void>): Promise<void> {
  let part = '';
  let out: FileHandle | undefined;
  try {
    const there = await stat(file).catch(() => undefined);
    const kind = there && !there.isDirectory() ? kindOf(there) : undefined;
    if (kind !== undefined) throw unwritten(file, `it is ${kind}`);
    const place = behindLinks(file);
    part = `${place}.${process.pid}-${++parts}.part`;
    // A conversation is nobody else's business.
    out = await open(part, 'wx', 0o600);
    await write(out);
    await out.sync();
    await out.close();
    await rename(part, place);
  } catch (error) {
    await out?.close().catch(() => {});
    if (out !== undefined) await rm(part, { force: true });
    throw writeError(file, error);
  }
}

let parts = 0;

function writeError(file: string, error: unknown): unknown {
  const { code, syscall } = error as NodeJS.ErrnoException;
  if (code === undefined || syscall === undefined) return error;
  return unwritten(file, whyUnwritten(file, error), error);
}

const unwritten = (file: string, why: string, cause?: unknown): OnelaunchError =>
  new OnelaunchError('environment', `cannot write ${file}: ${why}`, {
    hint: 'Give the path of a file in a folder that is there and can be written.',
    cause,
  });

/** What a file holds. */
export interface SavedSession {
  readonly session: SessionOptions;
  readonly tokens: readonly number[];
  /** The positions of the tokens [begin, begin + count), piece by piece. @throws OnelaunchError as readSession does, should the file change meanwhile */
  pieces(): AsyncIterable<{ readonly ids: readonly number[]; readonly bytes: Uint8Array }>;
  close(): void;
}

/** Opens and checks a file, all of it. The caller closes it.
 *  @param context positions that the cache has room for
 *  @throws OnelaunchError of kind usage: no such file, one that is no saved session, damaged, cut short, of another format, or of another model */
export async function readSession(file: string, origin: CacheOrigin, context: number): Promise<SavedSession> {
  const { fd, bytes } = openPlainFile(file, saveAgain);
  try {
    const { header, begin } = await readHeader(file, fd, bytes);
    checkOrigin(file, header, origin);
    const { tokens: count, together, positionBytes } = header;
    if (count >= context) {
      throw refusal(
        file,
        `holds ${count} tokens, and the context ${context}, the next reply included`,
        'Load the model with a longer context.',
      );
    }
    const idBytes = count * 4;
    const whole = begin + idBytes + count * positionBytes + hashBytes;
    if (bytes < whole) throw refusal(file, `was cut short: it has ${bytes} bytes of ${whole}`);
    if (bytes > whole) throw refusal(file, `is damaged: it has ${bytes} bytes, not ${whole}`);
    await checkBody(file, fd, begin, whole - hashBytes);
    const ids = await readAt(file, fd, begin, idBytes);
    const tokens = Array.from({ length: count }, (_, i) => ids.readInt32LE(i * 4));
    async function* pieces() {
      for (let at = 0; at < count; at += together) {
        const some = tokens.slice(at, at + together);
        const from = begin + idBytes + at * positionBytes;
        yield { ids: some, bytes: await readAt(file, fd, from, some.length * positionBytes) };
      }
    }
    return { session: header.session as SessionOptions, tokens, pieces, close: () => closeSync(fd) };
  } catch (error) {
    closeSync(fd);
    throw error;
  }
}

type Header = z.infer<typeof headerShape>;

async function readHeader(
  file: string,
  fd: number,
  bytes: number,
): Promise<{ readonly header: Header; readonly begin: number }> {
  const start = await readAt(file, fd, 0, Math.min(prefixBytes, bytes));
  const known = Math.min(magic.length, start.length);
  if (known === 0 || !start.subarray(0, known).equals(magic.subarray(0, known))) {
    throw refusal(file, 'is no saved session');
  }
  if (start.length < prefixBytes) throw refusal(file, `was cut short: it has ${bytes} bytes`);
  const length = start.readUInt32LE(magic.length);
  if (length > mostHeaderBytes) throw refusal(file, 'is damaged: its header is longer than any');
  const begin = prefixBytes + length;
  if (bytes < begin) throw refusal(file, `was cut short: it has ${bytes} bytes of more than ${begin}`);
  const text = await readAt(file, fd, prefixBytes, length);
  if (!sha256(text).equals(start.subarray(magic.length + 4))) {
    throw refusal(file, 'is damaged: its header is not what was written');
  }
  return { header: headerOf(file, text.toString()), begin };
}

/** The hash says that this is what was written, and not by whom. */
function headerOf(file: string, text: string): Header {
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch (cause) {
    throw refusal(file, 'is no saved session: its header is not JSON', saveAgain, cause);
  }
  const { data, error } = headerShape.safeParse(value);
  if (data !== undefined) return data;
  const said = z.looseObject({ format: z.number() }).safeParse(value).data?.format;
  if (said !== undefined && said !== format)
    throw refusal(file, `has the format ${said}, and this version reads ${format}`);
  throw refusal(file, 'has a header that this version does not read', saveAgain, error);
}

/** What a session makes of the options in a file. @throws OnelaunchError of kind usage, which names the file */
export function madeOf<T>(file: string, make: () => T): T {
  try {
    return make();
  } catch (cause) {
    if (!(cause instanceof OnelaunchError)) throw cause;
    const why = `holds a conversation that this version does not take up: ${cause.message}`;
    throw refusal(file, why, saveAgain, cause);
  }
}

function checkOrigin(file: string, header: Header, origin: CacheOrigin): void {
  if (header.hash !== origin.hash || header.positionBytes !== origin.positionBytes) {
    // The name of a kernel says neither which version made its sources nor which dims it is for.
    const isSameName = header.kernel === origin.kernel;
    const is = isSameName ? 'another of that name' : origin.kernel;
    const made = `was saved with the kernel ${header.kernel}, and this is ${is}`;
    throw refusal(
      file,
      made,
      `Load the model that it was saved with, ${isSameName ? 'with the same version of onelaunch, ' : ''}for the same target, by the same plan and in the same formats.`,
    );
  }
  if (header.weights !== origin.weights) {
    throw refusal(file, 'was saved with other weights', 'Load the model that it was saved with.');
  }
}

async function checkBody(file: string, fd: number, begin: number, end: number): Promise<void> {
  const hash = createHash('sha256');
  for (let at = begin; at < end; at += pieceBytes) {
    hash.update(await readAt(file, fd, at, Math.min(pieceBytes, end - at)));
  }
  const written = await readAt(file, fd, end, hashBytes);
  if (!hash.digest().equals(written)) throw refusal(file, 'is damaged: its content is not what was written');
}

const readOnce = promisify(read);

async function readAt(file: string, fd: number, position: number, bytes: number): Promise<Buffer> {
  const all = allocated(bytes, `what is read of ${file}`, () => Buffer.alloc(bytes));
  for (let done = 0; done < bytes; ) {
    const { bytesRead } = await readOnce(fd, all, done, bytes - done, position + done);
    if (bytesRead === 0) throw refusal(file, 'was cut short while it was read');
    done += bytesRead;
  }
  return all;
}

function bytesOfIds(tokens: readonly number[]): Uint8Array {
  const bytes = Buffer.alloc(tokens.length * 4);
  tokens.forEach((token, i) => {
    bytes.writeInt32LE(token, i * 4);
  });
  return bytes;
}

const saveAgain = 'Give a file that save() of a session has written.';

const refusal = (file: string, why: string, hint = saveAgain, cause?: unknown): OnelaunchError =>
  new OnelaunchError('usage', `${file} ${why}`, { hint, cause });
