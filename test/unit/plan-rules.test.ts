// Each rule has one smallest illegal plan, in test/illegal, and its whole message.
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { makeSchedule } from '../../codegen/index.ts';
import type { ModelDims } from '../../codegen/model/dims.ts';
import { decoderGraph, type OpName } from '../../codegen/model/graph.ts';
import { checkPlan, isLegal } from '../../codegen/plan/check.ts';
import { formatIssues, PlanError } from '../../codegen/plan/issue.ts';
import { parsePlan } from '../../codegen/plan/parse-plan.ts';
import {
  byContext,
  type FusionPlan,
  into,
  plan,
  stage,
  stream as streamScheme,
} from '../../codegen/plan/plan.ts';
import { models } from '../../configs/models.ts';
import cooperative from '../../configs/plans/cooperative.ts';
import stream from '../../configs/plans/stream.ts';
import unfused from '../../configs/plans/unfused.ts';
import { planNames, resolvePlan } from '../../configs/resolve.ts';
import { targetNamed, targets } from '../../configs/targets.ts';
import { OnelaunchError } from '../../errors.ts';
import { around } from '../illegal/around.ts';
import cannotDeal from '../illegal/cannot-deal.ts';
import emptyPlan from '../illegal/empty-plan.ts';
import layerBehindTheEnd from '../illegal/layer-behind-the-end.ts';
import mixedParts from '../illegal/mixed-parts.ts';
import nameTwice from '../illegal/name-twice.ts';
import opBeforeItsInput from '../illegal/op-before-its-input.ts';
import opMissing from '../illegal/op-missing.ts';
import opTwice from '../illegal/op-twice.ts';
import opUnknown from '../illegal/op-unknown.ts';
import recomputeOfAWriter from '../illegal/recompute-of-a-writer.ts';
import recomputedElsewhere from '../illegal/recomputed-elsewhere.ts';
import rowsDiffer from '../illegal/rows-differ.ts';
import severalIssues from '../illegal/several-issues.ts';
import sharedMemoryOverBudget from '../illegal/shared-memory-over-budget.ts';
import splitWithoutAttend from '../illegal/split-without-attend.ts';
import stageName from '../illegal/stage-name.ts';
import storedBySeveralWorkers from '../illegal/stored-by-several-workers.ts';
import syncInsideStage from '../illegal/sync-inside-stage.ts';
import tokens from '../illegal/tokens.ts';
import twoMatmuls from '../illegal/two-matmuls.ts';

const modelOf = (name: string): ModelDims => models.find((model) => model.name === name)!;
const targetOf = (name: string) => targetNamed(name)!;
const check = (made: FusionPlan, model = 'qwen3-0.6b', target = 'h100') =>
  checkPlan(decoderGraph(modelOf(model)), made, targetOf(target));
const message = (made: FusionPlan, model?: string, target?: string) =>
  formatIssues(check(made, model, target));

