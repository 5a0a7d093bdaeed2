// Options that there are not and values that they do not take are refused with their line, whatever TypeScript was told.
import { spawnSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, describe, expect, test, vi } from 'vitest';
import { packageRoot } from '../../codegen/build/package-root.ts';
import { decoderGraph } from '../../codegen/model/graph.ts';
import { checkPlan } from '../../codegen/plan/check.ts';
import { formatIssues, PlanError } from '../../codegen/plan/issue.ts';
import { parsePlan } from '../../codegen/plan/parse-plan.ts';
import { barriers, type FusionPlan, plan } from '../../codegen/plan/plan.ts';
import { models } from '../../configs/models.ts';
import cooperative from '../../configs/plans/cooperative.ts';
import stream, { variants } from '../../configs/plans/stream.ts';
import unfused from '../../configs/plans/unfused.ts';
import { resolvePlan } from '../../configs/resolve.ts';
import { targetNamed } from '../../configs/targets.ts';
import * as value from '../illegal/option-value.ts';
import planName from '../illegal/plan-name.ts';
import * as unknown from '../illegal/unknown-option.ts';
import { bundled } from '../support/bundled.ts';
import { failureOf } from '../support/refusal.ts';
import { oneOf, thorough } from '../support/thorough.ts';
import { until } from '../support/within.ts';

const h100 = targetNamed('h100')!;
const message = (made: FusionPlan) => formatIssues(checkPlan(decoderGraph(models[0]!), made, h100));
const refused = (made: unknown): string => {
  try {
    parsePlan(made);
  } catch (error) {
    if (error instanceof PlanError) return error.message;
    throw error;
  }
  return 'accepted';
};

describe('an option that there is not:', () => {
  test('of a stage', () => {
    expect(message(unknown.ofAStage)).toMatchInlineSnapshot(`
      "unknown-option.ts:11:51: error: unknown-option
        11 |   stage('attend', ['attend'], { over: 'kv_heads', spilt: 'positions' } as never),
           |                                                   ^^^^^
        stage 'attend' has no option 'spilt': did you mean 'split'?
        It has: 'over', 'recompute', 'split'."
    `);
  });
  test('of no scheme, though every object has a word like it', () => {
    const { scheme, ...plan } = cooperative;
    const made = { ...plan, scheme: { ...scheme, constructor: 1 } };
    expect(message(made as never)).toContain("barriers() has no option 'constructor'.");
  });
  test('of a stage, written in a constant', () => {
    expect(message(unknown.inAConstant)).toMatchInlineSnapshot(`
      "unknown-option.ts:6:35: error: unknown-option
        6 | const split = { over: 'kv_heads', spilt: 'positions' } as never;
          |                                   ^^^^^
        stage 'attend' has no option 'spilt': did you mean 'split'?
        It has: 'over', 'recompute', 'split'."
    `);
  });
  test('of the other scheme', () => {
    expect(message(unknown.ofTheOtherScheme)).toMatchInlineSnapshot(`
      "unknown-option.ts:7:28: error: unknown-option
        7 | const flagged = barriers({ handoff: 'epoch' } as never);
          |                            ^^^^^^^
        barriers() has no option 'handoff': it is one of stream().
        It has: 'prefetch', 'prefetchBy', 'blocks', 'warps', 'loadBits', 'loadsInFlight', 'buffers', 'producers', 'barrier', 'inputs', 'inputBits', 'tokens'."
    `);
  });
  test('of a stream', () => {
    expect(message(unknown.ofAStream)).toMatchInlineSnapshot(`
      "unknown-option.ts:15:74: error: unknown-option
        15 | export const ofAStream = cooperative.with('unknown-option', {}, stream({ slot: 8 } as never));
           |                                                                          ^^^^
        stream() has no option 'slot': did you mean 'slots'?
        It has: 'slots', 'slotBytes', 'copiesInFlight', 'headCopiesInFlight', 'handoff', 'splits', 'copy', 'blocks', 'pollCycles', 'tokens'."
    `);
  });
  test('of a plan', () => {
    expect(message(unknown.ofAPlan)).toMatchInlineSnapshot(`
      "unknown-option.ts:16:75: error: unknown-option
        16 | export const ofAPlan = plan('unknown-option', unfused.stages, stream(), { opps: {} } as never);
           |                                                                           ^^^^
        a plan has no option 'opps': did you mean 'ops'?
        It has: 'ops'."
    `);
  });
  test('of an edit', () => {
    expect(message(unknown.ofAnEdit)).toMatchInlineSnapshot(`
      "unknown-option.ts:18:36: error: unknown-option
        18 |   attn_norm: own({ over: 'tokens', recomputed: ['attn_norm'] } as never),
           |                                    ^^^^^^^^^^
        stage 'attn_norm' has no option 'recomputed': did you mean 'recompute'?
        It has: 'over', 'recompute', 'split'."
    `);
  });
});

