// The text that a reply is to be made from: what stands behind the command, --prompt, --file and stdin.
import { createReadStream, statSync } from 'node:fs';
import { addAbortSignal, type Readable } from 'node:stream';
import { OnelaunchError } from '../errors.ts';
import { decoded } from '../files/plain-file.ts';
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
  const { signal } = ui.io;
  const read = (path: string) => {
    // The opening of a pipe that has no writer cannot be ended. A shell's own, as in <(command), has one.
    if (isPipe(path) && !path.includes('/fd/')) {
      throw new OnelaunchError('usage', `cannot read --file ${path}: it is a pipe`, {
        hint: `read it from stdin: < ${path}`,
      });
    }
    return readText(createReadStream(path), `--file ${path}`, signal);
  };
  const parts = [prompt, file === undefined ? undefined : await read(file), await readStdin(ui)];
  const texts = parts.filter((part) => part !== undefined && part !== '');
  return texts.length === 0 ? null : texts.join('\n\n');
}

function isPipe(path: string): boolean {
  try {
    return statSync(path).isFIFO();
  } catch {
    // To read it says why.
    return false;
  }
}

async function readStdin({ io, note }: Ui): Promise<string | undefined> {
  if (io.stdin.isTTY) return undefined;
  // A pipe that nobody closes would look as if the model were slow.
  const told = setTimeout(() => note('waiting for the end of stdin; < /dev/null gives none'), 2000);
  try {
    return await readText(io.stdin, 'stdin', io.signal);
  } finally {
    clearTimeout(told);
  }
}

/** More text than the longest context holds. */
const mostBytes = 64 * 2 ** 20;

async function readText(stream: Readable, name: string, signal: AbortSignal): Promise<string> {
  const chunks: Buffer[] = [];
  let bytes = 0;
  try {
    for await (const chunk of addAbortSignal(signal, stream)) {
      chunks.push(Buffer.from(chunk));
      bytes += chunks.at(-1)!.length;
      if (bytes > mostBytes) {
        throw new OnelaunchError('usage', `${name} has more than ${mostBytes / 2 ** 20} MiB`, {
          hint: 'give a text that fits the context of a model',
        });
      }
    }
  } catch (cause) {
    if (signal.aborted || cause instanceof OnelaunchError) throw cause;
    const { code = '', message } = cause as NodeJS.ErrnoException;
    const why = { ENOENT: 'there is none', EISDIR: 'it is a folder', EACCES: 'permission denied' }[code];
    throw new OnelaunchError('usage', `cannot read ${name}: ${why ?? (code || message)}`, {
      hint: 'give a file of text',
      cause,
    });
  }
  return decoded(Buffer.concat(chunks), name).replace(/\r?\n$/, '');
}