describe('each rule refuses its smallest illegal plan:', () => {
  test('empty-plan', () => {
    expect(message(emptyPlan)).toMatchInlineSnapshot(`
      "empty-plan.ts:4:22: error: empty-plan
        4 | export default plan('empty-plan', []);
          |                      ^^^^^^^^^^
        plan 'empty-plan' has no stages."
    `);
  });
  test('op-unknown', () => {
    expect(message(opUnknown)).toMatchInlineSnapshot(`
      "op-unknown.ts:10:25: error: op-unknown
        10 |       stage('attend', ['atend'], { over: 'kv_heads' }),
           |                         ^^^^^
        there is no op 'atend'.
        Legal here: 'attend'."
    `);
  });
  test('op-missing', () => {
    expect(message(opMissing)).toMatchInlineSnapshot(`
      "op-missing.ts:5:16: error: op-missing
        5 | export default plan('op-missing', around([stage('o_proj', ['o_proj'], { over: 'rows' })], ['attn_add']));
          |                ^^^^
        plan 'op-missing' never runs attn_add, and ffn_norm needs its x.
        Legal here: put it after o_proj in stage 'o_proj'; or add stage('attn_add', ['attn_add'], { over: 'rows' }) after stage 'o_proj'."
    `);
  });
  test('op-twice', () => {
    expect(message(opTwice)).toMatchInlineSnapshot(`
      "op-twice.ts:9:23: error: op-twice
        9 |     stage('ffn_up', ['ffn_norm', 'gate_up'], { over: 'rows', recompute: ['ffn_norm'] }),
          |                       ^^^^^^^^
        ffn_norm already runs in stage 'ffn_norm'.
        Legal here: leave it out here."
    `);
  });
  test('mixed-parts', () => {
    expect(message(mixedParts)).toMatchInlineSnapshot(`
      "mixed-parts.ts:7:37: error: mixed-parts
        7 |   around([stage('start', ['embed', 'attn_norm'], { over: 'rows', recompute: ['attn_norm'] })]),
          |                                     ^^^^^^^^^
        attn_norm runs in every layer, but embed of stage 'start' runs before the layers.
        Legal here: end stage 'start' before attn_norm."
    `);
  });
  test('op-before-its-input', () => {
    expect(message(opBeforeItsInput)).toMatchInlineSnapshot(`
      "op-before-its-input.ts:8:21: error: op-before-its-input
        8 |     stage('rope', ['rope'], { over: 'kv_heads' }),
          |                     ^^^^
        rope needs qn, which qk_norm makes later, in stage 'qk_norm'.
        Legal here: move it after qk_norm in stage 'qk_norm'; or move it before kv_append in stage 'kv_append'; or move stage 'rope' after stage 'qk_norm'."
    `);
  });
  test('recompute-of-a-writer', () => {
    expect(message(recomputeOfAWriter)).toMatchInlineSnapshot(`
      "recompute-of-a-writer.ts:7:80: error: recompute-of-a-writer
        7 |   around([stage('o_proj', ['o_proj', 'attn_add'], { over: 'rows', recompute: ['o_proj'] })]),
          |                                                                                ^^^^^^
        o_proj stores o for other blocks, and recomputed it would be stored by every block.
        Legal here: leave o_proj out of recompute."
    `);
  });
  test('sync-inside-stage', () => {
    expect(message(syncInsideStage)).toMatchInlineSnapshot(`
      "sync-inside-stage.ts:7:56: error: sync-inside-stage
        7 |   around([stage('attention', ['attend', 'attn_merge', 'o_proj'], { over: 'q_heads' })]),
          |                                                        ^^^^^^
        o_proj needs all of att, but in stage 'attention' each block makes only its own q head.
        Legal here: end stage 'attention' before o_proj."
    `);
  });
  test('two-matmuls', () => {
    expect(message(twoMatmuls)).toMatchInlineSnapshot(`
      "two-matmuls.ts:8:47: error: sync-inside-stage
        8 |     stage('attn_out', ['o_proj', 'attn_add', 'ffn_norm', 'gate_up'], {
          |                                               ^^^^^^^^
        ffn_norm needs all of x, but in stage 'attn_out' each block makes only its own rows.
        Legal here: end stage 'attn_out' before ffn_norm.

      two-matmuls.ts:8:59: error: two-matmuls
        8 |     stage('attn_out', ['o_proj', 'attn_add', 'ffn_norm', 'gate_up'], {
          |                                                           ^^^^^^^
        stage 'attn_out' already has the product o_proj, and a block has room for the input of one.
        Legal here: end stage 'attn_out' before ffn_norm."
    `);
  });
  test('rows-differ', () => {
    expect(message(rowsDiffer)).toMatchInlineSnapshot(`
      "rows-differ.ts:7:41: error: sync-inside-stage
        7 |   around([stage('ffn_up', ['attn_add', 'ffn_norm', 'gate_up'], { over: 'rows', recompute: ['ffn_norm'] })]),
          |                                         ^^^^^^^^
        ffn_norm needs all of x, but in stage 'ffn_up' each block makes only its own rows.
        Legal here: end stage 'ffn_up' before ffn_norm.

      rows-differ.ts:7:53: error: rows-differ
        7 |   around([stage('ffn_up', ['attn_add', 'ffn_norm', 'gate_up'], { over: 'rows', recompute: ['ffn_norm'] })]),
          |                                                     ^^^^^^^
        gate_up has 3072 rows, but attn_add of stage 'ffn_up' has 1024 rows, so blocks would take others.
        Legal here: end stage 'ffn_up' before ffn_norm."
    `);
  });
  test('cannot-deal', () => {
    expect(message(cannotDeal)).toMatchInlineSnapshot(`
      "cannot-deal.ts:5:62: error: cannot-deal
        5 | export default plan('cannot-deal', around([stage('attend', ['attend'], { over: 'rows' })]));
          |                                                              ^^^^^^
        attend works on heads, so it cannot be dealt over 'rows'.
        Legal here: deal the stage over 'q_heads'; or deal the stage over 'kv_heads'."
    `);
  });
  test('stored-by-several-workers', () => {
    expect(message(storedBySeveralWorkers)).toMatchInlineSnapshot(`
      "stored-by-several-workers.ts:7:30: error: stored-by-several-workers
        7 |   around([stage('qk_norm', ['qk_norm'], { over: 'q_heads' })]),
          |                              ^^^^^^^
        qk_norm stores a whole kv head of kn, but stage 'qk_norm' gives a block one q head: several blocks would store the same kv head.
        Legal here: deal the stage over 'kv_heads'."
    `);
  });
  test('split-without-attend', () => {
    expect(message(splitWithoutAttend)).toMatchInlineSnapshot(`
      "split-without-attend.ts:7:73: error: split-without-attend
        7 |   around([stage('kv_append', ['kv_append'], { over: 'kv_heads', split: 'positions' })]),
          |                                                                         ^^^^^^^^^
        stage 'kv_append' cuts the positions, but only attend works on positions.
        Legal here: leave out split."
    `);
  });
  test('stage-name', () => {
    expect(message(stageName)).toMatchInlineSnapshot(`
      "stage-name.ts:5:50: error: stage-name
        5 | export default plan('stage-name', around([stage('attn out', ['o_proj', 'attn_add'], { over: 'rows' })]));
          |                                                  ^^^^^^^^
        'attn out' cannot be the name of a function: two or more of a-z, 0-9 and _, a letter first.
        Legal here: 'attn_out'."
    `);
  });
  test('tokens', () => {
    expect(message(tokens)).toMatchInlineSnapshot(`
      "tokens.ts:7:58: error: tokens
        7 | export default plan('tokens', stages, barriers({ tokens: 12 }));
          |                                                          ^^
        a pass has 1 to 8 tokens on h100, not 12.
        Legal here: tokens: 8; or tokens: 'many'."
    `);
  });
  test('shared-memory-over-budget', () => {
    expect(message(sharedMemoryOverBudget, 'qwen3-8b', 'rtx4090')).toMatchInlineSnapshot(`
      "shared-memory-over-budget.ts:8:22: error: shared-memory-over-budget
        8 |   barriers({ tokens: 8 }),
          |                      ^
        a pass of 8 tokens needs 393 KiB of shared memory a block, and rtx4090 has 99.
        Legal here: tokens: 1; or tokens: 'many'."
    `);
  });
});

