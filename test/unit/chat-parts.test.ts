// The parts of the conversation at a terminal: keys, drafts, commands, options, files, and lines of a width.
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import fc from 'fast-check';
import { afterAll, describe, expect, it } from 'vitest';
import { completeCommand, readInput } from '../../cli/chat/commands.ts';
import { addLine, type Draft, noDraft } from '../../cli/chat/draft.ts';
import { readHistory, writeHistory } from '../../cli/chat/history.ts';
import { fromLine, type Key, keyReader, shownLine, toLine } from '../../cli/chat/keys.ts';
import { loadTranscript, saveTranscript } from '../../cli/chat/saved.ts';
import { readSetting, settingNames, showSettings } from '../../cli/chat/settings.ts';
import { printable } from '../../cli/printable.ts';
import { wordWrap } from '../../cli/wrap.ts';
import { OnelaunchError } from '../../errors.ts';
import { failureOf } from '../support/refusal.ts';

const folder = mkdtempSync(join(tmpdir(), 'onelaunch-chat-'));
afterAll(() => rmSync(folder, { recursive: true }));
const at = (name: string) => join(folder, name);

const esc = '\u001b';
const [pasteStart, pasteEnd] = [`${esc}[200~`, `${esc}[201~`];

describe('keys of a terminal', () => {
  const all = (chunks: readonly string[]): readonly Key[] => {
    const read = keyReader();
    return chunks.flatMap((chunk) => read(chunk));
  };

  it.each<[string, readonly string[], readonly Key[]]>([
    ['are cut behind each Enter', ['one\rtwo\rth'], [{ keys: 'one\r' }, { keys: 'two\r' }, { keys: 'th' }]],
    [
      'keep the line ends of a paste',
      [`a${pasteStart}b\rc\r${pasteEnd}\r`],
      [{ keys: 'a' }, { paste: 'b\rc\r' }, { keys: '\r' }],
    ],
    [
      'obey Ctrl-C and Ctrl-Z where they stand',
      ['a\u0003b\u001a'],
      [{ keys: 'a' }, 'interrupt', { keys: 'b' }, 'suspend'],
    ],
    [
      'leave control characters of a paste in it',
      [`${pasteStart}a\u0003${pasteEnd}`],
      [{ paste: 'a\u0003' }],
    ],
    [
      'end a paste without an end by Ctrl-C alone',
      [`${pasteStart}a`, '\u0003', 'b\r'],
      ['interrupt', { keys: 'b\r' }],
    ],
    ['are sequences too', [`${esc}[A${esc}[2~`], [{ keys: `${esc}[A${esc}[2~` }]],
    ['are a line end with Alt', [`a${esc}\rb\r`], [{ keys: 'a' }, { paste: '\n' }, { keys: 'b\r' }]],
  ])('%s', (_, chunks, keys) => {
    expect(all(chunks)).toEqual(keys);
  });

  it('are the same however the terminal cuts a paste', () => {
    const text = `${pasteStart}one\r${esc}[20two${pasteEnd}${pasteStart}three${pasteEnd}`;
    fc.assert(
      fc.property(
        fc.integer({ min: 0, max: text.length }),
        fc.integer({ min: 0, max: text.length }),
        (a, b) => {
          const [first, second] = [Math.min(a, b), Math.max(a, b)];
          const chunks = [text.slice(0, first), text.slice(first, second), text.slice(second)];
          expect(all(chunks)).toEqual([{ paste: `one\r${esc}[20two` }, { paste: 'three' }]);
        },
      ),
    );
  });

  it('put pasted text into one line, and get it back', () => {
    const line = toLine(`one\r\n\ttwo\rthree${esc}[31m`);
    expect(line).not.toMatch(/\p{Cc}/u);
    expect(shownLine(line)).toBe('one↵⇥two↵three[31m');
    expect(fromLine(line)).toBe('one\n\ttwo\nthree[31m');
  });
});