describe('a value that an option does not take:', () => {
  test('of a stage', () => {
    expect(message(value.ofAStage)).toMatchInlineSnapshot(`
      "option-value.ts:5:82: error: option-value
        5 | export const ofAStage = plan('option-value', [stage('embed', ['embed'], { over: 'row' as never })]);
          |                                                                                  ^^^
        over of stage 'embed' is 'row': did you mean 'rows'?
        It takes: 'rows', 'q_heads', 'kv_heads', 'tokens', 'once'."
    `);
  });
  test('none', () => {
    expect(message(value.missing)).toMatchInlineSnapshot(`
      "option-value.ts:6:46: error: option-value
        6 | export const missing = plan('option-value', [stage('embed', ['embed'], {} as never)]);
          |                                              ^^^^^
        over of stage 'embed' is missing.
        It takes: 'rows', 'q_heads', 'kv_heads', 'tokens', 'once'."
    `);
  });
  test('out of range', () => {
    expect(message(value.outOfRange)).toMatchInlineSnapshot(`
      "option-value.ts:7:80: error: option-value
        7 | export const outOfRange = plan('option-value', unfused.stages, stream({ slots: 65, slotBytes: 10000 }));
          |                                                                                ^^
        slots of stream() is 65.
        It takes: a whole number from 4 to 64.

      option-value.ts:7:95: error: option-value
        7 | export const outOfRange = plan('option-value', unfused.stages, stream({ slots: 65, slotBytes: 10000 }));
          |                                                                                               ^^^^^
        slotBytes of stream() is 10000.
        It takes: 'fit', 4096, 8192, 16384, 32768."
    `);
  });
  test('of barriers', () => {
    expect(message(value.ofBarriers)).toMatchInlineSnapshot(`
      "option-value.ts:8:85: error: option-value
        8 | export const ofBarriers = plan('option-value', unfused.stages, barriers({ prefetch: -1 }));
          |                                                                                     ^^
        prefetch of barriers() is -1.
        It takes: a whole number from 0 to 8."
    `);
  });
  test('of byContext', () => {
    expect(message(value.tooManySplits)).toMatchInlineSnapshot(`
      "option-value.ts:9:84: error: option-value
        9 | export const tooManySplits = plan('option-value', unfused.stages, stream({ splits: byContext({ 32: 0 }) }));
          |                                                                                    ^^^^^^^^^^^^^^^^^^^^
        splits of stream() is [{'splits':32,'from':0}].
        It takes: 'fit', byContext({ splits: position }) of 1 to 16 splits."
    `);
  });
});

describe('the name of a plan', () => {
  test('is no path', () => {
    expect(message(planName)).toMatchInlineSnapshot(`
      "plan-name.ts:5:22: error: plan-name
        5 | export default plan('../../x y', unfused.stages);
          |                      ^^^^^^^^^
        '../../x y' cannot name a plan: up to 80 letters, digits, '-', '_' and '.', a letter or digit first.
        Legal here: 'x-y'."
    `);
  });
  test.each(['', '..', '.hidden', '-x', 'a/b', 'a\\b', 'a b', 'é', 'x'.repeat(81)])('is not %j', (name) => {
    expect(checkPlan(decoderGraph(models[0]!), plan(name, unfused.stages), h100)[0]?.rule).toBe('plan-name');
  });
  test.each(['x', 'geglu-2', 'my_plan.v3', '7'])('may be %j', (name) => {
    expect(message(plan(name, unfused.stages))).toBe('');
  });
});

