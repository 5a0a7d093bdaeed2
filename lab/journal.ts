// A journal on disk: lines that are appended and synced one by one, so that whoever is killed loses at most the line it was writing.
import { closeSync, existsSync, fsyncSync, ftruncateSync, openSync, rmSync, writeSync } from 'node:fs';
import { OnelaunchError } from '../errors.ts';
import { tryLock } from '../files/file-lock.ts';
import { readPlainFile } from '../files/plain-file.ts';
import { writeWhole } from '../files/whole-file.ts';
import { whyUnwritten } from '../files/write-failure.ts';
import { journalFormat } from './journal-format.ts';
import { isOfOtherFormat, type JournalHeader, type JournalRecord, recordSchema } from './journal-records.ts';

export interface JournalText {
  /** Null: an empty file, or one whose first line was never finished. */
  readonly header: JournalHeader | null;
  readonly records: readonly JournalRecord[];
  /** Bytes up to the end of the last whole line: what stands behind was being written when its writer died. */
  readonly wholeBytes: number;
}

/** A journal that is written. */
export interface Journal {
  readonly path: string;
  /** Those that were there and are to be gone on from, and those that were appended. */
  readonly records: readonly JournalRecord[];
  /** Returns when it is on the disk. @throws OnelaunchError environment where it cannot be written */
  append(record: JournalRecord): void;
  close(): void;
}

const mostBytes = 1_000_000_000;
/** Of the first line. */
const beginning = '{"kind":"journal",';

/** @throws OnelaunchError usage for a file that cannot be read, or is no journal */
export function readJournal(path: string): JournalText {
  if (!existsSync(path)) {
    throw new OnelaunchError('usage', `there is no journal ${path}`, {
      hint: 'gen explore says where it writes its journal; --journal FILE chooses',
    });
  }
  const bytes = readPlainFile(path, mostBytes, whoWrites);
  const wholeBytes = bytes.lastIndexOf(0x0a) + 1;
  const lines = bytes.subarray(0, wholeBytes).toString('utf8').split('\n').slice(0, -1);
  const [header, ...records] = lines.map((line, i) => readLine(path, line, i + 1));
  if (header === undefined) {
    // What another program wrote is nothing to go on with, and to be cut: it may have no end of a line.
    const begun = bytes.subarray(0, beginning.length).toString('utf8');
    if (!beginning.startsWith(begun)) throw broken(path, 1, 'it is no header of a journal');
    return { header: null, records: [], wholeBytes };
  }
  if (header.kind !== 'journal') throw broken(path, 1, 'it is no header of a journal');
  return {
    header,
    wholeBytes,
    records: records.map((record, i) => {
      if (record.kind === 'journal') throw broken(path, i + 2, 'a second header');
      return record;
    }),
  };
}

function readLine(path: string, line: string, number: number) {
  let value: unknown;
  try {
    value = JSON.parse(line);
  } catch {
    throw broken(path, number, 'it is not JSON');
  }
  const read = recordSchema.safeParse(value);
  if (read.success) return read.data;
  const { path: at, message } = read.error.issues[0]!;
  if (isOfOtherFormat(value)) {
    const text = `${path} is a journal of format ${value.format}, and this version reads format ${journalFormat}`;
    throw new OnelaunchError('usage', text, { hint: `onelaunch ${value.version} wrote it` });
  }
  // What a record has too much is nowhere in it.
  throw broken(path, number, at.length === 0 ? message : `${at.join('.')}: ${message}`);
}

const whoWrites =
  'a journal is written by gen explore and gen ablate alone: give another --journal, or remove the file';

const broken = (path: string, line: number, what: string) =>
  new OnelaunchError('usage', `line ${line} of ${path} is no record of a journal: ${what}`, {
    hint: whoWrites,
  });

/**
 * Opens a journal to go on with, or begins it; nobody else can meanwhile. A last line that was never finished is cut.
 * @param builds whether who goes on compiles, and so tries again what was left open
 * @throws OnelaunchError usage where it is of another experiment, or another process writes it
 */
