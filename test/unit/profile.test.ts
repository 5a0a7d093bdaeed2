// Profiles: what the library of a CPU writes down, and what is made of it. CUDA's text is compiled in test/compile/golden-kernels.test.ts.
import { join } from 'node:path';
import { beforeAll, describe, expect, it } from 'vitest';
import { memoryIo } from '../../cli/io.ts';
import { buildWithProgress } from '../../cli/load-kernel.ts';
import { createUi } from '../../cli/ui.ts';
import { packageRoot } from '../../codegen/build/package-root.ts';
import { generate } from '../../codegen/index.ts';
import type { Schedule } from '../../codegen/schemes/index.ts';
import { resolveModel, resolvePlan, resolveTarget } from '../../configs/resolve.ts';
import { spreadOf } from '../../lab/measure.ts';
import { flowsOf } from '../../lab/profile/flows.ts';
import {
  costOf,
  onePass,
  profilePage,
  recordProfile,
  shownEvents,
  summarize,
  traceFile,
  traceOf,
} from '../../lab/profile/index.ts';
import type { TraceEvent } from '../../lab/profile/trace.ts';
import { visitsOf } from '../../lab/profile/visits.ts';
import { type BuiltKernel, buildKernel, openEngine } from '../../load.ts';
import { type EngineHandle, type Functions, layout } from '../../runtime/engine/bindings.ts';
import { type Phase, type TrackEvent, takeEvents } from '../../runtime/engine/profile-events.ts';
import { buildQuickly } from '../support/quick-builds.ts';

const micro = join(packageRoot(), 'test', 'fixtures', 'qwen3-micro');
const position = 5;
const tokens = 3;
const threads = 2;

let built: BuiltKernel;
let events: readonly TrackEvent[];
let schedule: Schedule;

buildQuickly();
beforeAll(async () => {
  built = await buildKernel({ model: micro, target: 'cpu', profile: true });
  schedule = built.kernel.schedule;
  const { engine } = await openEngine(built, { threads, context: 64 });
  try {
    const work = { position, tokens, runs: 1 };
    const runs: number[] = [];
    const pair = { kernel: 'k', plain: engine, profiled: engine };
    const profile = await recordProfile(pair, work, {
      signal: new AbortController().signal,
      onRun: (run) => runs.push(run),
    });
    expect(runs).toEqual([-1, 0]);
    expect(profile.missed).toBe(0);
    expect(engine.position).toBe(position + 1 + tokens);
    events = profile.events;
  } finally {
    engine.close();
  }
});

it('is built beside the library that says what was chosen, and says it no second time', async () => {
  const { io, written } = memoryIo();
  await buildWithProgress(createUi(io, { color: false }), { model: micro, target: 'cpu', profile: true });
  expect(written.err.trim()).toBe('qwen3-micro-cpu-cooperative, for profiles: built before');
  await buildWithProgress(createUi(io, { color: false }), { model: 'qwen3-tiny', target: 'cpu' });
  expect(written.err).toContain('plan cooperative: ');
});

const tracks = () => {
  const blocks = [...new Set(events.map((event) => event.block))];
  return blocks.map((block) => events.filter((event) => event.block === block));
};

describe('the events of a CPU', () => {
  it('are of every thread, and of no pass but those of the reply', () => {
    expect(tracks().map(([first]) => first!.block)).toEqual([0, 1]);
    const positions = new Set(events.map((event) => event.position));
    expect([...positions]).toEqual([position + 1, position + 2, position + 3]);
    expect(new Set(events.map((event) => event.role))).toEqual(new Set(['block']));
  });

  it('lie behind each other: a pass is the sum of its phases', () => {
    for (const track of tracks()) {
      for (const [i, event] of track.entries()) {
        expect(event.end).toBeGreaterThanOrEqual(event.begin);
        const before = track[i - 1];
        if (before?.position === event.position) expect(event.begin).toBe(before.end);
        else if (before) expect(event.begin).toBeGreaterThanOrEqual(before.end);
      }
    }
    const [pass] = tracks().map((track) => track.filter((event) => event.position === position + 2));
    const sum = pass!.reduce((all, event) => all + event.end - event.begin, 0);
    expect(sum).toBe(pass!.at(-1)!.end - pass![0]!.begin);
  });

  it('know every stage in every layer, and end each by waiting for the others', () => {
    const { layers } = schedule.dims;
    const expected = [
      ...['embed 2'],
      ...Array.from({ length: layers }, (_, layer) =>
        ['qkv', 'attention', 'attn_out', 'ffn_up', 'ffn_down'].map((stage) => `${stage} ${layer}`),
      ).flat(),
      ...['head 2', 'sample 2'],
    ];
    for (const track of tracks()) {
      for (const at of [1, 2, 3]) {
        const visits = visitsOf(track.filter((event) => event.position === position + at));
        expect(visits.map(({ stage, layer }) => `${schedule.stages[stage]!.name} ${layer}`)).toEqual(
          expected,
        );
        for (const visit of visits) {
          expect(visit.events.map((event) => event.phase)).toEqual(['compute', 'others']);
        }
      }
    }
  });
});

