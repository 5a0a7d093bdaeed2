// Flags and the library's options are one list; what the terminal is told, and what is silent.
import { readFileSync } from 'node:fs';
import { dirname, join, relative } from 'node:path';
import { Command } from '@commander-js/extra-typings';
import { describe, expect, it } from 'vitest';
import { addBench } from '../../cli/bench.ts';
import { settingNames } from '../../cli/chat/settings.ts';
import { addChat } from '../../cli/chat.ts';
import { addComplete } from '../../cli/complete.ts';
import { type Io, memoryIo } from '../../cli/io.ts';
import { run } from '../../cli/run.ts';
import { addServe } from '../../cli/serve.ts';
import { createUi, table } from '../../cli/ui.ts';
import { packageRoot } from '../../codegen/build/package-root.ts';
import { OnelaunchError } from '../../errors.ts';
import { load } from '../../load.ts';
import { checkSampling } from '../../runtime/engine/arguments.ts';
import { readGenerationConfig } from '../../runtime/generation-config.ts';
import { checkOptions } from '../../runtime/sampling.ts';
import { tinyDirectory } from '../support/model-directory.ts';

/** The options that the library says it has, when it is given one that it has not. */
function known(error: unknown): string[] {
  const hint = error instanceof OnelaunchError ? error.hint : undefined;
  return (/^There are (.*)\.$/.exec(hint ?? '')?.[1] ?? '').split(', ');
}

const flagsOf = (add: (program: Command, start: () => Promise<void>) => void) => {
  const program = new Command();
  add(program, async () => {});
  return program.commands[0]!.options.map((option) => option.attributeName());
};

/** Read by programs alone: no text shows them. `gen complete --json --topLogprobs` asks for both. */
const ofPrograms = [
  ...['signal', 'onPrompt', 'logprobs', 'topLogprobs'],
  ...['tools', 'toolChoice', 'parallelToolCalls'],
];

describe('each option of the library has one name, on the command line too', () => {
  const replyOptions = () => {
    try {
      const unknown: object = { frobnicate: 1 };
      checkOptions(unknown, readGenerationConfig(tinyDirectory), 10);
    } catch (error) {
      return known(error).filter((name) => !ofPrograms.includes(name));
    }
    throw new Error('an unknown option was taken');
  };

  it('of a reply: as flags of chat, and all but those of a conversation as flags of complete', () => {
    const names = replyOptions();
    expect(names.length).toBeGreaterThan(8);
    expect(flagsOf(addChat)).toEqual(expect.arrayContaining(names));
    expect(flagsOf(addComplete)).toContain('topLogprobs');
    expect(flagsOf(addComplete)).toEqual(
      expect.arrayContaining(
        names.filter((name) => name !== 'enableThinking' && name !== 'parseSpecialTokens'),
      ),
    );
  });

  it('of a reply: by /set', () => {
    expect([...settingNames].sort()).toEqual(replyOptions().sort());
  });

  it('of load: as flags of bench, and those of a server as flags of serve', async () => {
    const unknown = { model: 'qwen3-tiny', frobnicate: 1 };
    const names = known(await load(unknown).catch((error: unknown) => error));
    expect(names).toContain('context');
    const others = ['onProgress', 'signal', 'parallel', 'queue', 'embeddings'];
    expect(flagsOf(addBench)).toEqual(expect.arrayContaining(names.filter((name) => !others.includes(name))));
    expect(flagsOf(addServe)).toEqual(expect.arrayContaining(['parallel', 'queue', 'embeddings']));
  });

  it('and there are no others: what is left is of the command, not of the reply', () => {
    const ofKernel = ['model', 'target', 'plan', 'promptPlan', 'weights', 'cache'];
    const ofDraft = ['draft', 'draftWeights'];
    const ofCommand = ['json', 'quiet', 'color', ...ofKernel, 'context', 'threads', 'device', ...ofDraft];
    const ofChat = ['prompt', 'file', 'system', 'lines'];
    const rest = flagsOf(addChat).filter((name) => ![...ofCommand, ...ofChat].includes(name));
    expect(rest.sort()).toEqual(replyOptions().sort());
  });
});

it.each<[object, object]>([
  [{ temperature: 1e39 }, { temperature: 2 ** 128 - 2 ** 104 }],
  // What divides a logit by it is infinite, and infinity less infinity no number.
  [{ temperature: 1e-38 }, { temperature: 0 }],
  [{ topP: 1e-300 }, { top_p: 2 ** -126 }],
  [{ repetitionPenalty: 1e-300 }, { repetition_penalty: 2 ** -126 }],
  [{ repetitionPenalty: 1e300 }, { repetition_penalty: 2 ** 128 - 2 ** 104 }],
])('%o is beyond float32, and reaches the engine as the nearest number that it takes', (given, taken) => {
  const { sampling } = checkOptions(given, readGenerationConfig(tinyDirectory), 10);
  expect(checkSampling(sampling, 10)).toMatchObject(taken);
  const floats = Object.values(taken) as number[];
  expect(floats.map(Math.fround)).toEqual(floats);
});