export async function openJournal(path: string, header: JournalHeader, builds = true): Promise<Journal> {
  const lock = await writing(path, () => tryLock(`${path}.lock`));
  if (lock === null) {
    throw new OnelaunchError('usage', `another process writes ${path}`, {
      hint: 'wait for it, or give another --journal',
    });
  }
  const isThere = existsSync(path);
  try {
    const before = isThere ? readJournal(path) : { header: null, records: [], wholeBytes: 0 };
    if (before.header) refuseOther(path, before.header, header);
    const fd = await writing(path, () => openSync(path, 'a'));
    const write = (value: JournalHeader | JournalRecord) => appendLine(path, fd, value);
    await writing(path, () => ftruncateSync(fd, before.header ? before.wholeBytes : 0));
    if (!before.header) write(header);
    const records = before.records.filter((record) => !(builds && isLeftOpen(record)));
    return {
      path,
      records,
      append: (record) => {
        write(record);
        records.push(record);
      },
      close: () => {
        closeSync(fd);
        lock.release();
      },
    };
  } catch (error) {
    if (!isThere) rmSync(path, { force: true });
    lock.release();
    throw error;
  }
}

/** A build that was ended for want of memory is no finding of the variant. */
const isLeftOpen = (record: JournalRecord): boolean => record.kind === 'built' && record.killed === true;

/** Writes a whole journal anew, over none: all of it or, where it cannot, nothing. */
export async function writeJournal(
  path: string,
  header: JournalHeader,
  records: readonly JournalRecord[],
): Promise<void> {
  if (existsSync(path)) {
    throw new OnelaunchError('usage', `${path} is there already`, { hint: 'give another --journal' });
  }
  await writing(path, () => writeWhole(path, [header, ...records].map(lineOf).join('')));
}

const lineOf = (value: JournalHeader | JournalRecord): string => `${JSON.stringify(value)}\n`;

function appendLine(path: string, fd: number, value: JournalHeader | JournalRecord): void {
  const line = Buffer.from(lineOf(value));
  let written: number;
  try {
    written = writeSync(fd, line);
    fsyncSync(fd);
  } catch (error) {
    throw unwritable(path, error);
  }
  if (written < line.length) throw unwritable(path, new Error('its disk is full'));
}

async function writing<T>(path: string, work: () => T | Promise<T>): Promise<T> {
  try {
    return await work();
  } catch (error) {
    throw unwritable(path, error);
  }
}

const unwritable = (path: string, error: unknown) =>
  new OnelaunchError('environment', `cannot write ${path}: ${whyUnwritten(path, error)}`, {
    hint: 'give another place with --journal FILE',
    cause: error,
  });

/** Fields of two headers that differ; last the kernel of the incumbent, which follows from others. */
const differing = (a: JournalHeader, b: JournalHeader): (keyof JournalHeader)[] =>
  (Object.keys({ ...a, ...b }) as (keyof JournalHeader)[])
    .filter((key) => JSON.stringify(a[key]) !== JSON.stringify(b[key]))
    .sort((one, other) => Number(one === 'base') - Number(other === 'base'));

/** How a header is another, in words; null where it is not. */
export function otherHow(there: JournalHeader, asked: JournalHeader): string | null {
  const [field] = differing(there, asked);
  if (field === undefined) return null;
  if (field === 'ownTarget') return `the figures of its target '${there.target}' are others`;
  const name = field === 'pollCycles' ? 'ONELAUNCH_POLL_CYCLES' : field;
  const shown = (value: unknown) => (value == null ? 'none' : JSON.stringify(value));
  return `its ${name} is ${shown(there[field])}, not ${shown(asked[field])}`;
}

function refuseOther(path: string, there: JournalHeader, asked: JournalHeader): void {
  const how = otherHow(there, asked);
  if (how === null) return;
  const text = `${path} is of another experiment: ${how}`;
  throw new OnelaunchError('usage', text, { hint: 'give another --journal, or the flags it was begun with' });
}
