// A conversation in a file: what was written is read, and whatever else the file has come to is told by its reason.
import { execFileSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import {
  existsSync,
  mkdirSync,
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
import { afterAll, expect, test } from 'vitest';
import { OnelaunchError } from '../../errors.ts';
import { madeOf, readSession, writeSession } from '../../runtime/saved-session.ts';
import { failureOf, refusalOf } from '../support/refusal.ts';

const folder = mkdtempSync(join(tmpdir(), 'saved-'));
afterAll(() => rmSync(folder, { recursive: true }));
const at = (name: string) => join(folder, name);

const origin = { kernel: 'mine', hash: 'abc', weights: 'w1', positionBytes: 5 };
const session = { messages: [{ role: 'user', content: 'Zwölf Boxkämpfer \ud83e\udd4a' }] };
/** Positions of the cache, each of bytes of its own. */
const cache = (first: number, count: number, { positionBytes } = origin) =>
  Buffer.concat(Array.from({ length: count }, (_, i) => Buffer.alloc(positionBytes, `${first + i} `)));
const write = (file: string, tokens: readonly number[], from = origin) =>
  writeSession(file, { origin: from, session, tokens }, (position, count) => cache(position, count, from));
const open = (file: string, to = origin, context = 1e9) => readSession(file, to, context);

async function contentOf(file: string, to = origin) {
  const saved = await open(file, to);
  const ids: number[] = [];
  const bytes: Uint8Array[] = [];
  for await (const piece of saved.pieces()) {
    ids.push(...piece.ids);
    bytes.push(piece.bytes);
  }
  saved.close();
  expect(ids).toEqual(saved.tokens);
  return { session: saved.session, ids, bytes: Buffer.concat(bytes) };
}

test('what was written is read, in one piece, in several, and where the cache has nothing', async () => {
  // Of the large ones two are copied at a time.
  for (const [positionBytes, count] of [
    [5, 0],
    [5, 3],
    [3_000_000, 5],
  ] as const) {
    const tokens = Array.from({ length: count }, (_, i) => 1000 * i);
    const from = { ...origin, positionBytes };
    await write(at('whole'), tokens, from);
    const { ids, bytes, session: said } = await contentOf(at('whole'), from);
    expect(said).toEqual(session);
    expect(ids).toEqual(tokens);
    expect(bytes.equals(cache(0, count, from))).toBe(true);
  }
  expect(statSync(at('whole')).mode & 0o077).toBe(0);
});

test('a file that was cut or changed anywhere is refused, with the reason', async () => {
  await write(at('good'), [1, 2, 3, 4]);
  const good = readFileSync(at('good'));
  const reasons = new Set<string>();
  const refused = async (bytes: Buffer) => {
    writeFileSync(at('bad'), bytes);
    const error = await failureOf(open(at('bad')));
    expect(error.kind).toBe('usage');
    expect(error.message.startsWith(`${at('bad')} `)).toBe(true);
    expect(error.hint).toMatch(/save\(\) of a session/);
    const reason = error.message.slice(at('bad').length + 1);
    reasons.add(reason.replace(/\d+/g, 'N'));
    return reason;
  };
  for (let length = 1; length < good.length; length += 3) {
    expect(await refused(good.subarray(0, length))).toMatch(/^was cut short/);
  }
  for (let i = 0; i < good.length; i += i < 80 ? 1 : 3) {
    const changed = Buffer.from(good);
    changed[i]! ^= 1 << (i % 8);
    expect(await refused(changed)).toMatch(/^(is damaged|is no saved session|was cut short)/);
  }
  expect(await refused(Buffer.concat([good, Buffer.from('x')]))).toMatch(
    /^is damaged: it has \d+ bytes, not/,
  );
  expect(await refused(Buffer.from('{"messages": []}'))).toBe('is no saved session');
  expect([...reasons].toSorted()).toMatchInlineSnapshot(`
    [
      "is damaged: it has N bytes, not N",
      "is damaged: its content is not what was written",
      "is damaged: its header is longer than any",
      "is damaged: its header is not what was written",
      "is no saved session",
      "was cut short: it has N bytes",
      "was cut short: it has N bytes of N",
      "was cut short: it has N bytes of more than N",
    ]
  `);
});

test('a file of another model, kernel, format or longer context is refused, and says of which', async () => {
  await write(at('mine'), [1, 2, 3, 4]);
  const messages = async (to: Partial<typeof origin>, context = 1e9) => {
    const { message, hint } = await failureOf(open(at('mine'), { ...origin, ...to }, context));
    return [message.slice(at('mine').length + 1), hint];
  };
  expect(await messages({ hash: 'abd', kernel: 'yours' })).toEqual([
    'was saved with the kernel mine, and this is yours',
    'Load the model that it was saved with, for the same target, by the same plan and in the same formats.',
  ]);
  expect((await messages({ positionBytes: 6 }))[0]).toContain('was saved with the kernel');
  expect(await messages({ hash: 'abd' })).toEqual([
    'was saved with the kernel mine, and this is another of that name',
    'Load the model that it was saved with, with the same version of onelaunch, for the same target, by the same plan and in the same formats.',
  ]);
  expect(await messages({ weights: 'w2' })).toEqual([
    'was saved with other weights',
    'Load the model that it was saved with.',
  ]);
  expect(await messages({}, 4)).toEqual([
    'holds 4 tokens, and the context 4, the next reply included',
    'Load the model with a longer context.',
  ]);
  expect((await open(at('mine'), origin, 5)).tokens).toHaveLength(4);
});

test('a header that is whole, and not one of ours, is refused with the file', async () => {
  await write(at('ours'), [1, 2]);
  const good = readFileSync(at('ours'));
  const start = 'onelaunch session\n'.length;
  const end = start + 36 + good.readUInt32LE(start);
  const header = JSON.parse(good.toString('utf8', start + 36, end));
  const withHeader = async (text: string) => {
    const length = Buffer.alloc(4);
    length.writeUInt32LE(Buffer.byteLength(text));
    const hash = createHash('sha256').update(text).digest();
    const parts = [good.subarray(0, start), length, hash, Buffer.from(text), good.subarray(end)];
    writeFileSync(at('theirs'), Buffer.concat(parts));
    const { kind, message } = await failureOf(open(at('theirs')));
    expect(kind).toBe('usage');
    return message.slice(at('theirs').length + 1);
  };
  for (const text of ['null', '[]', '5', JSON.stringify({ ...header, tokens: -1 })])
    expect(await withHeader(text)).toBe('has a header that this version does not read');
  const { together: _, ...less } = header;
  expect(await withHeader(JSON.stringify(less))).toBe('has a header that this version does not read');
  expect(await withHeader('{"format": ')).toBe('is no saved session: its header is not JSON');
  expect(await withHeader(JSON.stringify({ ...header, format: 2, more: 1 }))).toBe(
    'has the format 2, and this version reads 1',
  );
});

test('options of a session that another version knows are told of the file', () => {
  const make = () => {
    throw new OnelaunchError('usage', 'options has no more', { hint: 'There are messages.' });
  };
  expect(refusalOf(() => madeOf(at('mine'), make)).message).toBe(
    `${at('mine')} holds a conversation that this version does not take up: options has no more`,
  );
  expect(() => madeOf(at('mine'), () => JSON.parse('{'))).toThrow(SyntaxError);
});

test('what is no plain file, or not there, is refused', async () => {
  expect((await failureOf(open(at('nothing')))).message).toBe(`no file ${at('nothing')}`);
  expect((await failureOf(open(folder))).message).toContain('is a directory');
  expect((await failureOf(open('/dev/zero'))).message).toContain('is a device');
  writeFileSync(at('empty'), '');
  expect((await failureOf(open(at('empty')))).message).toBe(`${at('empty')} is no saved session`);
});

test('a link that leads to nothing yet stays, and so does one that leads to itself', async () => {
  symlinkSync('later', at('early'));
  await write(at('early'), [1]);
  expect(readlinkSync(at('early'))).toBe('later');
  expect(existsSync(at('later'))).toBe(true);
  symlinkSync('loop', at('loop'));
  await expect(write(at('loop'), [1])).rejects.toThrow('it is a link that leads to itself');
  expect(readlinkSync(at('loop'))).toBe('loop');
  symlinkSync(at('none/file'), at('nowhere'));
  await expect(write(at('nowhere'), [1])).rejects.toThrow('its folder does not exist');
});

test('what a link leads to is replaced, and what is no plain file is left as it is', async () => {
  writeFileSync(at('behind'), '');
  symlinkSync('behind', at('link'));
  await write(at('link'), [1]);
  expect(readlinkSync(at('link'))).toBe('behind');
  expect((await contentOf(at('behind'))).ids).toEqual([1]);
  execFileSync('mkfifo', [at('pipe')]);
  const error = await failureOf(write(at('pipe'), [1]));
  expect(error).toMatchObject({ kind: 'environment', message: `cannot write ${at('pipe')}: it is a pipe` });
  expect(statSync(at('pipe')).isFIFO()).toBe(true);
});

test('a file that cannot be written whole leaves what was there, and nothing beside it', async () => {
  mkdirSync(at('own'));
  await write(at('own/file'), [1, 2]);
  const failing = writeSession(at('own/file'), { origin, session, tokens: [1, 2, 3] }, () => {
    throw new OnelaunchError('usage', 'the engine is closed');
  });
  expect((await failureOf(failing)).message).toBe('the engine is closed');
  expect((await contentOf(at('own/file'))).ids).toEqual([1, 2]);
  expect(readdirSync(at('own'))).toEqual(['file']);
  const error = await failureOf(write(at('missing/file'), [1]));
  const missing = `cannot write ${at('missing/file')}: its folder does not exist`;
  expect([error.kind, error.message]).toEqual(['environment', missing]);
  expect((await failureOf(write(at('own'), [1]))).message).toBe(`cannot write ${at('own')}: it is a folder`);
  expect(readdirSync(folder).filter((name) => name.includes('.part'))).toEqual([]);
});
