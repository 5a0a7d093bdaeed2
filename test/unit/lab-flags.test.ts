// Wrong invocations of gen explore and gen ablate are refused before anything is compiled.
import { existsSync, mkdtempSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it, vi } from 'vitest';
import { memoryIo } from '../../cli/io.ts';
import { run } from '../../cli/run.ts';

const folder = mkdtempSync(join(tmpdir(), 'onelaunch-lab-flags-'));
const at = (name: string) => join(folder, name);
/** A plan with an op of its own, as gen explore might have written it. */
const relu = `// Written by gen explore: relu
import { type f32, pointwise } from 'onelaunch/codegen';
import { resolvePlan } from 'onelaunch/configs';
const swiglu = pointwise((gate: f32, up: f32) => Math.max(gate, 0) * up);
export default (await resolvePlan('cooperative')).with('relu', {}, {}, { ops: { swiglu } });
`;
beforeAll(() => {
  writeFileSync(at('mine.ts'), 'export default 1;\n');
  writeFileSync(at('relu.ts'), relu);
  writeFileSync(at('empty.jsonl'), '');
  writeFileSync(at('other.jsonl'), 'hello\n');
  vi.stubEnv('ONELAUNCH_CACHE', at('cache'));
});
afterAll(() => {
  vi.unstubAllEnvs();
  rmSync(folder, { recursive: true });
});

const tiny = ['--model', 'qwen3-tiny', '--target', 'cpu'];
const explore = ['explore', ...tiny, '--vary', 'attn_norm=own'];
/** That no variant is left is said later. */
const onGpu = ['explore', '--model', 'qwen3-tiny', '--target', 'h100', '--vary', 'slots=12'];

/** Arguments, the first line of stderr, part of the hint, and the exit code. */
type Refused = readonly [args: readonly string[], line: string, hint: string, code?: number];