test('warps are refused by their type as by the rule', () => {
  // @ts-expect-error
  const scheme = barriers({ warps: 7 });
  expect(message(plan('option-value', unfused.stages, scheme))).toContain('warps of barriers() is 7.');
});

test('parsePlan refuses what checkPlan refuses, with the same text', () => {
  for (const made of [...Object.values(unknown), ...Object.values(value), planName]) {
    expect(refused(made)).toBe(message(made));
    expect(refused(JSON.parse(JSON.stringify(made)))).toBe(message(made));
  }
});

test('parsePlan takes the plans that are listed, and their JSON', () => {
  for (const made of [cooperative, unfused, stream, ...variants]) {
    expect(parsePlan(made)).toEqual(made);
    expect(parsePlan(JSON.parse(JSON.stringify(made)))).toEqual(made);
  }
});

const folder = mkdtempSync(join(tmpdir(), 'plan-shape-'));
afterAll(() => rmSync(folder, { recursive: true, force: true }));

test('a plan file in JavaScript is refused at its own line', async () => {
  const file = join(folder, 'mine.mjs');
  const language = join(import.meta.dirname, '../../codegen/plan/plan.ts');
  writeFileSync(
    file,
    `import { plan, stage } from '${language}';\nexport default plan('mine', [\n  stage('embed', ['embed'], { over: 'rows', spilt: 'none' }),\n]);\n`,
  );
  await expect(resolvePlan(file)).rejects.toThrow(`mine.mjs:3:45: error: unknown-option
  3 |   stage('embed', ['embed'], { over: 'rows', spilt: 'none' }),
    |                                             ^^^^^
  stage 'embed' has no option 'spilt': did you mean 'split'?`);
});