describe('a plan is refused', () => {
  test('with all its issues at once, in source order, one an op', () => {
    expect(message(severalIssues)).toMatchInlineSnapshot(`
      "several-issues.ts:8:45: error: sync-inside-stage
        8 |     stage('qkv', ['attn_norm', 'qkv_proj', 'qk_norm'], { over: 'rows', recompute: ['attn_norm'] }),
          |                                             ^^^^^^^
        qk_norm needs a whole q head of q, but in stage 'qkv' each block makes only its own rows.
        Legal here: end stage 'qkv' before qk_norm.

      several-issues.ts:9:26: error: stored-by-several-workers
        9 |     stage('attention', ['rope', 'kv_append', 'attend'], { over: 'kv_heads', split: 'positions' }),
          |                          ^^^^
        rope stores a whole q head of qr, but stage 'attention' gives a block one split of the positions: several blocks would store the same q head.
        Legal here: recompute: ['rope']; or leave out split; or give rope a stage of its own.

      several-issues.ts:10:12: error: stage-name
        10 |     stage('attn out', ['attn_merge', 'o_proj'], { over: 'rows' }),
           |            ^^^^^^^^
        'attn out' cannot be the name of a function: two or more of a-z, 0-9 and _, a letter first.
        Legal here: 'attn_out'.

      several-issues.ts:10:25: error: cannot-deal
        10 |     stage('attn out', ['attn_merge', 'o_proj'], { over: 'rows' }),
           |                         ^^^^^^^^^^
        attn_merge works on q heads, so it cannot be dealt over 'rows'.
        Legal here: recompute: ['attn_merge']; or give attn_merge a stage of its own."
    `);
  });

  test('where recomputed results are read by another stage', () => {
    expect(message(recomputedElsewhere)).toMatchInlineSnapshot(`
      "recomputed-elsewhere.ts:7:79: error: recompute-of-a-writer
        7 |   around([stage('rope', ['qk_norm', 'rope'], { over: 'kv_heads', recompute: ['rope'] })]),
          |                                                                               ^^^^
        rope is recomputed, so its kr stays in the block, but kv_append in stage 'kv_append' reads it.
        Legal here: leave rope out of recompute."
    `);
  });

  test('where a stage of the layer stands behind the end', () => {
    expect(message(layerBehindTheEnd)).toMatchInlineSnapshot(`
      "layer-behind-the-end.ts:7:64: error: mixed-parts
        7 | export default plan('layer-behind-the-end', [...others, stage('ffn_add', ['ffn_add'], { over: 'rows' })]);
          |                                                                ^^^^^^^
        stage 'ffn_add' runs in every layer, but stands after stage 'sample', which runs after the layers.
        Legal here: move it before stage 'final_norm'."
    `);
  });

  test('where two stages have one name', () => {
    expect(message(nameTwice)).toMatchInlineSnapshot(`
      "name-twice.ts:5:50: error: stage-name
        5 | export default plan('name-twice', around([stage('embed', ['o_proj', 'attn_add'], { over: 'rows' })]));
          |                                                  ^^^^^
        another stage is called 'embed' too.
        Legal here: 'o_proj_attn_add'."
    `);
  });

  test('where one token is too much for the shared memory', () => {
    const graph = decoderGraph({ ...modelOf('qwen3-8b'), ffn: 28672 });
    expect(formatIssues(checkPlan(graph, unfused, targetOf('rtx4090')))).toMatchInlineSnapshot(`
      "unfused.ts:4:22: error: shared-memory-over-budget
        4 | export default plan('unfused', [
          |                      ^^^^^^^
        a pass of 1 token needs 121 KiB of shared memory a block, and rtx4090 has 99."
    `);
  });
});

