// Conversations as files: the messages in the shape of OpenAI's chat completions.
import { existsSync } from 'node:fs';
import { z } from 'zod';
import { OnelaunchError } from '../../errors.ts';
import { home } from '../../files/home.ts';
import { readPlainFile } from '../../files/plain-file.ts';
import { writeWhole } from '../../files/whole-file.ts';
import { whyUnwritten } from '../../files/write-failure.ts';
import type { Transcript, Turn } from './conversation.ts';

const schema = z.object({
  messages: z.array(z.object({ role: z.enum(['system', 'user', 'assistant']), content: z.string() })),
});

/** Of a conversation: more than the longest context holds. */
const mostBytes = 64_000_000;

/** Writes a conversation. A file that holds none is not overwritten.
 *  @throws OnelaunchError of kind usage */
export function saveTranscript(name: string, { system, turns }: Transcript): void {
  const file = atHome(name);
  if (existsSync(file)) readTranscript(file, 'it is there already, and no conversation: give another name');
  const messages: z.infer<typeof schema>['messages'] = [
    ...(system === undefined ? [] : [{ role: 'system' as const, content: system }]),
    ...turns.flatMap(({ question, answer }) => [
      { role: 'user' as const, content: question },
      { role: 'assistant' as const, content: answer },
    ]),
  ];
  try {
    writeWhole(file, `${JSON.stringify({ messages }, null, 1)}\n`, 0o600);
  } catch (cause) {
    throw unwritable(name, cause);
  }
}

/** @throws OnelaunchError of kind usage: no file, or no conversation in it */
export const loadTranscript = (name: string): Transcript =>
  readTranscript(atHome(name), 'give a file that /save wrote');

/** Throws where it would else put U+FFFD in the place of what was said. */
const utf8 = new TextDecoder('utf-8', { fatal: true });

function readTranscript(file: string, hint: string): Transcript {
  let value: unknown;
  try {
    value = JSON.parse(utf8.decode(readPlainFile(file, mostBytes, hint)));
  } catch (cause) {
    if (cause instanceof OnelaunchError) throw cause;
    throw new OnelaunchError('usage', `${file} holds no conversation`, { hint, cause });
  }
  const parsed = schema.safeParse(value);
  const transcript = parsed.success ? toTranscript(parsed.data.messages) : null;
  if (transcript === null) throw new OnelaunchError('usage', `${file} holds no conversation`, { hint });
  return transcript;
}

/** Null unless questions and answers take turns, a system message before them or none. */
function toTranscript(messages: z.infer<typeof schema>['messages']): Transcript | null {
  const [first] = messages;
  const system = first?.role === 'system' ? first.content : undefined;
  const rest = system === undefined ? messages : messages.slice(1);
  const isTurn = rest.every(({ role }, i) => role === (i % 2 === 0 ? 'user' : 'assistant'));
  if (!isTurn || rest.length % 2 !== 0) return null;
  const turns: Turn[] = [];
  for (let i = 0; i < rest.length; i += 2) {
    turns.push({ question: rest[i]!.content, answer: rest[i + 1]!.content });
  }
  return { system, turns };
}

const atHome = (name: string): string => name.replace(/^~(?=\/)/, () => home());

const unwritable = (file: string, cause: unknown) =>
  new OnelaunchError('usage', `cannot write ${file}: ${whyUnwritten(file, cause)}`, {
    hint: 'give a file in a folder that can be written',
    cause,
  });