/** Expressions that make no plan, and what is said of them. */
const wrong: readonly (readonly [made: string, line: string])[] = [
  [
    "cooperative.with('x', { attentoin: dealt({ split: 'positions' }) })",
    `unknown-stage
  3 | export default cooperative.with('x', { attentoin: dealt({ split: 'positions' }) });
    |                                        ^^^^^^^^^
  there is no stage 'attentoin': did you mean 'attention'?
  There are: 'embed', 'qkv', 'attention',`,
  ],
  ["cooperative.with('x', { attn_norm: into('nope') })", "there is no stage 'nope'."],
  ["cooperative.with('x', { embed: into('embed') })", "embed is all that stage 'embed' has."],
  [
    "cooperative.with('x', { qkv_proj: dealt({ over: 'rows' }) })",
    "there is no stage 'qkv_proj': it is an op, of stage 'qkv'.",
  ],
  [
    "cooperative.with('x', { qkv: own({ over: 'rows' }) })",
    "there is no op 'qkv': it is a stage, which dealt(...) changes.",
  ],
  [
    "cooperative.with('x', { attn_nrom: into('qkv') })",
    "there is no op 'attn_nrom': did you mean 'attn_norm'?",
  ],
  [
    "cooperative.with('x', { qkv: dealt({ name: 'y' }) })",
    `unknown-option
  3 | export default cooperative.with('x', { qkv: dealt({ name: 'y' }) });
    |                                                     ^^^^
  stage 'qkv' has no option 'name'.
  Not in options: 'name', 'ops', 'at'.`,
  ],
  [
    "cooperative.with('x', { attn_norm: into('qkv', { recompute: true, over: 'rows' }) })",
    "into() has no option 'over'.",
  ],
  [
    "cooperative.with('x', { attn_norm: into('qkv', { recompute: 'no' }) })",
    `option-value
  3 | export default cooperative.with('x', { attn_norm: into('qkv', { recompute: 'no' }) });
    |                                                                             ^^
  recompute of into() is 'no'.
  It takes: true or false.`,
  ],
  ["cooperative.with('x', {}, {}, { scheme: {} })", "a plan has no option 'scheme'."],
  ["cooperative.with('x', {}, {}, null)", 'the options of a plan are null.'],
  ["plan('x', [], undefined, null)", 'the options of a plan are null.'],
  ["plan('x', [stage('embed', ['embed'], { ops: [] })])", "stage 'embed' has no option 'ops'."],
  ["cooperative.with('x', {}, { prefetch: 2n })", 'prefetch of barriers() is 2n.'],
  ["cooperative.with('x', {}, { prefetch: NaN })", 'prefetch of barriers() is NaN.'],
  ["cooperative.with('x', { attn_norm: 2n })", 'the edit attn_norm is 2n.'],
  ["plan('x', 'y'.repeat(99))", `plan.stages is '${'y'.repeat(59)}`],
  ["cooperative.with('y'.repeat(999), {})", `'${'y'.repeat(59)} cannot name a plan`],
  ["cooperative.with('x', { attn_norm: into() })", 'there is no stage undefined.'],
  ["cooperative.with('x', { attn_norm: 'own' })", "the edit attn_norm is 'own'."],
  [
    "cooperative.with('x', { inputBits: 8 })",
    `option-value
  3 | export default cooperative.with('x', { inputBits: 8 });
    |                                                   ^
  the edit inputBits is 8.
  It takes: own(...), into(...), dealt(...); options of the scheme stand behind the edits.`,
  ],
  ["cooperative.with('x', {}, 'stream')", "the options of with() are 'stream'."],
  ["cooperative.with('x')", 'the edits of with() are undefined.'],
  ["cooperative.with('x', new Map([['attn_norm', own({})]]))", 'the edits of with() are new Map().'],
  ["cooperative.with('x', {}, new Map([['warps', 4]]))", 'the options of with() are new Map().'],
  ["cooperative.with('x', {}, barriers(new (class Mine { #warps = 4 })()))", 'of barriers() are new Mine().'],
  ["cooperative.with('x', { qkv: dealt(new Map()) })", "the options of stage 'qkv' are new Map()."],
  ["cooperative.with('x', {}, {}, { ops: new Map() })", 'the options of ops are new Map().'],
  ["plan('x', [], undefined, { ops: null })", 'the options of ops are null.'],
  [
    "cooperative.with('x', {}, Object.assign(Object.create(null), { prefetch: 99 }))",
    'prefetch of barriers() is 99.',
  ],
  ["cooperative.with('x', {}, { kind: undefined })", 'the kind of a scheme is undefined.'],
  ["cooperative.with('x', { qkv: dealt() })", "the options of stage 'qkv' are undefined."],
  [
    "cooperative.with('x', {}, barriers({ kind: undefined }))",
    `unknown-option
  3 | export default cooperative.with('x', {}, barriers({ kind: undefined }));
    |                                                     ^^^^
  barriers() has no option 'kind'.`,
  ],
  [
    "cooperative.with('x', {}, barriers(new Map([['prefetch', 2]])))",
    'the options of barriers() are new Map().',
  ],
  ["cooperative.with('x', {}, barriers(null))", 'the options of barriers() are null.'],
  ["cooperative.with('x', {}, stream([8]))", 'the options of stream() are'],
  ["cooperative.with('x', {}, tiles('wgmma'))", "the options of tiles() are 'wgmma'."],
  [
    "cooperative.with('x', {}, { prefetch: 99 })",
    `option-value
  3 | export default cooperative.with('x', {}, { prefetch: 99 });
    |                                                      ^^
  prefetch of barriers() is 99.`,
  ],
  ["resolvePlan('nope')", "unknown plan 'nope'"],
];

// A file takes half a second to be read.
test.each(oneOf(3, wrong))('a plan file with %s is refused with its line', async (made, line) => {
  const file = join(folder, 'edit.ts');
  writeFileSync(
    file,
    `import { barriers, dealt, into, own, plan, stage, stream, tiles } from 'onelaunch/codegen';\nimport { resolvePlan } from 'onelaunch/configs'; const cooperative = await resolvePlan('cooperative');\nexport default ${made.startsWith('resolve') ? 'await ' : ''}${made};\n`,
  );
  const error = await failureOf(resolvePlan(file));
  expect(error).toMatchObject({ kind: 'usage' });
  expect(error.message).toContain(line);
  expect(error.message).not.toContain('cannot read plan');
});