test.each([
  [1, 'less than 1'],
  [1023 * 3, '2'],
])('%i bytes of shared memory are told as %s KiB', (sharedBytes, told) => {
  const small = { ...targetOf('rtx4090'), sharedBytes };
  const issues = formatIssues(checkPlan(decoderGraph(modelOf('qwen3-8b')), unfused, small));
  expect(issues).toMatch(new RegExp(` KiB of shared memory a block, and rtx4090 has ${told}\\.$`, 'm'));
});

describe('the built-in plans', () => {
  test('are legal, all of them, for every model on every target', async () => {
    const plans = await Promise.all(planNames().map(resolvePlan));
    expect(plans.length).toBeGreaterThanOrEqual(17);
    for (const dims of models) {
      const graph = decoderGraph(dims);
      for (const target of targets()) {
        for (const made of plans) {
          const what = `${made.name} for ${dims.name} on ${target.name}`;
          expect(checkPlan(graph, made, target), what).toEqual([]);
        }
      }
    }
  });

  test('make schedules whose conflicts all have a sync, each plan for some model on some target', async () => {
    const plans = await Promise.all(planNames().map(resolvePlan));
    const all = targets();
    for (const [i, made] of plans.entries()) {
      // Steps that share no divisor with the lengths, so that plans meet models and targets in all mixtures.
      const dims = models[(7 * i) % models.length]!;
      const target = all[(3 * i) % all.length]!;
      expect(makeSchedule(dims, made, target).plan.name).toBe(made.name);
    }
  });

  test('become illegal when any two neighbouring stages change places', () => {
    const graph = decoderGraph(modelOf('qwen3-0.6b'));
    for (const [i, first] of unfused.stages.entries()) {
      const second = unfused.stages[i + 1];
      if (!second) continue;
      const swapped = { ...unfused, stages: unfused.stages.with(i, second).with(i + 1, first) };
      expect(isLegal(graph, swapped, targetOf('h100')), `${second.name}, ${first.name}`).toBe(false);
    }
  });
});

