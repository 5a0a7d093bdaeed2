// Control characters of strangers do not reach a terminal.
import { expect, test } from 'vitest';
import { report } from '../../cli/errors.ts';
import { memoryIo } from '../../cli/io.ts';
import { printable } from '../../cli/printable.ts';
import { printReply } from '../../cli/reply.ts';
import { createUi } from '../../cli/ui.ts';
import { OnelaunchError } from '../../errors.ts';
import type { Reply } from '../../runtime/reply.ts';

test.each([
  ['\x1b[2J\x1b]0;title\x07', '\\x1b[2J\\x1b]0;title\\x07'],
  ['\x9b31m\x85', '\\x9b31m\\x85'],
  ['a\rb\x08c\0\x7f', 'a\\rb\\bc\\0\\x7f'],
  ['lines\n\tand tabs, 世界 👩‍👩‍👧 é\u200f', 'lines\n\tand tabs, 世界 👩‍👩‍👧 é\u200f'],
])('%j is printed as %j', (text, expected) => {
  expect(printable(text)).toBe(expected);
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