describe('what is said beside the data', () => {
  const written = (options: Partial<Io>, say: (ui: ReturnType<typeof createUi>) => void, quiet = false) => {
    const { io, written } = memoryIo();
    say(createUi({ ...io, env: {}, ...options }, { quiet }));
    return written.err;
  };

  it('is silent with --quiet: notes, warnings and progress', () => {
    const all = (ui: ReturnType<typeof createUi>) => {
      ui.note('a note');
      ui.warn('a warning');
      const progress = ui.progress('working');
      progress.update(0.5);
      progress.end('done');
    };
    expect(written({}, all, true)).toBe('');
    expect(written({}, all)).toBe('a note\nnote: a warning\nworking\ndone\n');
  });

  it.each([14, 40, 200])('has a progress bar that %i columns hold, so that it can be erased', (columns) => {
    const err = written({ errIsTty: true, columns: () => columns }, (ui) => {
      const progress = ui.progress('loading weights');
      progress.update(0.5, '596 MB of a checkpoint whose name is longer than any line should be');
      progress.end();
    });
    const [, bar, end] = err.split('\r\u001b[K');
    expect(bar).toMatch(/^loading w/);
    expect(bar!.length).toBeLessThanOrEqual(columns - 3);
    expect(end).toBe('');
  });

  it('has a progress bar of fewer characters where they are wide', () => {
    const err = written({ errIsTty: true, columns: () => 14 }, (ui) =>
      ui.progress('正在加载模型').update(0.5),
    );
    expect(err).toBe('\r\u001b[K正在加载模');
  });
});

describe('what is wider than the terminal', () => {
  const onTerminal = (columns: number) => {
    const { io, written } = memoryIo();
    return { io: { ...io, outIsTty: true, columns: () => columns }, written };
  };

  it('is help broken between words, and a page as wide as before where there is no terminal', async () => {
    const { io, written } = onTerminal(80);
    expect(await run(['chat', '--help'], io)).toBe(0);
    const lines = written.out.split('\n').filter((line) => line.startsWith('  -'));
    expect(lines.length).toBeGreaterThan(20);
    expect(Math.max(...lines.map((line) => line.length))).toBeLessThanOrEqual(80);
    const page = memoryIo();
    await run(['chat', '--help'], page.io);
    expect(Math.max(...page.written.out.split('\n').map((line) => line.length))).toBeGreaterThan(80);
  });

  it('are rows that go on below from a gap on; a line alone, such as a path, stays whole', () => {
    const { io, written } = onTerminal(20);
    const { data } = createUi(io, {});
    data('stage  then\nqkv    grid barrier: all of q\n  indented-beyond-the-edge');
    data('/a path/of many words/that is copied');
    expect(written.out).toBe(
      'stage  then\nqkv    grid barrier:\n    all of q\n  indented-beyond-the-edge\n/a path/of many words/that is copied\n',
    );
    const rows = table(
      ['name', 'at', 'kept'],
      [
        ['one', 200, 'yes'],
        ['another', 1, 'not at all'],
      ],
    );
    const cut = onTerminal(20);
    const ui = createUi(cut.io, {});
    ui.data(`${rows}\n\nthe last line is no row of it`);
    expect(cut.written.out).toBe(
      'name      at\n    kept\none      200\n    yes\nanother    1\n    not at all\n\nthe last line is no\n    row of it\n',
    );
    cut.written.out = '';
    ui.code(rows);
    expect(cut.written.out).toBe(`${rows}\n`);
    const wide = onTerminal(12);
    createUi(wide.io, {}).data('one\n模型 文件 不在\n模型 e\u0301e\u0301e\u0301e\u0301e\u0301e\u0301e\u0301');
    expect(wide.written.out).toBe(
      'one\n模型 文件\n    不在\n模型 e\u0301e\u0301e\u0301e\u0301e\u0301e\u0301e\u0301\n',
    );
    const piped = memoryIo();
    createUi({ ...piped.io, columns: () => 20 }, {}).data('a\nqkv    grid barrier: all of q');
    expect(piped.written.out).toBe('a\nqkv    grid barrier: all of q\n');
  });
});

it('columns of a table are as wide as what a terminal makes of their cells', () => {
  expect(
    table(
      ['file', 'MB'],
      [
        ['模型.gguf', 12],
        ['e\u0301.gguf', 3],
      ],
    ),
  ).toBe('file       MB\n模型.gguf  12\ne\u0301.gguf      3');
});

it('gen --help reads no library that takes long to load: the commands do, when they run', () => {
  const root = packageRoot();
  const packages = new Set<string>();
  const done = new Set<string>();
  const visit = (file: string): void => {
    if (done.has(file)) return;
    done.add(file);
    const text = readFileSync(join(root, file), 'utf8');
    for (const [, names, from] of text.matchAll(/^(?:import|export) (?!type )([^;]*?)from '([^']+)';$/gms)) {
      const isOnlyTypes = /^\{(\s*type [^,}]+,?)+\s*\}\s*$/.test(names!);
      if (isOnlyTypes) continue;
      if (from!.startsWith('.')) visit(relative(root, join(root, dirname(file), from!)));
      else packages.add(from!);
    }
  };
  visit('cli/run.ts');
  expect(done.size).toBeGreaterThan(15);
  const light = ['@commander-js/extra-typings', 'picocolors', 'get-east-asian-width'];
  expect([...packages].filter((name) => !name.startsWith('node:') && !light.includes(name))).toEqual([]);
});
