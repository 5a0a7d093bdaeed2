// Files as they come from strangers: plain files only, none of absurd size.
import { closeSync, constants, fstatSync, openSync, readSync, type Stats, statSync } from 'node:fs';
import { OnelaunchError } from '../errors.ts';

/** The hint for a file that comes with a model. */
export const copyFromRepository = "Copy the file from the model's own repository.";

/** What the path is, when it is anything but a plain file: to open a pipe would wait for a writer. */
export function kindOf(stats: Stats): string | undefined {
  if (stats.isFile()) return undefined;
  if (stats.isDirectory()) return 'a directory';
  if (stats.isFIFO()) return 'a pipe';
  if (stats.isSocket()) return 'a socket';
  return 'a device';
}

/** The descriptor of a plain file, and its size [bytes]. The caller closes it.
 *  @param hint where such a file comes from
 *  @throws OnelaunchError of kind usage: no such file, one that may not be read, or something that is not a plain file. */
export function openPlainFile(path: string, hint: string): { readonly fd: number; readonly bytes: number } {
  const refuse = (kind: string | undefined) => {
    if (kind === undefined) return;
    throw new OnelaunchError('usage', `${path} is ${kind}, not a plain file`, { hint });
  };
  const stats = reading(path, hint, () => statSync(path, { throwIfNoEntry: false }));
  if (stats === undefined) throw new OnelaunchError('usage', `no file ${path}`, { hint });
  refuse(kindOf(stats));
  // Should the file have become a pipe since, this does not wait.
  const fd = reading(path, hint, () => openSync(path, constants.O_RDONLY | constants.O_NONBLOCK));
  const opened = fstatSync(fd);
  if (!opened.isFile()) closeSync(fd);
  refuse(kindOf(opened));
  return { fd, bytes: opened.size };
}

/** Whether the path names anything, of whatever kind.
 *  @throws OnelaunchError of kind usage where nobody may look. */
export function isThere(path: string, hint: string): boolean {
  return reading(path, hint, () => statSync(path, { throwIfNoEntry: false })) !== undefined;
}

function reading<T>(path: string, hint: string, read: () => T): T {
  try {
    return read();
  } catch (cause) {
    const { code } = cause as NodeJS.ErrnoException;
    const isForbidden = code === 'EACCES' || code === 'EPERM';
    throw new OnelaunchError('usage', `${path} cannot be read: ${code}`, {
      hint: isForbidden ? 'See who may read it: ls -l.' : hint,
      cause,
    });
  }
}

/** Reads from a place of an open file, as much as there is room for. @returns how many bytes there were
 *  @throws OnelaunchError of kind environment where its disk fails */
export function readInto(bytes: Uint8Array, fd: number, path: string, at: number): number {
  try {
    return readSync(fd, bytes, { position: at });
  } catch (cause) {
    const message = `${path} cannot be read: ${(cause as NodeJS.ErrnoException).code}`;
    const hint = 'See what the system says of its disk: dmesg.';
    throw new OnelaunchError('environment', message, { hint, cause });
  }
}

/** The bytes of a plain file.
 *  @param hint where such a file comes from
 *  @throws OnelaunchError of kind usage, as openPlainFile, and for a file of more than mostBytes. */
export function readPlainFile(path: string, mostBytes: number, hint: string): Buffer {
  const { fd, bytes } = openPlainFile(path, hint);
  try {
    if (bytes > mostBytes) {
      throw new OnelaunchError('usage', `${path} has ${bytes} bytes, more than ${mostBytes}`, { hint });
    }
    const content = Buffer.alloc(bytes);
    let read = 0;
    while (read < bytes) {
      const count = readInto(content.subarray(read), fd, path, read);
      if (count === 0) break;
      read += count;
    }
    return content.subarray(0, read);
  } finally {
    closeSync(fd);
  }
}

/** The text of a plain file. @throws OnelaunchError of kind usage, as readPlainFile, and for one that is no UTF-8. */
export const readPlainText = (path: string, mostBytes: number, hint: string): string =>
  decoded(readPlainFile(path, mostBytes, hint), path);

/** Bytes as a text. @throws OnelaunchError of kind usage for what is no UTF-8 */
export function decoded(bytes: Uint8Array, name: string): string {
  try {
    return new TextDecoder('utf-8', { fatal: true }).decode(bytes);
  } catch (cause) {
    throw notText(name, cause);
  }
}

/** What is no UTF-8: to read it all the same would put U+FFFD in the place of what it says. */
export const notText = (name: string, cause?: unknown): OnelaunchError =>
  new OnelaunchError('usage', `${name} is not text in UTF-8`, { hint: 'convert it, as iconv does', cause });