const cases: readonly Refused[] = [
  [['explore', '--vary', 'prefetch=1'], 'error: no --model given', 'gen explore --model'],
  [['ablate', 'qwen3-tiny'], 'error: no --model given: qwen3-tiny is the plan', 'gen ablate cooperative'],
  [['explore', ...tiny], 'error: nothing is varied', "for example: --vary 'prefetch=0..3"],
  [
    ['explore', ...tiny, '--vary', 'prefetsh=1'],
    "error: --vary has an unknown key 'prefetsh'",
    "did you mean 'prefetch'?",
  ],
  [
    ['explore', ...tiny, '--vary', 'prefetch'],
    "error: --vary 'prefetch' has no values behind the key 'prefetch'",
    'for example',
  ],
  [
    [...explore, '--strategy', 'gird'],
    "error: --strategy is 'gird', must be grid, random, halving",
    '--strategy halving',
  ],
  [
    [...explore, '--budget', '10'],
    "error: --budget is '10', must be a time above 0 in s, m or h",
    '--budget 10m',
  ],
  [
    [...explore, '--shard', '3/2'],
    "error: --shard is '3/2', must be a part and the number of parts",
    '--shard 1/4',
  ],
  [
    [...explore, '--shard', '1/100001'],
    "error: --shard is '1/100001', must be a part and the number of parts",
    '--shard 1/4',
  ],
  [[...explore, '--shard', '0/2'], "error: --shard is '0/2', must be", '--shard 1/4'],
  [
    [...explore, '--prune', '0.9'],
    "error: --prune is '0.9', must be 0, or a number from 1 to 1000",
    '--prune 1.5',
  ],
  ...['--explain', '--build-only'].map(
    (mode): Refused => [
      [...onGpu, '--threads', '3', mode],
      'error: threads are of a CPU, and h100 is a GPU',
      'leave them out',
    ],
  ),
  [[...explore, '--rounds', '0'], "error: --rounds is '0', must be a whole number", '--rounds 5'],
  [
    [...explore, '--together', '1'],
    "error: --together is '1', must be a whole number from 2 to 64",
    '--together 4',
  ],
  [
    [...explore, '--positions', '9000'],
    'error: 9065 positions are needed, the context holds',
    'smaller --positions',
  ],
  [
    [...explore, '--build-only', '--measure-only'],
    'error: --build-only and --measure-only leave nothing to do',
    'one of them',
  ],
  [[...explore, '--random-weights'], 'error: --random-weights has nothing to compare with', '--golden FILE'],
  [
    [...explore, '--out', 'best.txt'],
    "error: --out is 'best.txt', must be a .ts or .js file",
    '--out best.ts',
  ],
  [
    [...explore, '--out', 'best.cjs'],
    "error: --out is 'best.cjs', must be a .ts or .js file",
    '--out best.ts',
  ],
  [
    [...explore, '--out', at('mine.ts')],
    `error: --out is '${at('mine.ts')}', which is there already`,
    'another name',
  ],
  [
    [...explore, '--plan', at('relu.ts'), '--out', at('relu.ts')],
    `error: --out is '${at('relu.ts')}', and so is --plan`,
    'another name',
  ],
  [
    [...explore, '--journal', at('both.ts'), '--out', at('both.ts')],
    `error: --out is '${at('both.ts')}', and so is --journal`,
    'another name',
  ],
  [
    [...explore, '--golden', at('none.json')],
    `error: cannot read the golden file ${at('none.json')}`,
    'golden',
  ],
  [
    [...explore, '--journal', at('other.jsonl')],
    `error: line 1 of ${at('other.jsonl')} is no record`,
    'another --journal',
  ],
  [[...explore, '--journal', ''], "error: --journal is '', must be a text that is not empty", 'mine.jsonl'],
  [
    [...explore, '--journal', at('none/j.jsonl')],
    `error: --journal is '${at('none/j.jsonl')}', which cannot be written: its folder does not exist`,
    '--journal mine.jsonl',
  ],
  [
    ['explore', 'qwen3-tiny', 'more', '--vary', 'prefetch=1'],
    "error: 'more' stands behind the model",
    'list and merge',
  ],
  [
    ['explore', ...tiny, '--vary', 'prefetch=1', '--explain'],
    'error: no variant of cooperative is another kernel on cpu',
    'gen explain',
  ],
  [
    [...explore, '--samples', '9'],
    'error: --samples is given without --strategy random',
    'leave --samples out',
  ],
  [[...explore, '--seed', '9'], 'error: --seed is given without --strategy random', 'leave --seed out'],
  [
    [...explore, '--build-only', '--out', at('b.ts')],
    'error: --build-only has no use for --out',
    'leave one',
  ],
  ...['--out b.ts', '--build-only', '--budget 1m', '--journal j.jsonl', '--device 3', '--rounds 9'].map(
    (flag): Refused => {
      const [name] = flag.split(' ');
      return [
        [...explore, '--explain', ...flag.split(' ')],
        `error: --explain has no use for ${name}`,
        'leave',
      ];
    },
  ),
  [[...explore, '--measure-only', '--jobs', '2'], 'error: --measure-only has no use for --jobs', 'leave one'],
  [
    ['explore', 'list', at('none.jsonl'), '--vary', 'a=1'],
    'error: explore list has no use for --vary',
    'leave',
  ],
  [
    ['explore', 'merge', at('none.jsonl'), '--out', 'b.ts'],
    'error: explore merge has no use for --out',
    'leave',
  ],
  [['explore', 'list'], 'error: no journal to list', 'gen explore list FILE'],
  [['explore', 'list', at('none.jsonl')], `error: there is no journal ${at('none.jsonl')}`, '--journal FILE'],
  [
    ['explore', 'list', at('empty.jsonl')],
    `error: ${at('empty.jsonl')} has no experiment: it was left before its first line`,
    'begins it anew',
  ],
  [
    ['explore', 'merge', at('empty.jsonl'), at('empty.jsonl'), '--journal', at('none/j.jsonl')],
    `error: --journal is '${at('none/j.jsonl')}', which cannot be written: its folder does not exist`,
    '--journal all.jsonl',
  ],
  [['explore', 'merge', at('empty.jsonl')], 'error: merge takes two journals or more', 'gen explore merge'],
  [
    ['ablate', ...tiny, '--plan', 'stream', 'unfused'],
    "error: the plan is given twice: --plan 'stream' and 'unfused'",
    '',
  ],
  [['ablate', ...tiny, '--plans', 'streem'], "error: unknown plan 'streem'", "did you mean 'stream'?"],
  [
    ['ablate', 'cooperative', ...tiny, '--vary', 'attn_norm=recompute:qkv'],
    'error: no variant of cooperative is another kernel on cpu',
    '--vary',
  ],
];

describe('gen explore and gen ablate', () => {
  it.each(cases.map(([args, line, hint, code = 2]) => ({ args, line, hint, code })))('$args', async (one) => {
    const { args, line, hint, code } = one;
    const { io, written } = memoryIo();
    expect(await run(args, io)).toBe(code);
    const errors = written.err.split('\n').filter((one) => /^(error|hint): /.test(one));
    expect(errors[0]).toContain(line);
    expect(errors[1] ?? '').toContain(hint);
    expect(
      existsSync(at('cache')) ? readdirSync(at('cache')).filter((name) => name.startsWith('qwen3')) : [],
    ).toEqual([]);
  });
});

it('gen explore --explain needs no GPU and no weights', async () => {
  const { io, written } = memoryIo();
  const asked = ['--model', 'qwen3-0.6b', '--target', 'h100', '--plan', 'stream', '--vary', 'handoff=*'];
  expect(await run(['explore', ...asked, '--explain', '--json'], io), written.err).toBe(0);
  const shown = JSON.parse(written.out) as { label: string; predicted: (number | null)[] }[];
  expect(shown.map(({ label }) => label)).toEqual(['stream', 'stream+handoff=epoch']);
  expect(shown.every(({ predicted }) => predicted.length === 3 && predicted.every((rate) => rate! > 0))).toBe(
    true,
  );
});
