// The conversation under a real terminal, with a model that repeats what it was asked.
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { packageRoot } from '../../codegen/build/package-root.ts';
import { key, noPty, openPty, paste } from '../support/pty.ts';

const folder = mkdtempSync(join(tmpdir(), 'onelaunch-terminal-'));
afterAll(() => rmSync(folder, { recursive: true }));
if (noPty !== null) console.warn(`SKIPPED: ${noPty}`);

const program = join(packageRoot(), 'test/support/chat-program.ts');

/** A conversation whose first prompt is shown. */
async function begin(columns: number) {
  const command = [process.execPath, '--import', 'tsx', program];
  const pty = openPty(command, { columns, env: { ONELAUNCH_CACHE: mkdtempSync(join(folder, 'cache-')) } });
  await pty.until(/a parrot on a test\. \/help lists the\s+commands\.\n> $/);
  const ask = (keys: string) => {
    pty.send(keys);
    return pty.until(/\n> $/);
  };
  return { ...pty, ask };
}

describe.skipIf(noPty !== null)('the conversation at a terminal', () => {
  type Conversation = Awaited<ReturnType<typeof begin>>;
  let shared: Conversation;
  let narrow: Conversation;
  beforeAll(async () => {
    [shared, narrow] = await Promise.all([begin(80), begin(30)]);
  });
  afterAll(() => {
    shared.kill();
    narrow.kill();
  });
  beforeEach(async () => {
    await shared.ask(`/reset${key.enter}`);
  });

  it('takes a paste of several lines as one message, shows it in one, and recalls it as one', async () => {
    const { ask, send, until } = shared;
    send(paste('one\n\ttwo\r\nthree'));
    await until(/^one↵⇥two↵three$/);
    expect(await ask(key.enter)).toContain('[1] "one\\n\\ttwo\\nthree"');
    expect(await ask(`"""four${key.enter}five"""${key.enter}`)).toContain('[3] "four\\nfive"');
    send(key.up);
    await until(/four↵five$/);
    send(key.up);
    await until(/one↵⇥two↵three$/);
    expect(await ask(key.enter)).toContain('[5] "one\\n\\ttwo\\nthree"');
  });

  it('clears the line on Ctrl-C, and asks on an empty one', async () => {
    const { ask, send, until } = shared;
    send('half a question');
    await until(/half a question$/);
    send(key.ctrlC);
    await until(/> $/);
    expect(await ask(`whole${key.enter}`)).toContain('[1] "whole"');
    expect(await ask(key.ctrlC)).toContain('press Ctrl-C again or /exit to leave');
    expect(await ask(`still here${key.enter}`)).toContain('[3] "still here"');
    expect(await ask(key.ctrlC)).toContain('press Ctrl-C again or /exit to leave');
  });

  it('drops an unfinished message on Ctrl-C and keeps the conversation', async () => {
    const { ask, send, until } = shared;
    await ask(`first${key.enter}`);
    send(`"""begun${key.enter}`);
    await until(/… $/);
    expect(await ask(key.ctrlC)).not.toContain('to leave');
    expect(await ask(`second${key.enter}`)).toContain('[3] "second"');
  });

  it('stops an answer on Ctrl-C, pressed once or in a hurry, and keeps what was said', async () => {
    const { ask, send, until } = shared;
    send(`count${key.enter}`);
    await until(/0 1 2/);
    const stopped = await ask(key.ctrlC + key.ctrlC + key.ctrlC);
    expect(stopped).toContain('stopped]');
    expect(stopped).not.toContain('to leave');
    expect(await ask(`next${key.enter}`)).toContain('[3] "next"');
  });

  it('shows what is typed during an answer at the next prompt, and asks what was ended', async () => {
    const { send, until, raw } = shared;
    send(`count${key.enter}`);
    await until(/0 1 2/);
    const begun = raw().length;
    send(`what else${key.enter}`);
    send(paste('and\nthen'));
    await until(/\d+ \d+ \d+/);
    expect(raw().slice(begun)).not.toContain('what');
    send(key.ctrlC);
    const shown = await until(/> and↵then$/);
    expect(shown).toMatch(/stopped\]\n> what else\n\[3\] "what else"\n(.*\n)*> and↵then$/);
  });

  it('shows escapes of a token, and does not obey them', async () => {
    const { ask, raw } = shared;
    expect(await ask(`raw${key.enter}`)).toContain('a\\x1b[2Jb\\x07c');
    expect(raw()).not.toContain('\u001b[2J');
  });

  it('sends no command to the model, known or not', async () => {
    const { ask } = shared;
    expect(await ask(`/?${key.enter}`)).toContain('/system [TEXT]');
    const wrong = await ask(`/sytem be brief${key.enter}`);
    expect(wrong).toContain('error: there is no command /sytem');
    expect(wrong).toContain("did you mean '/system'?");
    expect(await ask(`/stats${key.enter}`)).toContain('replies: ');
    expect(await ask(` /etc is what?${key.enter}`)).toContain('[1] "/etc is what?"');
  });

  it('sets the system message and options, saves, begins anew and loads', async () => {
    const { ask } = shared;
    const file = join(folder, 'talk.json');
    await ask(`/system be brief${key.enter}`);
    expect(await ask(`hello${key.enter}`)).toContain('[2 system: be brief] "hello"');
    expect(await ask(`/set temperature 0.5${key.enter}`)).toContain('temperature  0.5');
    expect(await ask(`/save ${file}${key.enter}`)).toContain(`1 question and its answer written to`);
    expect(JSON.parse(readFileSync(file, 'utf8')).messages).toEqual([
      { role: 'system', content: 'be brief' },
      { role: 'user', content: 'hello' },
      { role: 'assistant', content: '[2 system: be brief] "hello"' },
    ]);
    await ask(`/reset${key.enter}`);
    await ask(`/system ""${key.enter}`);
    expect(await ask(`anew${key.enter}`)).toContain('[1 at 0.5] "anew"');
    expect(await ask(`/load ${file}${key.enter}`)).toContain('1 question and its answer from');
    expect(await ask(`again${key.enter}`)).toContain('[4 system: be brief at 0.5] "again"');
    expect(await ask(`/set temperature default${key.enter}`)).toContain(
      "temperature  default, the model's own",
    );
    await ask(`/system ""${key.enter}`);
  });

  it('keeps the conversation when a question fails or can never fit, and forgets the oldest when it must', async () => {
    const { ask } = shared;
    await ask(`one two three${key.enter}`);
    expect(await ask(`fail${key.enter}`)).toContain('error: the engine broke');
    expect(await ask(`${'word '.repeat(60)}${key.enter}`)).toContain('error: the prompt has 60 tokens');
    expect(await ask(`after${key.enter}`)).toContain('[3] "after"');
    const full = await ask(`${'w '.repeat(30)}${key.enter}`);
    expect(full).toContain('[3] "w w');
    expect(full).toContain('the oldest question and its answer are forgotten');
  });

  it('breaks answers between words at 30 columns and beside wide characters, and leaves on the second Ctrl-C', async () => {
    const { ask, send, exit } = narrow;
    const shown = await ask(`long${key.enter}`);
    expect(shown.split('\n').slice(1, 5)).toEqual([
      'It was a dark and stormy',
      'night; the rain fell in',
      'torrents, 雨雨雨雨雨雨雨雨雨雨',
      '雨雨雨雨雨雨 and all was wet.',
    ]);
    expect(await ask(key.ctrlC)).toContain('press Ctrl-C again or /exit to\nleave\n');
    send(key.ctrlC);
    expect(await exit()).toBe(130);
  });

  it('leaves on Ctrl-D with 0, the terminal as it was and on a line of its own', async () => {
    const { send, exit, raw } = shared;
    send(key.ctrlD);
    expect(await exit()).toBe(0);
    expect(raw().slice(raw().lastIndexOf('> '))).toContain('\n');
    expect(raw().lastIndexOf('\u001b[?2004l')).toBeGreaterThan(raw().lastIndexOf('\u001b[?2004h'));
  });
});
