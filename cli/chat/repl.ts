// The conversation at a terminal.
import { report } from '../errors.ts';
import { exitCode } from '../exit-code.ts';
import { printable } from '../printable.ts';
import type { Ui } from '../ui.ts';
import { type CommandName, commandHelp, completeCommand, readInput } from './commands.ts';
import type { Conversation } from './conversation.ts';
import { addLine, type Draft, noDraft } from './draft.ts';
import { historyFile, readHistory, writeHistory } from './history.ts';
import { readSetting, settingNames, showSettings } from './settings.ts';
import { openTerminal, type Terminal } from './terminal.ts';

/** Talks until the person leaves, and says with what the process exits. Nothing that fails ends it. */
export async function talk(
  ui: Ui,
  llm: { readonly context: number; readonly device: string; readonly manifest: { readonly model: string } },
  chat: Conversation,
): Promise<number> {
  const file = await historyFile();
  const terminal = openTerminal(ui.io, {
    history: readHistory(file),
    onHistory: (history) => writeHistory(file, history),
    complete: (line) => completeCommand(line, settingNames),
  });
  ui.note(`${llm.manifest.model} on ${llm.device}. /help lists the commands.`);
  try {
    return await converse(ui, llm, chat, terminal);
  } finally {
    terminal.close();
  }
}

async function converse(
  ui: Ui,
  llm: { readonly context: number },
  chat: Conversation,
  terminal: Terminal,
): Promise<number> {
  /** Errors are said, and the conversation goes on. */
  const attempt = async (body: () => unknown) => {
    try {
      await body();
    } catch (error) {
      report(error, ui.io, { json: false, command: 'chat' });
    }
  };
  // An answer ends within a token, and who presses Ctrl-C twice in a hurry does not mean to leave.
  const onInterrupt = (listener: () => void) => {
    let ready = 0;
    return terminal.onInterrupt(() => {
      if (performance.now() < ready) return;
      ready = performance.now() + 2000;
      listener();
    });
  };
  let draft: Draft = noDraft;
  let mayLeave = false;
  for (;;) {
    const typed = await terminal.read(ui.colors.bold(draft === noDraft ? '> ' : '… '));
    if (typed === 'end' || (typed === 'interrupt' && mayLeave)) {
      terminal.say('\n');
      return typed === 'end' ? exitCode.ok : ui.io.interruptedCode();
    }
    mayLeave = typed === 'interrupt' && draft === noDraft;
    if (mayLeave) terminal.say('\npress Ctrl-C again or /exit to leave\n');
    else if (typed === 'interrupt') terminal.say('\n');
    if (typed === 'interrupt') draft = noDraft;
    if (typed === 'interrupt' || typed === 'cleared') continue;

    const next = addLine(draft, typed.line);
    if ('draft' in next) {
      draft = next.draft;
      continue;
    }
    draft = noDraft;
    const { message } = next;
    if (message.text.trim() !== '') terminal.remember(message.text);
    const input = readInput(message);
    if (input.kind === 'question') await attempt(() => chat.ask(input.text, onInterrupt));
    else if (input.kind === 'wrong') terminal.say(`error: ${printable(input.error)}\nhint: ${input.hint}\n`);
    else if (input.kind === 'command') {
      if (input.name === 'exit') return exitCode.ok;
      const run = actions[input.name];
      await attempt(async () => terminal.say(`${printable((await run(input.rest, chat, llm)).trimEnd())}\n`));
    }
  }
}

/** What each command does, and then says. */
const actions: Readonly<
  Record<
    Exclude<CommandName, 'exit'>,
    (rest: string, chat: Conversation, llm: { readonly context: number }) => string | Promise<string>
  >
> = {
  help: () => commandHelp(),
  reset: (_, chat) => {
    chat.begin({ ...chat.transcript(), turns: [] });
    return 'a new conversation';
  },
  system: (text, chat) => {
    const { system } = chat.transcript();
    if (text === '') return system === undefined ? 'no system message' : `system message: ${system}`;
    chat.setSystem(text === '""' ? undefined : text);
    return text === '""' ? 'no system message from here on' : 'the system message is set';
  },
  set: async (rest, chat) => {
    const [, name = '', value = ''] = /^(\S*)\s*(.*)$/s.exec(rest) ?? [];
    if (value !== '') chat.set(await readSetting(name, value, chat.settings()));
    return showSettings(chat.settings(), name);
  },
  save: async (file, chat) => {
    const { saveTranscript } = await import('./saved.ts');
    saveTranscript(file, chat.transcript());
    return `${counted(chat)} written to ${file}`;
  },
  load: async (file, chat) => {
    const { loadTranscript } = await import('./saved.ts');
    chat.begin(loadTranscript(file));
    return `${counted(chat)} from ${file}`;
  },
  stats: (_, chat, { context }) => {
    const { replies, tokens, decodeMs, used } = chat.totals();
    const rate = tokens > replies && decodeMs > 0 ? (1000 * (tokens - replies)) / decodeMs : null;
    const speed = rate === null ? '' : `, ${rate.toFixed(1)} tok/s`;
    return `replies: ${replies}, tokens: ${tokens}${speed}; context: ${used} of ${context} at the last`;
  },
};

const counted = (chat: Conversation): string => {
  const { length } = chat.transcript().turns;
  return `${length} ${length === 1 ? 'question and its answer' : 'questions and their answers'}`;
};
