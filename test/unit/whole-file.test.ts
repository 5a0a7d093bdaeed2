// A file is replaced whole or stays: no disk that is full, and no folder that cannot be written, leaves half of one.
import {
  chmodSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import koffi from 'koffi';
import { afterAll, beforeEach, describe, expect, it } from 'vitest';
import { writeWhole } from '../../files/whole-file.ts';
import { writeText } from '../../lab/write-text.ts';

const folder = mkdtempSync(join(tmpdir(), 'onelaunch-whole-'));
afterAll(() => rmSync(folder, { recursive: true }));
const file = join(folder, 'file');
const long = 'new '.repeat(10_000);

/** Runs with files of this process limited to so many bytes, as a disk that is full limits them. */
function limited<T>(bytes: number, run: () => T): T {
  const libc = koffi.load(null);
  const fileSize = 1;
  const limits = new BigUint64Array(2);
  libc.func('int getrlimit(int which, void *limits)')(fileSize, limits);
  const set = libc.func('int setrlimit(int which, void *limits)');
  set(fileSize, new BigUint64Array([BigInt(bytes), limits[1]!]));
  try {
    return run();
  } finally {
    set(fileSize, limits);
  }
}

describe('a file that is replaced', () => {
  beforeEach(() => writeFileSync(file, 'old'));

  it('holds what it held, alone in its folder, where there is no room for all', () => {
    expect(() => limited(1000, () => writeWhole(file, long))).toThrow(/EFBIG/);
    expect(readFileSync(file, 'utf8')).toBe('old');
    expect(readdirSync(folder)).toEqual(['file']);
  });

  it('is not begun where it was not there', () => {
    rmSync(file);
    const refused = () => limited(1000, () => writeText(file, long));
    expect(refused).toThrow(`cannot write ${file}: it is longer than a file may be here: see ulimit -f`);
    expect(readdirSync(folder)).toEqual([]);
  });

  it('is made where a link leads to that leads to nothing yet', () => {
    const [link, other] = [join(folder, 'link'), join(folder, 'other')];
    symlinkSync('other', link);
    symlinkSync('link', join(folder, 'first'));
    writeWhole(join(folder, 'first'), long);
    expect(readFileSync(other, 'utf8')).toBe(long);
    expect(readlinkSync(link)).toBe('other');
    for (const name of ['first', 'link', 'other']) rmSync(join(folder, name));
    symlinkSync('link', link);
    expect(() => writeWhole(link, long)).toThrow(expect.objectContaining({ code: 'ELOOP' }));
    expect(readlinkSync(link)).toBe('link');
    rmSync(link);
  });

  it('keeps who may read it, and a link to it', () => {
    const link = join(folder, 'link');
    symlinkSync('file', link);
    chmodSync(file, 0o640);
    writeWhole(link, long);
    expect(readFileSync(file, 'utf8')).toBe(long);
    expect(statSync(file).mode & 0o777).toBe(0o640);
    expect(readdirSync(folder)).toEqual(['file', 'link']);
    rmSync(link);
  });

  it('is written where its name leaves no room for another beside it', () => {
    const name = join(folder, 'n'.repeat(250));
    writeWhole(name, long);
    expect(readFileSync(name, 'utf8')).toBe(long);
    rmSync(name);
  });
});

it('a device is written to', () => {
  writeWhole('/dev/null', long);
  expect(statSync('/dev/null').isCharacterDevice()).toBe(true);
});
