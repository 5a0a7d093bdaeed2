// What the documents name exists.
import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import type { CommanderError } from '@commander-js/extra-typings';
import { describe, expect, it } from 'vitest';
import { memoryIo } from '../../cli/io.ts';
import { createProgram, run } from '../../cli/run.ts';
import { packageRoot } from '../../codegen/build/package-root.ts';
import { blocksOf, commandsOf, readPage, wordsOf } from '../support/page.ts';

const root = packageRoot();
const documents = [
  ...['README.md', 'CONTRIBUTING.md', 'examples/README.md', 'docs/architecture.md', 'docs/decisions.md'],
  ...['docs/glossary.md', 'docs/library.md', 'docs/server.md'],
];
/** A path may be written from the root, or from the folder that its document is about. */
const bases: Readonly<Record<string, readonly string[]>> = {
  'docs/architecture.md': ['codegen', 'codegen/schemes'],
  'docs/glossary.md': ['codegen', 'templates'],
  'examples/README.md': ['examples'],
};

describe.each(documents)('%s', (document) => {
  const text = readFileSync(join(root, document), 'utf8');

  it('names files and folders that exist', () => {
    const paths = [...text.matchAll(/`((?:[\w.*-]+\/)+(?:[\w*-]+\.\w+)?|[\w-]+\.(?:ts|md))`/g)]
      .map((match) => match[1]!)
      .filter((path) => !/\*|NAME|^docs\/api\//.test(path)); // npm run docs makes docs/api
    const found = (path: string) =>
      ['', ...(bases[document] ?? [])].some((base) => existsSync(join(root, base, path)));
    expect(paths.length).toBeGreaterThan(1);
    expect(paths.filter((path) => !found(path))).toEqual([]);
  });

  it('links to files that exist', () => {
    const links = [...text.matchAll(/\]\(([^)#:]+)\)/g)].map((match) => match[1]!);
    expect(links.filter((link) => !existsSync(join(root, dirname(document), link)))).toEqual([]);
  });
});

/** Pages that tell how things are done today. */
const guides = [
  ...['README.md', 'CONTRIBUTING.md', 'examples/README.md'],
  ...['examples/from-node-llama-cpp.md', 'examples/from-ollama.md'],
  ...['architecture', 'glossary', 'library', 'results', 'server', 'weights', 'what-worked'].map(
    (name) => `docs/${name}.md`,
  ),
];
const { io } = memoryIo();
/** What the command line says of words; nothing is run. */
async function refusalOf(words: readonly string[]): Promise<string> {
  try {
    const program = createProgram(io, async () => {});
    await program.parseAsync(words, { from: 'user' });
    return '';
  } catch (error) {
    // Of help, all is well.
    return (error as CommanderError).exitCode === 0 ? '' : (error as Error).message;
  }
}
const { scripts } = JSON.parse(readPage('package.json')) as { scripts: Record<string, string> };

/** What is wrong with commands. @param isWhole they are to be typed so; else a value or a model may be left out */
async function wrongOf(lines: readonly string[], isWhole: boolean): Promise<string[]> {
  const wrong: string[] = [];
  for (const [name = '', ...words] of commandsOf(lines.join('\n'))) {
    const why = name === 'gen' ? await refusalOf(words) : '';
    const isNamed = !isWhole && / argument missing$|missing required argument/.test(why);
    const [how, script] = name === 'npm' ? words : [];
    const isRun = how !== 'run' || script! in scripts;
    if (!isRun || (why !== '' && !isNamed)) wrong.push(`${name} ${words.join(' ')}: ${why}`);
  }
  return wrong;
}

describe.each(guides)('commands of %s', (page) => {
  const text = readPage(page);

  it('are taken by the command line, as they are typed', async () => {
    const blocks = blocksOf(text, '').filter((code) => /^(gen|npm|npx|curl) /m.test(code));
    expect(await wrongOf(blocks, true)).toEqual([]);
  });

  it('have the flags and values that are named', async () => {
    const words = wordsOf(text).flatMap(spelled);
    const named = words.filter((word) => /^(gen|npm) /.test(word));
    expect(await wrongOf(named, false)).toEqual([]);
    const flags = createProgram(io, async () => {}).commands.flatMap(({ options }) => options);
    const isTaken = (word: string) => {
      const [flag, value] = word.split(' ');
      return flags.some(({ long, parseArg }) => {
        try {
          if (value !== undefined) parseArg?.(value, undefined);
          return long === flag;
        } catch {
          return false;
        }
      });
    };
    expect(words.filter((word) => /^--(?!help\b)/.test(word) && !isTaken(word))).toEqual([]);
  });
});

it('examples of --help are taken by the command line', async () => {
  const { commands } = createProgram(io, async () => {});
  for (const name of commands.map((command) => command.name())) {
    const { io: heard, written } = memoryIo();
    await run([name, '--help'], heard);
    const [, examples = ''] = /^Example:\n((?: {2}.*\n)+)/m.exec(written.out) ?? [];
    expect(examples, name).not.toBe('');
    expect(await wrongOf([examples], true), name).toEqual([]);
  }
});

/** A word with each of its alternatives, and with something in the place of what the reader is to put there. */
const spelled = (word: string): string[] => {
  const [choice] = /\S+\|\S+/.exec(word) ?? [];
  const one = (choice?.split('|') ?? ['']).map((way) => (choice ? word.replace(choice, way) : word));
  return one.map((text) => text.replace(/\bN\b/, '1'));
};

it('the glossary and the architecture speak of every scheme', () => {
  const schemes = readdirSync(join(root, 'codegen/schemes'), { withFileTypes: true })
    .filter((entry) => entry.isDirectory())
    .map((entry) => entry.name);
  const text = readFileSync(join(root, 'docs/architecture.md'), 'utf8');
  expect(schemes.filter((scheme) => !text.includes(`\`${scheme}\``))).toEqual([]);
});