describe('a draft', () => {
  const typed = (lines: readonly string[]) => {
    let draft: Draft = noDraft;
    for (const line of lines) {
      const next = addLine(draft, line);
      if ('message' in next) return next.message;
      draft = next.draft;
    }
    return draft;
  };

  it.each<[string, readonly string[], ReturnType<typeof typed>]>([
    ['is a message at its first line', ['hello'], { text: 'hello', isText: false }],
    ['goes on behind a backslash', ['one\\', 'two'], { text: 'one\ntwo', isText: true }],
    ['opens at """ and ends there', ['"""', 'one', '', ' two', '"""'], { text: 'one\n\n two', isText: true }],
    [
      'may begin and end on the lines of its quotes',
      ['"""one', 'two"""'],
      { text: 'one\ntwo', isText: true },
    ],
    ['may be quoted in one line, and is no command', ['"""/exit"""'], { text: '/exit', isText: true }],
    ['stays open without its end', ['"""one', 'two'], { lines: ['one', 'two'], isQuoted: true }],
    [
      'takes a paste as it is, quotes and all',
      ['"""doc"""\nx = 1'],
      { text: '"""doc"""\nx = 1', isText: true },
    ],
    ['takes a paste between quotes', ['"""', 'a\nb', '"""'], { text: 'a\nb', isText: true }],
  ])('%s', (_, lines, message) => {
    expect(typed(lines)).toEqual(message);
  });
});

describe('a message', () => {
  const read = (text: string, isText = false) => readInput({ text, isText });

  it.each([
    ['/help', 'help', ''],
    ['/?', 'help', ''],
    ['/quit', 'exit', ''],
    ['/system Be brief.  Always.', 'system', 'Be brief.  Always.'],
    ['/set topK 4', 'set', 'topK 4'],
    ['/save a b.json ', 'save', 'a b.json'],
  ])('%s is a command', (text, name, rest) => {
    expect(read(text)).toEqual({ kind: 'command', name, rest });
  });

  it.each([
    ['/sytem x', 'there is no command /sytem', "did you mean '/system'?"],
    ['/constructor', 'there is no command /constructor', '/help lists them'],
    ['/Exit', 'there is no command /Exit', "did you mean '/exit'?"],
    ['/', 'there is no command /', 'put a space before it'],
    ['/reset now', '/reset takes nothing behind it', '/reset'],
    ['/save', '/save needs a file', '/save FILE'],
  ])('%s is refused and not sent', (text, error, hint) => {
    const input = read(text);
    expect(input).toMatchObject({ kind: 'wrong', error });
    expect('hint' in input && input.hint).toContain(hint);
  });

  it.each([
    [' /etc/passwd?', false, '/etc/passwd?'],
    ['a / b', false, 'a / b'],
    ['/* a\n comment */', true, '/* a\n comment */'],
  ])('%j is a question', (text, isText, question) => {
    expect(read(text, isText)).toEqual({ kind: 'question', text: question });
  });

  it('of spaces is nothing', () => {
    expect([read('  '), read('\n ', true)]).toEqual([{ kind: 'nothing' }, { kind: 'nothing' }]);
  });

  it('is completed by Tab where it begins as a command does', () => {
    const complete = (line: string) => completeCommand(line, settingNames);
    expect(complete('/s')).toEqual(['/system ', '/set ', '/save ', '/stats']);
    expect(complete('/set top')).toEqual(['/set topK ', '/set topP ']);
    expect(complete('what')).toEqual([]);
  });
});

describe('/set', () => {
  it('reads every option as its flag does, and takes it back', async () => {
    expect(await readSetting('topK', '4', {})).toEqual({ topK: 4 });
    expect(await readSetting('enableThinking', 'false', {})).toEqual({ enableThinking: false });
    expect(await readSetting('stop', 'a b', {})).toEqual({ stop: ['a b'] });
    expect(await readSetting('topK', 'default', {})).toEqual({ topK: undefined });
    expect(showSettings({ topK: 4 })).toMatch(/^topK {2}4\noptions: temperature, /);
  });

  it.each([
    ['topP', '7', "/set topP is '7', must be a number above 0 and up to 1", 'for example: /set topP 0.9'],
    ['topk', '7', "there is no option 'topk'", "did you mean 'topK'?"],
    ['toString', '7', "there is no option 'toString'", 'there are temperature'],
  ])('%s %s is refused', async (name, value, message, hint) => {
    const failure = await failureOf(readSetting(name, value, {}));
    expect(failure).toMatchObject({ kind: 'usage', message });
    expect(failure.hint).toContain(hint);
  });
});

