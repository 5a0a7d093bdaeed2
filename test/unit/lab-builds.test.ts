// Experiments that go on where the compiler or the generator was another before.
import { copyFileSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it, vi } from 'vitest';
import { memoryIo } from '../../cli/io.ts';
import { run } from '../../cli/run.ts';
import { packageRoot } from '../../codegen/build/package-root.ts';
import { targetText } from '../../configs/target-file.ts';
import { targetNamed } from '../../configs/targets.ts';
import { readJournal } from '../../lab/journal.ts';
import { buildSandbox } from '../support/build-sandbox.ts';

const at = buildSandbox();
const killed = 'echo "g++: fatal error: Killed signal terminated program cc1plus"; exit 1';
const broken = 'echo "c++: internal compiler error"; exit 1';

async function explore(...more: readonly string[]) {
  const { io, written } = memoryIo();
  const journal = join(at.folder, 'j.jsonl');
  const flags = ['--vary', 'attn_norm=own', '--build-only', '--journal', journal, '--jobs', '1'];
  const code = await run(['explore', 'qwen3-tiny', '--target', 'cpu', ...flags, ...more], io);
  return { code, err: written.err, records: readJournal(journal).records };
}

describe('a compiler', () => {
  it('that is killed says nothing of a variant: the same command tries the variant again', async () => {
    at.use(killed);
    const first = await explore();
    expect(first.code).toBe(1);
    expect(first.err).toContain('the compiler was killed; the same command tries it again');
    expect(first.err).toContain('hint: end other programs, or give --jobs 1');
    at.use();
    const second = await explore();
    expect(second.code, second.err).toBe(0);
    expect(second.err).toContain('all is built');
    const built = second.records.filter((one) => one.kind === 'built');
    expect(built.map(({ problem }) => problem === null)).toEqual([false, false, true, true]);
    // Nothing is tried a third time.
    expect((await explore()).records.filter((one) => one.kind === 'built')).toHaveLength(4);
  });

  it('that refuses does', async () => {
    at.use(broken);
    expect((await explore()).err).toContain('refused by the compiler');
    at.use();
    expect((await explore()).code).toBe(1);
  });
});

it('a budget counts from when the command began: what finding the variants took is in it', async () => {
  at.use();
  const { io, written } = memoryIo();
  const now = performance.now.bind(performance);
  let late = 0;
  const clock = vi.spyOn(performance, 'now').mockImplementation(() => now() + late);
  const slow = {
    ...io,
    err: (text: string) => {
      if (text.includes('journal: ')) late = 60_000; // all before it took a minute
      io.err(text);
    },
  };
  const journal = join(at.folder, 'budget.jsonl');
  const flags = ['--vary', 'attn_norm=own', '--build-only', '--journal', journal, '--budget', '50s'];
  await run(['explore', 'qwen3-tiny', '--target', 'cpu', ...flags], slow);
  clock.mockRestore();
  expect(written.err).toContain('the budget is used up');
  expect(readJournal(journal).records.filter((one) => one.kind === 'built')).toEqual([]);
});

it('a journal with a variant that is made no more is refused by it, and left as it was', async () => {
  at.use();
  const { records } = await explore();
  const [, stranger] = records.filter((one) => one.kind === 'variant');
  const path = join(at.folder, 'j.jsonl');
  const text = readFileSync(path, 'utf8').replaceAll(stranger!.id, 'aaaaaaaaaaaa');
  writeFileSync(path, text);
  const again = await explore();
  expect(again.code).toBe(2);
  expect(again.err).toContain(`has ${stranger!.label} as the kernel aaaaaaaaaaaa, which no variant is today`);
  expect(readFileSync(path, 'utf8')).toBe(text);
});

it('with other threads an experiment is another, which what was timed before says nothing of', async () => {
  at.use();
  expect((await explore('--threads', '1')).code).toBe(0);
  const refused = await explore('--threads', '2');
  expect(refused.code).toBe(2);
  expect(refused.err).toContain('is of another experiment: its threads is 1, not 2');
});

it('with another file of logits an experiment is another: by it a variant may be right, or wrong', async () => {
  at.use();
  const golden = join(at.folder, 'golden.json');
  const source = join(packageRoot(), 'models/qwen3-tiny/golden.json');
  copyFileSync(source, golden);
  expect((await explore('--golden', source)).code).toBe(0);
  // The same under another name.
  expect((await explore('--golden', golden)).code).toBe(0);
  writeFileSync(golden, `${readFileSync(golden, 'utf8')}\n`);
  for (const other of [['--golden', golden], []]) {
    const refused = await explore(...other);
    expect(refused.code).toBe(2);
    expect(refused.err).toContain('is of another experiment: its golden is "');
  }
});

it('with other figures of a target an experiment is another, whatever the target is called', async () => {
  at.use();
  const file = join(at.folder, 'here.json');
  const listed = targetNamed('cpu')!;
  const called = (figures: object) => {
    writeFileSync(file, targetText({ ...listed, ...figures }));
    return explore('--target', file);
  };
  // What is listed is the same by its name and as a file.
  expect((await called({})).code).toBe(0);
  expect((await explore()).code).toBe(0);
  const before = { bandwidth: 40, bandwidthFrom: 'measured' } as const;
  const other = await called(before);
  expect(other.code).toBe(2);
  expect(other.err).toContain("is of another experiment: the figures of its target 'cpu' are others");
  expect(other.err).toContain('hint: give another --journal, or the flags it was begun with');
  rmSync(join(at.folder, 'j.jsonl'));
  expect((await called(before)).code).toBe(0);
  expect((await called(before)).code).toBe(0);
  expect((await called({ ...before, bandwidth: 41 })).code).toBe(2);
});

describe('gen ablate of a plan file', () => {
  const ablate = async (...more: readonly string[]) => {
    at.use();
    const file = join(at.folder, 'mine.ts');
    writeFileSync(
      file,
      `import { own } from 'onelaunch/codegen';
import { resolvePlan } from 'onelaunch/configs';
const base = (await resolvePlan('cooperative')).with('stream', {});
export default base;
export const variants = [
  base.with('attn-once', { attn_norm: own({ over: 'tokens' }) }),
  base.with('ffn-once', { ffn_norm: own({ over: 'tokens' }) }),
];
`,
    );
    const { io, written } = memoryIo();
    const flags = ['--build-only', '--journal', join(at.folder, 'j.jsonl'), '--json', ...more];
    const code = await run(
      ['ablate', '--plan', file, '--model', 'qwen3-tiny', '--target', 'cpu', ...flags],
      io,
    );
    expect(code, written.err).toBe(0);
    return JSON.parse(written.out) as {
      readonly vary: readonly string[];
      readonly variants: { label: string }[];
    };
  };

  it('has the variants that the file exports, and none that ships under the same name', async () => {
    const { vary, variants } = await ablate();
    expect(vary.filter((label) => !label.includes('+'))).toEqual(['attn-once', 'ffn-once']);
    expect(variants.map(({ label }) => label)).toEqual(expect.arrayContaining(['attn-once', 'ffn-once']));
  });

  it('takes them by name', async () => {
    const { vary } = await ablate('--plans', 'ffn-once,unfused');
    expect(vary).toEqual(['ffn-once', 'unfused']);
  });
});
