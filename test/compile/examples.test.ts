// The examples run as they are written, and every one of them has a test.
import { execFileSync } from 'node:child_process';
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, it } from 'vitest';
import { memoryIo } from '../../cli/io.ts';
import { run } from '../../cli/run.ts';
import { packageRoot } from '../../codegen/build/package-root.ts';
import { load } from '../../index.ts';

const root = packageRoot();
const folder = join(root, 'examples');
const runExample = (name: string) =>
  execFileSync(process.execPath, ['--import', 'tsx', join('examples', name)], {
    ...{ cwd: root, encoding: 'utf8' },
  });

it('all examples are tested here, and listed in their README', () => {
  const here = readFileSync(import.meta.filename, 'utf8');
  const list = readFileSync(join(folder, 'README.md'), 'utf8');
  const examples = readdirSync(folder).filter((name) => name.endsWith('.ts'));
  expect(examples.length).toBeGreaterThan(2);
  for (const name of examples) expect(here).toContain(`'${name}'`);
  const pages = readdirSync(folder).filter((name) => name.startsWith('from-'));
  for (const name of [...examples, ...pages]) expect(list).toContain(`\`${name}\``);
});

it('my-plan.ts is a legal plan with two more waits a layer than the plan that it edits', async () => {
  const waits = async (plan: string) => {
    const { io, written } = memoryIo();
    const model = ['--model', 'qwen3-tiny', '--target', 'h100'];
    expect(await run(['explain', ...model, '--plan', plan, '--json'], io), written.err).toBe(0);
    return (JSON.parse(written.out) as { syncsPerToken: number }).syncsPerToken;
  };
  const layers = 6;
  expect(await waits(join(folder, 'my-plan.ts'))).toBe((await waits('cooperative')) + 2 * layers);
});

it('use-as-library.ts answers, and says how it ended', () => {
  const text = runExample('use-as-library.ts');
  expect(text).toMatch(/^A program that is not invoked explicitly, but lies dormant/);
  expect(text).toMatch(/\n\d+ tokens, finish: (stop|length)\n$/);
});

it('parallel.ts answers four questions, and each as if it were asked alone', async () => {
  const text = runExample('parallel.ts');
  const alone = await load({ model: 'qwen3-tiny', target: 'cpu', parallel: 2 });
  const questions = [...text.matchAll(/^(\S.*)\n {2}/gm)].map(([, question]) => question!);
  expect(questions).toHaveLength(4);
  for (const question of questions) {
    const session = alone.session({ reply: { maxTokens: 40 } });
    expect(text).toContain(`${question}\n  ${await session.chat(question).text()}\n`);
  }
  await alone.close();
});

it('compare-plans.ts predicts a rate for each plan and position', () => {
  const lines = runExample('compare-plans.ts').trimEnd().split('\n');
  expect(lines).toHaveLength(6);
  for (const line of lines) {
    expect(line).toMatch(/^(cooperative|stream) at position \d+: \d+ \S.* a token, \d+ tok\/s predicted$/);
  }
});