it('/set schema and grammar refuse at once what a reply could not follow', async () => {
  const [path, schema] = [at('schema.json'), at('other.json')];
  writeFileSync(schema, '{ "type": "number" }');
  writeFileSync(path, '{ "type": "string", "pattern": "(?=a)" }');
  expect((await failureOf(readSetting('schema', path, {}))).message).toContain('(?= in it is not supported');
  writeFileSync(path, '{ "type": "string", "pattern": "a" }');
  expect(await readSetting('schema', path, {})).toEqual({ schema: { type: 'string', pattern: 'a' } });
  for (const [text, why] of [
    ['root ::= (', 'Expect element'],
    ['', 'The root rule with name "root" is not found'],
  ] as const) {
    writeFileSync(path, text);
    expect((await failureOf(readSetting('grammar', path, {}))).message).toContain(why);
  }
  writeFileSync(path, 'root ::= "a"');
  expect(await readSetting('grammar', path, {})).toEqual({ grammar: 'root ::= "a"' });
  expect(await readSetting('grammar', 'default', {})).toEqual({ grammar: undefined });
  const both = failureOf(readSetting('grammar', path, { schema: { type: 'string' } }));
  expect((await both).message).toBe('options has both schema and grammar');
  expect((await failureOf(readSetting('schema', schema, { grammar: 'root ::= "a"' }))).message).toBe(
    'options has both schema and grammar',
  );
});

it.each(['null', '5', '"a"', '[{}]', 'true'])('/set schema takes no file of %s', async (text) => {
  const path = at('schema.json');
  writeFileSync(path, text);
  expect((await failureOf(readSetting('schema', path, {}))).message).toBe(
    `/set schema is '${path}', must be a file of JSON Schema that is an object`,
  );
});

describe('/save and /load', () => {
  const transcript = {
    system: 'be brief',
    turns: [
      { question: 'one\ntwo', answer: '' },
      { question: '三', answer: 'drei' },
    ],
  };

  it('give back what was said, with a system message or without', () => {
    for (const said of [transcript, { ...transcript, system: undefined }, { system: undefined, turns: [] }]) {
      saveTranscript(at('talk.json'), said);
      expect(loadTranscript(at('talk.json'))).toEqual(said);
    }
  });

  it('do not write over what is no conversation', () => {
    writeFileSync(at('notes.txt'), 'precious');
    expect(caught(() => saveTranscript(at('notes.txt'), transcript)).hint).toContain('give another name');
    expect(readFileSync(at('notes.txt'), 'utf8')).toBe('precious');
  });

  it.each([
    ['no file', null, 'no file '],
    ['no JSON', '{"messages": [', 'holds no conversation'],
    [
      'another encoding',
      Buffer.from(messages('user', 'assistant').replace('x', '\u00e9'), 'latin1'),
      'holds no conversation',
    ],
    ['another shape', '{"messages": 5}', 'holds no conversation'],
    ['no message at all', '[]', 'holds no conversation'],
    ['two questions in a row', messages('user', 'user'), 'holds no conversation'],
    ['a question without an answer', messages('user'), 'holds no conversation'],
    ['a system message that comes late', messages('user', 'assistant', 'system'), 'holds no conversation'],
  ])('refuse a file with %s in one line', (_, text, message) => {
    const file = text === null ? at('nowhere.json') : at('wrong.json');
    if (text !== null) writeFileSync(file, text);
    const failure = caught(() => loadTranscript(file));
    expect(failure.message).toContain(message);
    expect(failure.message).not.toContain('\n');
    expect(failure.hint).toBe('give a file that /save wrote');
  });

  it('name a folder that is not there', () => {
    expect(caught(() => saveTranscript(at('no/where.json'), transcript)).message).toContain(
      'its folder does not exist',
    );
  });
});