it('events that come while they are fetched are fetched too', () => {
  const size = layout.find(({ name }) => name === 'ProfileEvent')!.size;
  const known = [2, 3, 3];
  const rooms: number[] = [];
  const { events, missed } = takeEvents((start) => {
    const count = known[rooms.length]!;
    const ol_profile = (_: unknown, words: Int32Array | null, room: number, counts: Int32Array) => {
      rooms.push(room);
      counts.set([count, 7]);
      if (words && room >= count) words.fill(1, 0, (count * size) / 4);
      return 0;
    };
    start({ ol_profile } as unknown as Functions, {} as EngineHandle);
  });
  expect(rooms).toEqual([0, 2, 3]);
  expect(events.map(({ position }) => position)).toEqual([1, 1, 1]);
  expect(missed).toBe(7);
});

it('a library that was not built for profiling says so', async () => {
  const plain = await buildKernel({ model: 'qwen3-tiny', target: 'cpu' });
  const { engine } = await openEngine(plain, { threads: 1, context: 16, randomWeights: { seed: 1 } });
  try {
    expect(() => engine.takeProfile()).toThrow('the library was not built for profiling');
  } finally {
    engine.close();
  }
});

/** Two blocks of a stream: block 1 is late with what block 0 waits for. */
const stretch = (
  block: number,
  stage: number,
  phase: Phase,
  begin: number,
  end: number,
  layer = 1,
): TrackEvent => ({
  ...{ block, role: 'first', stage, layer, phase, begin, end, position: 9 },
});

describe('the summary', () => {
  it('adds up by stage and phase: means over blocks and tokens, and the block that works longest', () => {
    const made = [
      ...[
        stretch(0, 0, 'weights', 0, 1000),
        stretch(0, 0, 'compute', 1000, 4000),
        stretch(0, 1, 'others', 4000, 9000),
      ],
      ...[
        stretch(1, 0, 'weights', 0, 3000),
        stretch(1, 0, 'compute', 3000, 8000),
        stretch(1, 1, 'publish', 8000, 9000),
      ],
    ];
    const { stages, total, blocks, producer } = summarize(made, ['a', 'b', 'never']);
    expect({ total, blocks, producer }).toEqual({ total: 9, blocks: 2, producer: null });
    expect(stages.map(({ stage }) => stage)).toEqual(['a', 'b']);
    expect(stages[0]).toMatchObject({
      ...{ visits: 1, total: 6, mean: { weights: 2, others: 0, compute: 4, meet: 0, publish: 0 } },
      slowest: { block: 1, working: 8 },
    });
    expect(stages[0]!.share).toBeCloseTo(2 / 3);
    expect(stages[1]).toMatchObject({ total: 3, slowest: { block: 1, working: 1 } });
  });

  it('of a real profile is as long as its passes', () => {
    const { total, stages } = summarize(
      events,
      schedule.stages.map((stage) => stage.name),
    );
    const all = events.reduce((sum, event) => sum + event.end - event.begin, 0);
    expect(total).toBeCloseTo(all / 1000 / tokens / threads, 6);
    expect(stages.reduce((sum, { share }) => sum + share, 0)).toBeCloseTo(1, 6);
  });

  it('says what profiling costs only where it is seen', () => {
    const overhead = (...ratios: number[]) => ({
      without: spreadOf([1]),
      with: spreadOf([1]),
      ratio: spreadOf(ratios),
    });
    expect(costOf(overhead(0.99, 1.02, 1.03))).toBe('less than runs differ (-1.0 % to 3.0 %)');
    expect(costOf(overhead(1.05, 1.07, 1.1))).toBe('7.0 % (5.0 % to 10.0 %)');
  });
});

describe('what is drawn', () => {
  it('are blocks spread over all, and the pass in the middle', () => {
    const made = Array.from({ length: 10 }, (_, block) => stretch(block, 0, 'compute', 0, 1));
    expect(shownEvents(made, 3).map((event) => event.block)).toEqual([0, 3, 6]);
    expect(shownEvents(made, 99)).toHaveLength(10);
    expect(new Set(onePass(events).map((event) => event.position))).toEqual(new Set([position + 2]));
  });
});

