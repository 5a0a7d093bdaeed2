// What a message at the terminal asks for: a question to the model, or a command to the program.
import { didYouMean } from '../../codegen/plan/did-you-mean.ts';
import type { Message } from './draft.ts';

/** What each command takes, and does. */
const commands = {
  help: { takes: '', does: 'show this; /? does the same' },
  reset: { takes: '', does: 'begin a new conversation; the system message stays' },
  system: { takes: '[TEXT]', does: 'set the system message, "" for none; without TEXT: show it' },
  set: { takes: '[NAME [VALUE]]', does: 'set an option of the replies, such as temperature; default: unset' },
  save: { takes: 'FILE', does: 'write the conversation to a file' },
  load: { takes: 'FILE', does: 'go on with the conversation of a file' },
  stats: { takes: '', does: 'tokens and speed so far' },
  exit: { takes: '', does: 'leave; Ctrl-D does the same' },
} as const;

export type CommandName = keyof typeof commands;

const aliases: ReadonlyMap<string, CommandName> = new Map([
  ['?', 'help'],
  ['quit', 'exit'],
  ['bye', 'exit'],
]);

export type Input =
  | { readonly kind: 'nothing' }
  | { readonly kind: 'question'; readonly text: string }
  | { readonly kind: 'command'; readonly name: CommandName; readonly rest: string }
  | { readonly kind: 'wrong'; readonly error: string; readonly hint: string };

/** A message in one line that begins with / is a command, known or not; a space before it makes it a question. */
export function readInput({ text, isText }: Message): Input {
  if (text.trim() === '') return { kind: 'nothing' };
  if (isText || !text.startsWith('/')) return { kind: 'question', text: isText ? text : text.trim() };
  const [, word = '', rest = ''] = /^\/(\S*)\s*(.*)$/s.exec(text.trim()) ?? [];
  const name = isCommand(word) ? word : aliases.get(word);
  if (name === undefined) {
    const near = didYouMean(`/${word}`, commandNames);
    const hint = `${near}/help lists them; to ask it as a question, put a space before it`;
    return { kind: 'wrong', error: `there is no command /${word}`, hint };
  }
  const { takes } = commands[name];
  if (takes === '' && rest !== '') return wrongUse(name, `/${name} takes nothing behind it`);
  if (takes === 'FILE' && rest === '') return wrongUse(name, `/${name} needs a file`);
  return { kind: 'command', name, rest };
}

const wrongUse = (name: CommandName, error: string): Input => ({
  kind: 'wrong',
  error,
  hint: `/${name} ${commands[name].takes}`.trim(),
});

const isCommand = (word: string): word is CommandName => Object.hasOwn(commands, word);

const commandNames = Object.keys(commands).map((name) => `/${name}`);

/** What the word at the begin of a line may become by Tab. */
export function completeCommand(line: string, settings: readonly string[]): readonly string[] {
  const begun = Object.entries(commands).map(([name, { takes }]) => `/${name}${takes === '' ? '' : ' '}`);
  const all = [...begun, ...settings.map((name) => `/set ${name} `)];
  const found = all.filter((name) => name.startsWith(line));
  if (!line.startsWith('/')) return [];
  return line.includes(' ') ? found : found.filter((name) => !name.startsWith('/set ') || name === '/set ');
}

export const commandHelp = (): string => {
  const rows = Object.entries(commands).map(([name, { takes, does }]) => [`/${name} ${takes}`.trim(), does]);
  const width = Math.max(...rows.map(([use]) => use!.length));
  return `${rows.map(([use, does]) => `${use!.padEnd(width)}  ${does}`).join('\n')}
""" begins and ends a message of several lines; so does a paste, Alt-Enter, or \\ at the end of a line.
Ctrl-C clears the line or stops an answer. What is typed during an answer waits for its end.
`;
};