test('a model without qk_norm passes over it, alone in a stage or not', () => {
  expect(check(unfused, 'llama-3.2-1b')).toEqual([]);
  expect(check(cooperative, 'llama-3.2-1b')).toEqual([]);
});

test('what the messages call legal is legal', () => {
  const fixed = plan('fixed', around([stage('qk_norm', ['qk_norm'], { over: 'kv_heads' })]));
  expect(check(storedBySeveralWorkers)[0]!.legal).toEqual(["deal the stage over 'kv_heads'"]);
  expect(check(fixed)).toEqual([]);
});

describe('a message', () => {
  test('points at the literal, not at the same word in the name or in recompute', () => {
    const ops: OpName[] = ['o_proj', 'attn_add'];
    const bad = plan('bad', around([stage('o_proj', ops, { over: 'rows', recompute: ['o_proj'] })]));
    const [place, line, carets] = message(bad).split('\n') as [string, string, string];
    expect(line.slice(carets.indexOf('^') - 1)).toMatch(/^'o_proj'\] \}/);
    expect(place).toMatch(/^plan-rules.test.ts:\d+:\d+: error: recompute-of-a-writer$/);
  });

  test('points at the call where the literal is made elsewhere', () => {
    const name = `attn ${'out'}`;
    const bad = plan('bad', around([stage(name, ['o_proj', 'attn_add'], { over: 'rows' })]));
    const [, line, carets] = message(bad).split('\n') as [string, string, string];
    expect(line.slice(carets.indexOf('^'), carets.lastIndexOf('^') + 1)).toBe('stage');
  });

  test('does without the line where the source cannot be read', () => {
    const at = { file: '/nowhere/my-plan.js', line: 3, column: 7 };
    const issue = { ...check(tokens)[0]!, at };
    expect(formatIssues([issue])).toMatchInlineSnapshot(`
      "my-plan.js:3:7: error: tokens
        a pass has 1 to 8 tokens on h100, not 12.
        Legal here: tokens: 8; or tokens: 'many'."
    `);
  });

  test('keeps tabs, and finds files that a loader gave a query', () => {
    const directory = mkdtempSync(join(tmpdir(), 'plan '));
    const file = join(directory, 'my-plan.ts');
    writeFileSync(file, "\tstage('x',\t['atend'], { over: 'rows' })\n");
    const at = { file: `${encodeURI(file)}?namespace=7`, line: 1, column: 2 };
    const issue = { ...check(opUnknown)[0]!, at };
    const text = formatIssues([issue]);
    rmSync(directory, { recursive: true });
    expect(text).toMatchInlineSnapshot(`
      "my-plan.ts:1:15: error: op-unknown
        1 | 	stage('x',	['atend'], { over: 'rows' })
          | 	          	  ^^^^^
        there is no op 'atend'.
        Legal here: 'attend'."
    `);
  });

  test('finds a stage by its name where the loader kept no line', () => {
    const lost = { file: '', line: 0, column: 0 };
    const stages = severalIssues.stages.map((made) => ({ ...made, at: lost }));
    const made = parsePlan({ ...severalIssues, stages, at: lost }, severalIssues.at.file);
    expect(message(made)).toBe(message(severalIssues));
  });

  test('is the text of a PlanError, a usage error', () => {
    const issues = check(tokens);
    const error = new PlanError(issues);
    expect(error).toMatchObject({ name: 'PlanError', kind: 'usage', issues });
    expect(error.message).toBe(formatIssues(issues));
  });
});