describe('flows', () => {
  it('lead from the block that made an exchange last to those that waited for it', async () => {
    const { dims } = resolveModel(micro);
    const plan = await resolvePlan('stream');
    const stream = (await generate({ dims, plan, target: resolveTarget('h100') })).schedule;
    const at = (name: string) => stream.stages.findIndex((stage) => stage.name === name);
    const made = [
      ...[stretch(0, at('ffn_up'), 'publish', 0, 10), stretch(0, at('ffn_down'), 'others', 10, 40)],
      ...[stretch(1, at('ffn_up'), 'publish', 0, 30), stretch(1, at('ffn_down'), 'others', 30, 35)],
      ...[stretch(1, at('ffn_down'), 'publish', 35, 50, 0), stretch(0, at('qkv'), 'others', 40, 55)],
    ];
    const flows = flowsOf(stream, made).map(({ name, from, to }) => [
      name,
      from.block,
      from.end,
      to.block,
      to.begin,
    ]);
    expect(flows).toEqual([
      ['h', 1, 30, 0, 10],
      ['x', 1, 50, 0, 40],
    ]);
  });

  it('of barriers lead from the last to arrive', () => {
    const flows = flowsOf(schedule, events);
    expect(flows.length).toBeGreaterThan(0);
    for (const { name, from, to } of flows) {
      expect(name).toBe('barrier');
      expect([from.stage, from.layer, from.position]).toEqual([to.stage, to.layer, to.position]);
      expect(from.block).not.toBe(to.block);
    }
  });
});

describe('the trace', () => {
  it('has what Perfetto reads: slices that nest, names, flows that begin and end in slices', () => {
    const text = traceFile(traceOf(schedule, events), { kernel: 'k' });
    const { traceEvents, otherData } = JSON.parse(text) as {
      traceEvents: TraceEvent[];
      otherData: Record<string, string>;
    };
    expect(otherData).toEqual({ kernel: 'k' });
    const slices = traceEvents.filter((event) => event.ph === 'X');
    for (const slice of slices) {
      for (const number of [slice.ts, slice.dur, slice.pid, slice.tid])
        expect(Number.isFinite(number)).toBe(true);
    }
    const close = 1e-6;
    const around = (event: TraceEvent, kind: string) =>
      slices.filter(
        (slice) =>
          slice.cat === kind &&
          slice.pid === event.pid &&
          slice.tid === event.tid &&
          slice.ts! <= event.ts! + close &&
          slice.ts! + slice.dur! >= event.ts! + (event.dur ?? 0) - close,
      );
    for (const phase of slices.filter((slice) => slice.cat === 'phase')) {
      expect(around(phase, 'stage').length).toBeGreaterThan(0);
    }
    const threadsNamed = traceEvents
      .filter((event) => event.name === 'thread_name')
      .map((event) => event.pid);
    expect(threadsNamed).toEqual([0, 1]);
    const ends = traceEvents.filter((event) => event.ph === 's' || event.ph === 'f');
    expect(ends.length).toBeGreaterThan(0);
    for (const end of ends) {
      expect(around(end, 'phase').length).toBeGreaterThan(0);
      expect(ends.filter((other) => other.id === end.id).map((other) => other.ph)).toEqual(['s', 'f']);
    }
  });
});

describe('the page', () => {
  const html = () => {
    const overhead = { without: spreadOf([100]), with: spreadOf([95]), ratio: spreadOf([1.05]) };
    const about = {
      kernel: 'a<b',
      launch: null,
      sequences: 1,
      device: 'CPU & more',
      position,
      tokens,
      runs: 1,
      missed: 0,
      events,
      overhead,
    };
    const summary = summarize(
      events,
      schedule.stages.map((stage) => stage.name),
    );
    return profilePage(schedule, about, summary, { shown: onePass(events) });
  };

  it('is one file: no address, no script, nothing that is fetched', () => {
    expect(html()).not.toMatch(/https?:|src=|<script|<link|@import|url\(/);
  });

  it('says in a table what its drawings show, and escapes names', () => {
    const text = html();
    expect(text).toContain('a&lt;b');
    expect(text).toContain('CPU &amp; more');
    for (const { name } of schedule.stages) expect(text).toContain(`<td>${name}</td>`);
    expect(text).toContain('5.0 % (5.0 % to 5.0 %)');
  });
});
