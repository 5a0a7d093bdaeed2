// Reads the header of a GGUF file from front to back. No length is believed: each is held against the file before anything is allocated.
import { isUtf8 } from 'node:buffer';
import { readInto } from '../files/plain-file.ts';
import { broken } from './refusals.ts';

/** Of a header. That of a vocabulary of 256,000 tokens has 20 MB. */
const mostHeaderBytes = 256_000_000;
const firstRead = 8 << 20;

export interface Cursor {
  /** Bytes from the start of the file. */
  readonly at: number;
  /** The next bytes, which stay what they are. @param what they belong to, for the error */
  take(bytes: number, what: string): Buffer;
  /** So many texts, each after its length, in one piece. */
  texts(count: number, what: string): Buffer;
  /** Says that so many things of at least so many bytes follow, as far as the size of the file tells. */
  expect(count: number, bytesEach: number, what: string): void;
  u32(what: string): number;
  /** @throws OnelaunchError also for one that no number of JavaScript holds */
  count(what: string): number;
  text(what: string): string;
}

/** @param fileBytes of the file that is open */
export function openCursor(path: string, fd: number, fileBytes: number): Cursor {
  let held = Buffer.alloc(0);
  let at = 0;
  const refuseShort = (what: string): never => {
    throw broken(path, `has ${fileBytes} bytes, and ${what} goes on behind them: it is cut short or damaged`);
  };
  const hold = (end: number) => {
    if (end <= held.length) return;
    if (end > mostHeaderBytes) throw broken(path, `has a header of more than ${mostHeaderBytes} bytes`);
    const bytes = Math.min(fileBytes, mostHeaderBytes, Math.max(end, firstRead, 2 * held.length));
    const more = Buffer.alloc(bytes);
    held.copy(more);
    for (let have = held.length; have < bytes; ) {
      const got = readInto(more.subarray(have), fd, path, have);
      if (got === 0) throw broken(path, `ended at byte ${have} while it was read`);
      have += got;
    }
    held = more;
  };
  const take = (bytes: number, what: string): Buffer => {
    if (bytes > fileBytes - at) refuseShort(what);
    hold(at + bytes);
    at += bytes;
    return held.subarray(at - bytes, at);
  };
  const count = (what: string): number => {
    const value = take(8, what).readBigUInt64LE();
    if (value > BigInt(Number.MAX_SAFE_INTEGER)) refuseShort(`${what}, of ${value},`);
    return Number(value);
  };
  return {
    get at() {
      return at;
    },
    take,
    texts: (many, what) => {
      const start = at;
      for (let i = 0; i < many; i++) {
        hold(Math.min(at + 8, fileBytes));
        // Short ones are all but all: no more is done for them than this.
        if (at + 8 <= fileBytes && held.readUInt32LE(at + 4) === 0) at += 8 + held.readUInt32LE(at);
        else take(count(what), what);
        if (at > fileBytes) refuseShort(what);
      }
      hold(at);
      return held.subarray(start, at);
    },
    expect: (many, bytesEach, what) => {
      if (many * bytesEach > fileBytes - at) refuseShort(`${what}, ${many} of them,`);
    },
    u32: (what) => take(4, what).readUInt32LE(),
    count,
    text: (what) => {
      const bytes = take(count(what), what);
      if (!isUtf8(bytes)) throw broken(path, `has ${what} that is no UTF-8`);
      return bytes.toString('utf8');
    },
  };
}
