// gen simulate: no fault of the shipped plans, one for every sync that is left out, and how to repeat it.
import { describe, expect, test } from 'vitest';
import { memoryIo } from '../../cli/io.ts';
import { run } from '../../cli/run.ts';
import { makeSchedule } from '../../codegen/index.ts';
import type { TinyRun } from '../../codegen/schemes/scheme.ts';
import { models } from '../../configs/models.ts';
import { resolvePlan, resolveTarget } from '../../configs/resolve.ts';
import { runsFor, simulateAll, syncName, tinySchedule, withoutSync } from '../../lab/simulate.ts';

async function gen(...args: readonly string[]) {
  const { io, written } = memoryIo();
  return { code: await run(['simulate', ...args], io), ...written };
}

const model = models.find(({ name }) => name === 'qwen3-0.6b')!;
const tinyOf = async (plan: string, target: string) =>
  tinySchedule(model, await resolvePlan(plan), resolveTarget(target));

describe('a tiny schedule', () => {
  test.each(['cooperative', 'stream', 'stream-unsplit', 'stream-rotated-merged'])(
    'of %s has the syncs of the real one, each under a name of its own',
    async (plan) => {
      const { schedule } = await tinyOf(plan, 'h100');
      const whole = makeSchedule(model, await resolvePlan(plan), resolveTarget('h100'));
      const names = schedule.syncs.map(syncName);
      expect(new Set(names).size).toBe(names.length);
      expect(names).toEqual(whole.syncs.map(syncName));
    },
  );

  // What blocks pass by moves the sync of the cache: qwen2.5-0.5b has more tiles of qkv than blocks, smollm2-135m fewer.
  // Heads are rotated in fours, whatever the tiny ones have.
  test.each([
    ['qwen2.5-0.5b', 'stream'],
    ['smollm2-135m', 'stream'],
    ['smollm2-135m', 'stream-rotated'],
  ])('of a narrow residual, of %s with %s, has them too', async (name, named) => {
    const narrow = models.find((one) => one.name === name)!;
    const [plan, target] = [await resolvePlan(named), resolveTarget('h100')];
    const { schedule } = tinySchedule(narrow, plan, target);
    expect(schedule.syncs.map(syncName)).toEqual(makeSchedule(narrow, plan, target).syncs.map(syncName));
  });

  test.each([
    ['cooperative', 'cpu'],
    ['stream', 'h100'],
  ])('of %s on %s misses every sync that is left out', async (plan, target) => {
    const tiny = await tinyOf(plan, target);
    for (const name of tiny.schedule.syncs.map(syncName)) {
      const less = withoutSync(tiny, name);
      const runs = runsFor(less, { first: 1, seeds: 3 });
      let seen = false;
      for (const one of runs) seen ||= (await simulateAll(less, [one], () => {})).faults.length > 0;
      expect(seen, name).toBe(true);
    }
  });
});

test('runs of a million seeds are made as they are asked for', async () => {
  const tiny = await tinyOf('cooperative', 'cpu');
  const few = [...runsFor(tiny, { first: 7, seeds: 2 })];
  const many = runsFor(tiny, { first: 7, seeds: 1_000_000 });
  expect(many.length).toBe(few.length * 500_000);
  const made: TinyRun[] = [];
  for (const run of many) if (made.push(run) === few.length) break;
  expect(made).toEqual(few);
  expect(new Set(few.map(({ seed }) => seed))).toEqual(new Set([7, 8]));
});

describe('gen simulate', () => {
  const asked = ['--model', 'qwen3-0.6b', '--target', 'cpu', '--plan', 'cooperative'];

  test('says that there is no fault', async () => {
    const { code, out } = await gen(...asked, '--seeds', '1');
    expect(out).toBe('no fault in 12 interleavings\n');
    expect(code).toBe(0);
  });

  test('says what a missing sync does, and repeats it with the flags that it prints', async () => {
    const dropped = [...asked, '--drop', 'grid after attn_out', '--seeds', '1'];
    const { code, out } = await gen(...dropped);
    expect(code).toBe(1);
    const [, fault, again] = /^(race: .*)\n.* again with (.*)$/m.exec(out)!;
    const repeated = await gen(...dropped, ...again!.split(' '));
    expect(repeated.out).toContain(fault);
  });

  test('takes the number of a sync too', async () => {
    const list = JSON.parse((await gen(...asked, '--list-syncs', '--json')).out) as { name: string }[];
    const { out } = await gen(...asked, '--drop', String(list.length - 1), '--json', '--seeds', '1');
    expect((JSON.parse(out) as { faults: object[] }).faults.length).toBeGreaterThan(0);
  });

  test.each([
    [['--drop', 'grid after attn_uot'], "the schedule has no sync 'grid after attn_uot'", 'did you mean'],
    [['--drop', '99'], "the schedule has no sync '99'", 'numbered 0 to'],
  ])('refuses %j', async (flags, line, hint) => {
    const { code, err } = await gen(...asked, ...flags, '--seeds', '1');
    expect(code).toBe(2);
    expect(err).toContain(`error: ${line}`);
    expect(err).toContain(hint);
  });

  test('runs what is listed twice once', async () => {
    const { code, out } = await gen(...asked, ...'--pass-tokens 2,2 --at 1,0,1 --seeds 1 --json'.split(' '));
    const once = await gen(...asked, ...'--pass-tokens 2 --at 1,0 --seeds 1 --json'.split(' '));
    expect(code).toBe(0);
    expect(JSON.parse(out)).toEqual(JSON.parse(once.out));
  });

  test('ends with Ctrl-C', async () => {
    const stop = new AbortController();
    const { io, written } = memoryIo({ signal: stop.signal });
    const running = run(['simulate', ...asked, '--seeds', '10000'], io);
    setTimeout(() => stop.abort(new DOMException('interrupted', 'AbortError')), 500);
    expect(await running).toBe(130);
    expect(written.err).toContain('interrupted');
  });
});
