// Control characters of strangers do not reach a terminal.
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, afterEach, expect, test, vi } from 'vitest';
import { report } from '../../cli/errors.ts';
import { memoryIo } from '../../cli/io.ts';
import { printable } from '../../cli/printable.ts';
import { printReply } from '../../cli/reply.ts';
import { run } from '../../cli/run.ts';
import { createUi } from '../../cli/ui.ts';
import { OnelaunchError } from '../../errors.ts';
import { writeJournal } from '../../lab/journal.ts';
import type { Reply } from '../../runtime/reply.ts';
import * as fake from '../support/fake-journal.ts';

const folder = mkdtempSync(join(tmpdir(), 'onelaunch-printable-'));
afterAll(() => rmSync(folder, { recursive: true }));
afterEach(() => void vi.unstubAllEnvs());

test.each([
  ['\x1b[2J\x1b]0;title\x07', '\\x1b[2J\\x1b]0;title\\x07'],
  ['\x9b31m\x85', '\\x9b31m\\x85'],
  ['a\rb\x08c\0\x7f', 'a\\rb\\bc\\0\\x7f'],
  ['lines\n\tand tabs, 世界 👩‍👩‍👧 é\u200f', 'lines\n\tand tabs, 世界 👩‍👩‍👧 é\u200f'],
])('%j is printed as %j', (text, expected) => {
  expect(printable(text)).toBe(expected);
});

test('an error with a name of a megabyte begins and ends as it would, and fits on a screen', () => {
  const { io, written } = memoryIo();
  report(new OnelaunchError('usage', `model.gguf has ${'x'.repeat(1e6)} as F9`), io, {
    json: false,
    command: 'build',
  });
  expect(written.err.length).toBeLessThan(4200);
  expect(written.err).toMatch(/^error: model\.gguf has x+ \[99\d{4} letters\] x+ as F9\n/);
});

test('an error shows the escapes of a name, and the name has no line of its own', () => {
  const { io, written } = memoryIo();
  const error = new OnelaunchError('usage', "unknown model '\x1b[31mx\nhint: rm -r .'", {
    hint: 'a \x9b b\nc',
  });
  expect(report(error, io, { json: false, command: 'build' })).toBe(2);
  expect(written.err).toBe("error: unknown model '\\x1b[31mx\\nhint: rm -r .'\nhint: a \\x9b b\n      c\n");
});

const replyOf = (text: string) =>
  ({
    async *[Symbol.asyncIterator]() {
      yield { text, tokens: [1] };
    },
    result: async () => ({
      text,
      tokens: [1],
      finish: 'stop',
      usage: { prompt: 1, cached: 0, completion: 1, drafted: 0, accepted: 0 },
      timings: { promptMs: 1, decodeMs: 1, tokensPerSecond: null, firstTokenMs: null },
    }),
  }) as unknown as Reply;

test.each([
  ['on a terminal shows its escapes', true, '\\x1b[2Jhi\n'],
  ['into a file stays as it is', false, '\x1b[2Jhi\n'],
])('a reply %s', async (_, outIsTty, expected) => {
  const { io, written } = memoryIo();
  await printReply(createUi({ ...io, outIsTty }, { quiet: true }), () => replyOf('\x1b[2Jhi'));
  expect(written.out).toBe(expected);
});

const bell = '\x1b]52;c;eHg=\x07\x1b[2J';

test.each([
  ['columns', []],
  ['Markdown', ['--markdown']],
])('a journal of strangers in %s shows the escapes of its names, each in its own row', async (_, flags) => {
  const path = join(folder, `${flags.length}.jsonl`);
  const label = `own${bell}\n| a | row`;
  await writeJournal(path, { ...fake.header, model: `m${bell}`, plan: `p${bell}\nline` }, [
    fake.run(`GPU${bell}`),
    fake.variant(0),
    fake.variant(1, { label, pruned: `slow${bell}` }),
  ]);
  const { io, written } = memoryIo();
  expect(await run(['explore', 'list', path, ...flags], { ...io, outIsTty: true, columns: () => 400 })).toBe(
    0,
  );
  for (const control of bell) if (control < ' ') expect(written.out + written.err).not.toContain(control);
  expect(written.err).toContain('m\\x1b]52;c;eHg=\\x07\\x1b[2J, cpu, on GPU\\x1b]52');
  expect(written.out).toContain('beside p\\x1b]52;c;eHg=\\x07\\x1b[2J\\nline in');
  const rows = written.out.split('\n').filter((line) => line.includes('own'));
  // The row of the table, and why it is not timed.
  expect(rows.map((row) => row.includes('row'))).toEqual([true, true]);
  written.out = '';
  await run(['explore', 'list', path, ...flags], io);
  expect(written.out).toContain(`own${bell}\\n`);
  // Of two tables each has its name above it.
  written.out = '';
  await run(['explore', 'list', path, path, ...flags], { ...io, outIsTty: true, columns: () => 400 });
  const names = written.out
    .split('\n')
    .filter((line) => line.includes('m\\x1b]52;c;eHg=\\x07\\x1b[2J, cpu, on GPU'));
  expect(names).toHaveLength(2);
  for (const control of bell) if (control < ' ') expect(written.out).not.toContain(control);
});

test('the folder of a model in the Hub cache has no orders to a terminal', async () => {
  const snapshot = join(folder, 'models--evil\x1b[31mred\x07--x', 'snapshots', '0');
  mkdirSync(snapshot, { recursive: true });
  const fixture = join(import.meta.dirname, '../fixtures/qwen3-micro/config.json');
  writeFileSync(join(snapshot, 'config.json'), readFileSync(fixture));
  vi.stubEnv('HF_HUB_CACHE', folder);
  const { io, written } = memoryIo();
  expect(await run(['models'], { ...io, outIsTty: true, columns: () => 400 })).toBe(0);
  expect(written.out).toContain('evil\\x1b[31mred\\x07/x');
  expect(written.out).not.toContain('\x1b');
});

test.each([
  [true, '\\u009b31m\\u202e'],
  [false, '\x9b31m\u202e'],
])('JSON on a terminal (%s) has the same values, with escapes of its own', (outIsTty, shown) => {
  const { io, written } = memoryIo();
  const text = '\x9b31m\u202e\n世界';
  createUi({ ...io, outIsTty }, {}).result({ text });
  report(new OnelaunchError('usage', text), { ...io, outIsTty }, { json: true, command: 'build' });
  const [result, failure] = written.out.trimEnd().split('\n');
  expect([result!.includes(shown), failure!.includes(shown)]).toEqual([true, true]);
  expect([JSON.parse(result!).text, JSON.parse(failure!).error.message]).toEqual([text, text]);
});

test('notes and progress show the escapes of their texts, and have their own colours', () => {
  const { io, written } = memoryIo();
  const ui = createUi({ ...io, errIsTty: true, env: {} }, { color: true });
  ui.note('a \x1b[2J', ui.colors.bold);
  ui.progress('of \x9b').update(null, 'two\nlines');
  expect(written.err).toBe('\x1b[1ma \\x1b[2J\x1b[22m\n\r\x1b[Kof \\x9b two\\nlines');
});