test.each([
  [
    "const { plan } = require('onelaunch/codegen');",
    'required.cjs',
    /^write it as a module, without require/,
  ],
  [
    "import { plan } from 'onelaunch/codegen';",
    'imported.cjs',
    /^write it as a module.* in a file called .*\.ts or \.mjs$/,
  ],
  ['export default await 1;', 'awaits.cts', /^write it as a module.* in a file called .*\.ts or \.mjs$/],
  ["import 'onelaunch/codgen';", 'misspelt.ts', /^start it with: import/],
  ['export default owned({});', 'unknown.ts', /^start it with: import/],
  ['throw "mine";', 'thrown.ts', /^a plan file is run/],
  ['process.exit(0);', 'ends.ts', /^a plan file is run/],
  ["import 'no-such-package';", 'missing.ts', /^a plan file is run/],
  ['', 'empty.ts', /^end the file with: export default/],
])('a plan file with %j is refused with a hint for it', async (text, name, hint) => {
  const file = join(folder, name);
  writeFileSync(file, text);
  const error = await failureOf(resolvePlan(file));
  expect(error).toMatchObject({ hint: expect.stringMatching(hint), kind: 'usage' });
  // A place, where there is one, is of the file.
  expect(error.message.replace(`(${name}:`, '')).not.toMatch(/\([\w.]+:\d+:\d+\)$/);
});

test('a plan file that ends the process is refused with its line, and who else ends it meanwhile does', async () => {
  const ended = vi.fn();
  const exit = vi.spyOn(process, 'exit').mockImplementation(ended as unknown as typeof process.exit);
  const isUsual = () => Object.is(process.exit, exit);
  const file = join(folder, 'exits.mts');
  writeFileSync(file, 'await new Promise((resolve) => setTimeout(resolve, 300));\nprocess.exit(0);\n');
  const refused = Promise.all([failureOf(resolvePlan(file)), failureOf(resolvePlan(file))]);
  await until(
    () => !isUsual(),
    () => 'a plan file that is imported',
  );
  (process.exit as (code: number) => void)(3);
  for (const { message } of await refused)
    expect(message).toMatch(/: process\.exit\(0\) is called \(exits\.mts:\d+:\d+\)$/);
  expect(isUsual()).toBe(true);
  expect(ended.mock.calls).toEqual([[3]]);
  exit.mockRestore();
});

const command = bundled('cli/main.ts');
afterAll(() => rmSync(command.folder, { recursive: true }));
const explainedBy = (program: readonly string[], file: string, more: readonly string[]) => {
  const flags = ['--model', 'qwen3-tiny', '--target', 'cpu', '--plan', file, ...more];
  return spawnSync(process.execPath, [...program, 'explain', ...flags], { encoding: 'utf8' });
};
const explained = (file: string, ...more: readonly string[]) => explainedBy([command.path], file, more);
/** The command in a checkout, where a loader of its own reads the sources. */
const explainedInCheckout = (file: string, ...more: readonly string[]) =>
  explainedBy(['--import', 'tsx', join(packageRoot(), 'cli', 'main.ts')], file, more);

test('a plan file that waits for what never comes ends the command with a line', () => {
  const file = join(folder, 'waits.ts');
  writeFileSync(file, 'await new Promise(() => {});\nexport default 1;\n');
  const { status, stderr } = explained(file);
  expect(stderr).toContain('error: what is waited for never comes');
  expect(stderr).toContain('hint: ');
  expect(status).toBe(1);
  const json = explained(file, '--json');
  expect(JSON.parse(json.stdout).error).toMatchObject({ kind: 'failed', exitCode: 1 });
  expect([json.stderr, json.status]).toEqual(['', 1]);
});

test.each([
  ["Promise.reject(new Error('late'));", 'late (later.ts:3:16)'],
  ["for (const what of ['first', 'second']) Promise.reject(what);", 'first'],
  ["setTimeout(() => { throw new TypeError('timer'); }, 0);", 'timer (later.ts:3:26)'],
])('what nobody catches of a plan file is a line with its name: %s', (text, said) => {
  const file = join(folder, 'later.ts');
  const words = "import { resolvePlan } from 'onelaunch/configs';";
  writeFileSync(file, `${words}\nexport default await resolvePlan('cooperative');\n${text}\n`);
  const { status, stderr, stdout } = explained(file, '--json');
  const { error } = JSON.parse(stdout.trim().split('\n').at(-1)!);
  expect(error).toMatchObject({ kind: 'usage', exitCode: 2, name: 'OnelaunchError' });
  expect(error.message).toBe(`nobody catches what is thrown in plan ${file}: ${said}`);
  expect([stderr, status]).toEqual(['', 2]);
});