describe('a plan from a file', () => {
  const made = JSON.parse(JSON.stringify(unfused)) as Record<string, unknown>;
  const atBarriers = (options: Record<string, unknown>) => {
    return { ...made, scheme: { ...unfused.scheme, ...options } };
  };
  const streamed = (options: Record<string, unknown>) => {
    return { ...stream, scheme: { ...stream.scheme, ...options } };
  };

  test('of the right shape is taken as it is', () => {
    expect(parsePlan(made)).toEqual(unfused);
    expect(parsePlan(JSON.parse(JSON.stringify(stream)))).toEqual(stream);
    const growing = streamed({ splits: byContext({ 1: 0, 4: 192 }), slotBytes: 8192, copiesInFlight: 2 });
    expect(parsePlan(JSON.parse(JSON.stringify(growing)))).toEqual(growing);
  });

  test('can be varied like one that was written', () => {
    const varied = parsePlan(made).with('varied', { attn_add: into('o_proj') });
    expect(check(varied)).toEqual([]);
    expect(varied.stages).toHaveLength(unfused.stages.length - 1);
  });

  test('a scheme written before an option was there has it as where nobody asks', () => {
    expect(parsePlan({ ...made, scheme: { kind: 'stream' } }).scheme).toEqual(streamScheme());
  });

  test.each([
    ['nothing', undefined],
    ['a function', () => unfused],
    ['a scheme that does not exist', atBarriers({ kind: 'ring' })],
    ['a plan without a scheme', { ...made, scheme: undefined }],
    ['a stream that lacks an option', streamed({ slots: undefined })],
    ['a stream with an option of barriers', streamed({ prefetch: 1 })],
    ['a ring of too few slots', streamed({ slots: 3 })],
    ['a ring of too many slots', streamed({ slots: 65 })],
    ['nothing in flight', streamed({ copiesInFlight: 0 })],
    ['half a slot in flight', streamed({ headCopiesInFlight: 1.5 })],
    ['slots of another size', streamed({ slotBytes: 10000 })],
    ['slots as a word', streamed({ slotBytes: '16 KiB' })],
    ['a handoff that does not exist', streamed({ handoff: 'semaphore' })],
    ['a negative first position of splits', streamed({ splits: [{ splits: 4, from: -1 }] })],
    ['no splits', streamed({ splits: [] })],
    ['splits as a number', streamed({ splits: 4 })],
    ['an option that does not exist', atBarriers({ threads: 256 })],
    ['a negative prefetch', atBarriers({ prefetch: -1 })],
    ['tokens as a word', atBarriers({ tokens: 'few' })],
    ['a dealing that does not exist', { ...made, stages: [{ ...unfused.stages[0], over: 'columns' }] }],
    ['a stage that is not dealt', { ...made, stages: [{ ...unfused.stages[0], over: undefined }] }],
    ['ops that are no list', { ...made, stages: [{ ...unfused.stages[0], ops: 'embed' }] }],
    ['a stage that is no stage', { ...made, stages: ['embed'] }],
  ])('%s is refused', (name, value) => {
    expect(refusal(value)).toBe(refusals[name]);
  });
});

