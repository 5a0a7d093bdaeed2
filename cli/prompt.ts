// The text that a reply is to be made from: what stands behind the command, --prompt, --file and stdin.
import { readFileSync } from 'node:fs';
import { addAbortSignal } from 'node:stream';
import { OnelaunchError } from '../errors.ts';
import { givenTwice, needModel } from './flags.ts';
import type { Ui } from './ui.ts';

interface Given {
  readonly model?: string | undefined;
  readonly prompt?: string | undefined;
  readonly file?: string | undefined;
}

/** Which of the words behind the command is the model and which the prompt; with --model the first is the prompt.
 *  @throws OnelaunchError of kind usage: no model, or one of them given twice */
export function readWords(
  words: readonly (string | undefined)[],
  given: Given,
  command: string,
): { readonly model: string; readonly prompt: string | undefined } {
  const rest = words.filter((word) => word !== undefined);
  const model = given.model ? needModel(given, command) : needModel(given, command, rest.shift());
  const [prompt, more] = [given.prompt, ...rest].filter((text) => text !== undefined);
  if (prompt !== undefined && more !== undefined) throw givenTwice('prompt', prompt, more);
  if (prompt === '') {
    throw new OnelaunchError('usage', 'the prompt is empty', {
      hint: 'for example: --prompt "What is a daemon?"',
    });
  }
  return { model, prompt };
}

/** Prompt, file and stdin in this order with an empty line between them; null if there is none of them. The last line end of
 *  a file and of stdin is not part of it. A terminal is not read.
 *  @throws OnelaunchError of kind usage: a file that is none, or no text */
export async function readPrompt(
  ui: Ui,
  prompt: string | undefined,
  file: string | undefined,
): Promise<string | null> {
  const parts = [prompt, file === undefined ? undefined : readText(file), await readStdin(ui)];
  const texts = parts.filter((part) => part !== undefined && part !== '');
  return texts.length === 0 ? null : texts.join('\n\n');
}

function readText(file: string): string {
  try {
    return decode(readFileSync(file), file);
  } catch (cause) {
    if (cause instanceof OnelaunchError) throw cause;
    throw unreadable(`--file ${file}`, cause);
  }
}

function unreadable(what: string, cause: unknown): OnelaunchError {
  const { code = '', message } = cause as NodeJS.ErrnoException;
  const why = { ENOENT: 'there is none', EISDIR: 'it is a folder', EACCES: 'permission denied' }[code];
  return new OnelaunchError('usage', `cannot read ${what}: ${why ?? message}`, {
    hint: 'give a file of text',
    cause,
  });
}

async function readStdin({ io, note }: Ui): Promise<string | undefined> {
  if (io.stdin.isTTY) return undefined;
  // A pipe that nobody closes would look as if the model were slow.
  const told = setTimeout(() => note('waiting for the end of stdin; < /dev/null gives none'), 2000);
  const chunks: Buffer[] = [];
  try {
    for await (const chunk of addAbortSignal(io.signal, io.stdin)) chunks.push(Buffer.from(chunk));
  } catch (cause) {
    if (io.signal.aborted) throw cause;
    throw unreadable('stdin', cause);
  } finally {
    clearTimeout(told);
  }
  return decode(Buffer.concat(chunks), 'stdin');
}

function decode(bytes: Uint8Array, name: string): string {
  try {
    return new TextDecoder('utf-8', { fatal: true }).decode(bytes).replace(/\r?\n$/, '');
  } catch (cause) {
    throw new OnelaunchError('usage', `${name} is not text in UTF-8`, {
      hint: 'convert it, as iconv does',
      cause,
    });
  }
}