test('what nobody catches of a plan file, or ends the process, is told of a path with parentheses, and without a line, too', () => {
  const own = join(folder, 'a plan (mine)');
  mkdirSync(own);
  writeFileSync(join(own, 'helper.ts'), "setTimeout(() => { throw new Error('helped'); }, 0);\n");
  const file = join(own, 'later.ts');
  const words = "import { resolvePlan } from 'onelaunch/configs';";
  const uncaught = `nobody catches what is thrown in plan ${file}`;
  const ended = `the process is ended by plan ${file}: process.exit(0) is called`;
  for (const [text, said] of [
    ["Promise.reject(new Error('late'));", `${uncaught}: late (later.ts:3:16)`],
    ["import './helper.ts';", `${uncaught}: helped (helper.ts)`],
    ['setTimeout(process.exit, 0, 0);', ended],
    ...(thorough
      ? ([
          ["Promise.reject(Object.assign(new Error('bare'), { stack: undefined }));", `${uncaught}: bare`],
          ['setTimeout(() => process.exit(0), 0);', `${ended} (later.ts:3:26)`],
        ] as const)
      : []),
  ] as const) {
    writeFileSync(file, `${words}\nexport default await resolvePlan('cooperative');\n${text}\n`);
    const { status, stderr } = (thorough ? explainedInCheckout : explained)(file);
    expect(stderr.split('\n')[0]).toBe(`error: ${said}`);
    expect(status).toBe(2);
  }
});

test('what a plan file prints is on stderr: stdout has the data alone', () => {
  const file = join(folder, 'prints.ts');
  writeFileSync(
    file,
    "import { resolvePlan } from 'onelaunch/configs';\nconsole.log('logged');\nprocess.stdout.write('written\\n');\nsetTimeout(() => console.log('later'), 0);\nexport default await resolvePlan('cooperative');\n",
  );
  const { status, stdout, stderr } = explained(file, '--json');
  expect(JSON.parse(stdout)).toMatchObject({ plan: 'cooperative' });
  expect(stderr.split('\n').slice(0, 2)).toEqual(['logged', 'written']);
  expect(status).toBe(0);
});

test('a plan file may import another, which waits for a plan that ships', () => {
  writeFileSync(
    join(folder, 'first.ts'),
    "import { resolvePlan } from 'onelaunch/configs';\nconst shipped = await resolvePlan('cooperative');\nexport default shipped.with('first', {}, { tokens: 3 });\n",
  );
  const file = join(folder, 'second.ts');
  writeFileSync(file, "import first from './first.ts';\nexport default first.with('second', {});\n");
  const { status, stdout, stderr } = explained(file);
  expect(stderr).not.toContain('error');
  expect(stdout).toContain('plan second: 6 layers, up to 3 tokens a pass');
  expect(status).toBe(0);
});

test('a plan file that throws is refused with the line that does', () => {
  const file = join(folder, 'throws.ts');
  writeFileSync(
    file,
    "import { plan } from 'onelaunch/codegen';\n\nexport default plan('x', []).wiht('y', {});\n",
  );
  const { status, stderr } = explainedInCheckout(file);
  expect(stderr).toContain('wiht is not a function (throws.ts:3:30)\nhint: a plan file is run as it stands');
  expect(status).toBe(2);
});

test('an op of a plan file that cannot be printed is shown in lines of its own', () => {
  const file = join(folder, 'captures.ts');
  writeFileSync(
    file,
    "import { barriers, pointwise, type f32 } from 'onelaunch/codegen';\nimport { resolvePlan } from 'onelaunch/configs';\nconst k = 2;\nconst scaled = pointwise((gate: f32, up: f32) => gate * up * k);\nconst shipped = await resolvePlan('cooperative');\nexport default shipped.with('scaled', {}, barriers(), { ops: { swiglu: scaled } });\n",
  );
  const { status, stderr } = explained(file);
  expect(stderr).toContain('error: an op of the plan cannot be printed\n');
  expect(stderr).toContain('\n4 const scaled = pointwise((gate: f32, up: f32) => gate * up * k);\n');
  expect(status).toBe(2);
});