function messages(...roles: readonly string[]): string {
  return JSON.stringify({ messages: roles.map((role) => ({ role, content: 'x' })) });
}

function caught(body: () => unknown): OnelaunchError {
  try {
    body();
  } catch (error) {
    if (error instanceof OnelaunchError) return error;
    throw error;
  }
  throw new Error('expected a OnelaunchError');
}

it('the history keeps messages of several lines whole, and leaves out what is none', () => {
  const said = ['one\n\ttwo', 'three "quoted"', 'ü'];
  writeHistory(at('history.jsonl'), said);
  expect(readHistory(at('history.jsonl'))).toEqual(said);
  writeFileSync(at('history.jsonl'), '"a"\n{"b": 1}\nhalf a li');
  expect(readHistory(at('history.jsonl'))).toEqual(['a']);
  expect(readHistory(at('nowhere.jsonl'))).toEqual([]);
});

describe('printable text', () => {
  it.each([
    ['an escape', '\u001b[31mred', '\\x1b[31mred'],
    ['a bell, a backspace and a delete', 'a\u0007b\bc\u007f', 'a\\x07b\\bc\\x7f'],
    ['an escape of eight bits', '\u009b2J', '\\x9b2J'],
    ['a carriage return alone', 'good\rbad', 'good\\rbad'],
    ['marks that turn the direction', 'a\u202eb\u2066c', 'a\\u202eb\\u2066c'],
  ])('has %s written out', (_, text, written) => {
    expect(printable(text)).toBe(written);
  });

  it('is as it was in every language', () => {
    const text = 'naïve\tümlaut\n日本語 עברית 👩‍💻\n';
    expect(printable(text.replaceAll('\n', '\r\n'))).toBe(text);
  });
});

describe('lines of a width', () => {
  const wrapped = (text: string, columns: number, cut = text.length) => {
    const wrap = wordWrap(() => columns);
    return wrap.push(text.slice(0, cut)) + wrap.push(text.slice(cut)) + wrap.end();
  };

  it.each([
    ['between words', 'the quick brown fox', 10, 'the quick\nbrown fox'],
    ['where a line is just full', 'abcde fghij', 5, 'abcde\nfghij'],
    ['inside a word that is wider than a line', 'see abcdefghijkl', 5, 'see\nabcde\nfghij\nkl'],
    ['beside wide characters', 'ab雨雨雨 cd', 6, 'ab雨雨\n雨 cd'],
    ['not inside an accent', 'e\u0301e\u0301e\u0301 e\u0301', 3, 'e\u0301e\u0301e\u0301\ne\u0301'],
    ['not inside joined emoji', '👩‍💻👩‍💻', 2, '👩‍💻\n👩‍💻'],
    ['with the indentation that was there', '  a b\n    c d', 20, '  a b\n    c d'],
    ['with a tab to the next eighth column', '\tab cd', 11, '\tab\ncd'],
    ['with empty lines', 'a\n\nb\n', 10, 'a\n\nb\n'],
    ['at one column', 'ab 雨', 1, 'a\nb\n雨'],
  ])('are broken %s', (_, text, columns, lines) => {
    expect(wrapped(text, columns)).toBe(lines);
  });

  it('are the same however the text comes, hold all of it and are never too long', () => {
    const text = fc.stringMatching(/^[a-z \n雨]{0,60}$/);
    fc.assert(
      fc.property(text, fc.integer({ min: 2, max: 12 }), fc.nat(60), (said, columns, cut) => {
        const whole = wrapped(said, columns);
        expect(wrapped(said, columns, cut)).toBe(whole);
        expect(whole.replace(/\s/g, '')).toBe(said.replace(/\s/g, ''));
        const widths = whole.split('\n').map((line) => line.replaceAll('雨', '..').length);
        expect(Math.max(...widths)).toBeLessThanOrEqual(columns);
      }),
    );
  });
});