const refusal = (value: unknown): string => {
  try {
    parsePlan(value);
  } catch (error) {
    if (error instanceof PlanError) return error.issues.map(({ why, known }) => `${why}; ${known}`)[0]!;
    if (error instanceof OnelaunchError && error.kind === 'usage') return `${error.message}; ${error.hint}`;
  }
  return 'accepted';
};

/** The message and its hint; of an option why it is refused, and what it takes. */
const refusals: Readonly<Record<string, string>> = {
  nothing: 'there is no default export; end the file with: export default plan(name, [stage(...), ...])',
  'a function':
    'the default export is no plan; end the file with: export default plan(name, [stage(...), ...])',
  'a scheme that does not exist': `plan.scheme.kind is 'ring'; there is: 'barriers', 'stream', 'tiles'`,
  'a plan without a scheme': 'plan.scheme is missing; it must be of type object',
  'a stream that lacks an option': 'slots of stream() is missing; It takes: a whole number from 4 to 64',
  'a stream with an option of barriers': `stream() has no option 'prefetch': it is one of barriers(); It has: 'slots', 'slotBytes', 'copiesInFlight', 'headCopiesInFlight', 'handoff', 'splits', 'copy', 'blocks', 'pollCycles', 'tokens'`,
  'a ring of too few slots': 'slots of stream() is 3; It takes: a whole number from 4 to 64',
  'a ring of too many slots': 'slots of stream() is 65; It takes: a whole number from 4 to 64',
  'nothing in flight': `copiesInFlight of stream() is 0; It takes: 'fit', a whole number from 1 to 16`,
  'half a slot in flight': 'headCopiesInFlight of stream() is 1.5; It takes: a whole number from 1 to 16',
  'slots of another size': `slotBytes of stream() is 10000; It takes: 'fit', 4096, 8192, 16384, 32768`,
  'slots as a word': `slotBytes of stream() is '16 KiB'; It takes: 'fit', 4096, 8192, 16384, 32768`,
  'a handoff that does not exist': `handoff of stream() is 'semaphore'; It takes: 'sentinel', 'epoch'`,
  'a negative first position of splits': `splits of stream() is [{'splits':4,'from':-1}]; It takes: 'fit', byContext({ splits: position }) of 1 to 16 splits`,
  'no splits': `splits of stream() is []; It takes: 'fit', byContext({ splits: position }) of 1 to 16 splits`,
  'splits as a number': `splits of stream() is 4; It takes: 'fit', byContext({ splits: position }) of 1 to 16 splits`,
  'an option that does not exist': `barriers() has no option 'threads'; It has: 'prefetch', 'prefetchBy', 'blocks', 'warps', 'loadBits', 'loadsInFlight', 'buffers', 'producers', 'barrier', 'inputs', 'inputBits', 'tokens'`,
  'a negative prefetch': 'prefetch of barriers() is -1; It takes: a whole number from 0 to 8',
  'tokens as a word': `tokens of barriers() is 'few'; It takes: 'many', a whole number`,
  'a dealing that does not exist': `over of stage 'embed' is 'columns'; It takes: 'rows', 'q_heads', 'kv_heads', 'tokens', 'once'`,
  'a stage that is not dealt': `over of stage 'embed' is missing; It takes: 'rows', 'q_heads', 'kv_heads', 'tokens', 'once'`,
  'ops that are no list': "plan.stages[0].ops is 'embed'; it must be a list",
  'a stage that is no stage': "plan.stages[0] is 'embed'; it must be of type object",
};
