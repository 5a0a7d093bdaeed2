// The pages for those who come from another package: ours of each page is one program, which runs with the bundled model.
import { execFileSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';
import { expect, it } from 'vitest';
import { packageRoot } from '../../codegen/build/package-root.ts';
import { heldTemperature, holding } from '../support/held-replies.ts';
import { makeTinyDirectory } from '../support/model-directory.ts';
import { serve } from '../support/serving-process.ts';
import { hermes } from '../support/tool-templates.ts';

const root = packageRoot();

/** Tasks of a page: heading, theirs, ours. */
function tasksOf(page: string): { readonly name: string; readonly ours: string }[] {
  const text = readFileSync(join(root, 'examples', `${page}.md`), 'utf8');
  const tasks = text.split(/^## /m).slice(1, -1);
  expect(text).toMatch(/^## What is not here$/m);
  return tasks.map((task) => {
    const blocks = [...task.matchAll(/^```(\w+)\n(.*?)^```$/gms)];
    expect(
      blocks.map(([, language]) => language),
      task,
    ).toEqual(['js', 'ts']);
    return { name: task.slice(0, task.indexOf('\n')), ours: blocks[1]![2]! };
  });
}

/** The tasks as one program: the first begins it, and each of the others has names of its own. */
function programOf(ours: readonly string[]): string {
  const imports = new Set<string>();
  const bodies = ours.map((text) =>
    text.replaceAll(/^import .*\n/gm, (line) => {
      imports.add(line);
      return '';
    }),
  );
  const scoped = bodies.map((body, i) => (i === 0 ? body : `console.log('----');\n{\n${body}}\n`));
  return [...imports, ...scoped].join('');
}

/** What each task of a page writes. @param more texts of it, and what stands in their place here */
function run(page: string, more: Readonly<Record<string, string>> = {}): Record<string, string> {
  const tasks = tasksOf(page);
  expect(tasks).toHaveLength(10);
  const here = {
    "'onelaunch'": `'${pathToFileURL(join(root, 'index.ts')).href}'`,
    // The template of the bundled model knows no tools.
    "model: 'Qwen/Qwen3-0.6B'": `model: '${makeTinyDirectory(hermes)}', target: 'cpu'`,
    "model: 'Qwen/Qwen3-Embedding-0.6B'": "model: 'qwen3-tiny', target: 'cpu'",
    'signal: controller.signal': `signal: controller.signal, temperature: ${heldTemperature}`,
    ...more,
  };
  let program = programOf(tasks.map(({ ours }) => ours));
  for (const [there, instead] of Object.entries(here)) {
    expect(program).toContain(there);
    program = program.replaceAll(there, instead);
  }
  // In the checkout, where the packages are that they import.
  mkdirSync(join(root, 'generated'), { recursive: true });
  const folder = mkdtempSync(join(root, 'generated', 'coming-'));
  try {
    writeFileSync(join(folder, 'program.mts'), program);
    const written = execFileSync(process.execPath, [...holding, 'program.mts'], {
      // A reply that is held and never stopped would not end.
      ...{ cwd: folder, encoding: 'utf8', timeout: 180_000 },
    });
    const said = written.split('----\n');
    expect(said).toHaveLength(tasks.length);
    return Object.fromEntries(tasks.map(({ name }, i) => [name, said[i]!]));
  } finally {
    rmSync(folder, { recursive: true });
  }
}

const daemon = /^A program that is not invoked explicitly, but lies dormant.*\n$/;
const roles = /^user, assistant, (tool, )+assistant\n$/;

it('from-node-llama-cpp.md', () => {
  expect(run('from-node-llama-cpp')).toEqual({
    'Load, and ask': expect.stringMatching(daemon),
    Stream: expect.stringMatching(/^\S.*\n\d+ tokens, finish: (stop|length)\n$/s),
    'A conversation with a system prompt, saved and restored': 'system, user, assistant, user, assistant\n',
    'Options of a reply': expect.stringMatching(/^\d+ tokens\n$/),
    Abort: 'abort\n',
    'JSON of a schema': expect.stringMatching(/^.{0,12} is \d+ next year\n$/su),
    Functions: expect.stringMatching(roles),
    'Several at a time': expect.stringMatching(/^A program that .*\n\S.*\n\S.*\n$/s),
    'A text that goes on, and tokens': 'A kernel is: true, 8 more\n',
    'Embeddings, and the end': '256 numbers, true\n',
  });
});

it('from-ollama.md', async () => {
  const serving = await serve();
  try {
    expect(run('from-ollama', { 'http://127.0.0.1:8000': serving.url })).toEqual({
      'Load, and ask': expect.stringMatching(daemon),
      'Stream, and count': expect.stringMatching(/^\S.*\n(stop|length), \d+ and \d+ tokens, true\n$/s),
      'A conversation with a system prompt': 'system, user, assistant, user, assistant\n',
      Options: expect.stringMatching(/^\d+ tokens\n$/),
      Abort: 'abort\n',
      'JSON of a schema': 'name, age\n',
      Tools: expect.stringMatching(roles),
      'A text that goes on, with log probabilities': 'true, 2, 2, 2\n',
      'Embeddings, and the end': '256 numbers, true\n',
      'A server': expect.stringMatching(daemon),
    });
  } finally {
    serving.child.kill('SIGKILL');
    await serving.ended();
  }
});
