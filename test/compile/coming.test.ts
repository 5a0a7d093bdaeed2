// The pages for those who come from another package: ours of each page is one program, which runs with the bundled model.
import { expect, it } from 'vitest';
import { heldTemperature } from '../support/held-replies.ts';
import { programOf, readPage, runProgram } from '../support/page.ts';
import { serve } from '../support/serving-process.ts';

/** Tasks of a page: heading, theirs, ours. */
function tasksOf(page: string): { readonly name: string; readonly ours: string }[] {
  const text = readPage(`examples/${page}.md`);
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

/** What each task of a page writes. @param instead more texts of it, and what stands in their place here */
function run(page: string, instead: Readonly<Record<string, string>> = {}): Record<string, string> {
  const tasks = tasksOf(page);
  expect(tasks).toHaveLength(10);
  const said = runProgram(programOf(tasks.map(({ ours }) => ours)), {
    "model: 'Qwen/Qwen3-0.6B'": "model: 'qwen3-tiny', target: 'cpu'",
    "model: 'Qwen/Qwen3-Embedding-0.6B'": "model: 'qwen3-tiny', target: 'cpu'",
    'signal: controller.signal': `signal: controller.signal, temperature: ${heldTemperature}`,
    ...instead,
  });
  expect(said).toHaveLength(tasks.length);
  return Object.fromEntries(tasks.map(({ name }, i) => [name, said[i]!]));
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
