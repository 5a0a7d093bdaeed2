// Journals: what a killed writer leaves, what is refused, and shards that become one.
import { appendFileSync, existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, describe, expect, it, vi } from 'vitest';
import { headerOf } from '../../cli/experiment.ts';
import { memoryIo } from '../../cli/io.ts';
import { run as cli } from '../../cli/run.ts';
import { compilersHere } from '../../codegen/build/recipe.ts';
import cooperative from '../../configs/plans/cooperative.ts';
import { targetNamed } from '../../configs/targets.ts';
import { explore } from '../../lab/explore.ts';
import { openJournal, readJournal, writeJournal } from '../../lab/journal.ts';
import type { JournalRecord } from '../../lab/journal-records.ts';
import { isOfShard, merged } from '../../lab/merge.ts';
import { readInput } from '../../lab/report/read.ts';
import { experimentSections } from '../../lab/report/sections/experiments.ts';
import { readTensors } from '../../runtime/weights/safetensors.ts';
import { weightsIdentity } from '../../runtime/weights/weights-identity.ts';
import { header, idOf, run, timed, variant } from '../support/fake-journal.ts';

const folder = mkdtempSync(join(tmpdir(), 'onelaunch-journal-'));
afterAll(() => rmSync(folder, { recursive: true }));
let files = 0;
const fresh = () => join(folder, `${++files}.jsonl`);

const records: readonly JournalRecord[] = [
  run(),
  variant(0),
  variant(1),
  timed(0, 0, 1, 400.5),
  timed(1, 0, 1, 410.25),
];

/** What a record is made into where the disk is full. */
const onFullDisk = () => {
  throw Object.assign(new Error('no space'), { code: 'ENOSPC' });
};

async function written(path = fresh()): Promise<string> {
  await writeJournal(path, header, records);
  return path;
}

describe('a journal', () => {
  it('is read as it was written', async () => {
    expect(readJournal(await written())).toMatchObject({ header, records });
  });

  it('goes on from its last whole line, wherever its writer was killed', async () => {
    const whole = readFileSync(await written());
    for (let length = 0; length <= whole.length; length += 29) {
      const path = fresh();
      writeFileSync(path, whole.subarray(0, length));
      const journal = await openJournal(path, header);
      const before = journal.records.length;
      expect(journal.records).toEqual(records.slice(0, before));
      for (const record of records.slice(before)) journal.append(record);
      journal.close();
      expect(readFileSync(path, 'utf8')).toBe(whole.toString('utf8'));
    }
  });

  it('has builds whose compiler was killed for who builds nothing alone', async () => {
    const path = fresh();
    const killed: JournalRecord = {
      ...{ kind: 'built', id: variant(1).id, seconds: 0, resources: [], problem: 'killed', killed: true },
    };
    await writeJournal(path, header, [variant(0), variant(1), killed]);
    for (const builds of [true, false]) {
      const journal = await openJournal(path, header, builds);
      expect(journal.records).toHaveLength(builds ? 2 : 3);
      journal.close();
    }
    expect(readJournal(path).records).toHaveLength(3);
  });

  it('is not written over another', async () => {
    const path = await written();
    const before = readFileSync(path);
    await expect(writeJournal(path, header, [])).rejects.toThrow(`${path} is there already`);
    expect(readFileSync(path)).toEqual(before);
  });

  it('of another experiment is refused by what differs', async () => {
    const path = await written();
    await expect(openJournal(path, { ...header, model: 'qwen3-0.6b' })).rejects.toThrow(
      `${path} is of another experiment: its model is "m", not "qwen3-0.6b"`,
    );
    await expect(openJournal(path, { ...header, shard: '1/2' })).rejects.toThrow(
      'its shard is none, not "1/2"',
    );
    await expect(openJournal(path, { ...header, ownTarget: { name: 'cpu', bandwidth: 1 } })).rejects.toThrow(
      `${path} is of another experiment: the figures of its target 'cpu' are others`,
    );
    // What is refused can be opened again: its lock was let go.
    (await openJournal(path, header)).close();
    await expect(openJournal(path, { ...header, formats: { weights: 'int8' } })).rejects.toThrow(
      'its formats is none, not {"weights":"int8"}',
    );
    await expect(openJournal(path, { ...header, pollCycles: '1200' })).rejects.toThrow(
      'its ONELAUNCH_POLL_CYCLES is none, not "1200"',
    );
    // Other formats are another kernel, too, which says less.
    await expect(
      openJournal(path, { ...header, base: 'ffffffffffff', formats: { weights: 'int8' } }),
    ).rejects.toThrow('its formats is none, not {"weights":"int8"}');
  });

  it('is told with the formats that were asked for', async () => {
    const path = fresh();
    await writeJournal(path, { ...header, formats: { weights: 'int8', cache: 'int8' } }, records);
    const { io, written } = memoryIo();
    expect(await cli(['explore', 'list', path], io)).toBe(0);
    expect(written.err).toContain(`${path}: m (weights int8, cache int8), cpu, `);
    expect(experimentSections(readInput([path]).experiments).join('')).toContain(
      '<h2>Variants: m (weights int8, cache int8), ',
    );
  });

  it('is of poll delays that the environment sets, where a target polls', () => {
    vi.stubEnv('ONELAUNCH_POLL_CYCLES', '1200,0');
    const of = (target: string) => {
      const checked = { dims: { name: 'm' }, target: targetNamed(target) };
      return headerOf({ checked, base: cooperative, positions: [1] } as never, idOf(0), {} as never, header);
    };
    const [gpu, cpu] = [of('h100'), of('cpu')];
    vi.unstubAllEnvs();
    expect(gpu.pollCycles).toBe('1200,0');
    expect(cpu).not.toHaveProperty('pollCycles');
  });

  it('has one writer', async () => {
    const path = fresh();
    const journal = await openJournal(path, header);
    await expect(openJournal(path, header)).rejects.toThrow(`another process writes ${path}`);
    journal.close();
  });

  it.each([
    ['no JSON\n', 'line 2 of', 'it is not JSON'],
    ['{"kind":"timed"}\n', 'line 2 of', 'id: '],
    [`${JSON.stringify(header)}\n`, 'line 2 of', 'a second header'],
    [`${JSON.stringify({ ...run(), more: 1 })}\n`, 'line 2 of', 'of a journal: Unrecognized key: "more"'],
  ])('with %j in it is none', async (text, line, why) => {
    const path = fresh();
    writeFileSync(path, `${JSON.stringify(header)}\n`);
    appendFileSync(path, text);
    const read = () => readJournal(path);
    expect(read).toThrow(line);
    expect(read).toThrow(why);
  });

  it('of another format is one, for another version to read', () => {
    const path = fresh();
    writeFileSync(path, `${JSON.stringify({ ...header, format: 2, version: '9.9.9', more: 1 })}\n`);
    expect(() => readJournal(path)).toThrow(
      expect.objectContaining({
        message: `${path} is a journal of format 2, and this version reads format 1`,
        hint: 'onelaunch 9.9.9 wrote it',
      }),
    );
  });

  it('that begins with something else is none', () => {
    const path = fresh();
    writeFileSync(path, `${JSON.stringify(run())}\n`);
    expect(() => readJournal(path)).toThrow('it is no header of a journal');
    expect(() => readJournal(fresh())).toThrow('there is no journal');
  });

  it.each(['{"precious": 1}', '{"kind":"other"', '\0\0', 'text'])(
    'is not made of %j, whose line has no end',
    async (text) => {
      const path = fresh();
      writeFileSync(path, text);
      await expect(openJournal(path, header)).rejects.toThrow('it is no header of a journal');
      expect(readFileSync(path, 'utf8')).toBe(text);
    },
  );

  it('of which not even the header can be written leaves nothing', async () => {
    const path = fresh();
    const endless = { ...header, toJSON: onFullDisk };
    await expect(openJournal(path, endless)).rejects.toThrow('no space');
    expect([path, `${path}.lock`].map(existsSync)).toEqual([false, false]);
  });

  it('that cannot be written is said so', async () => {
    await expect(openJournal(join(folder, 'none', 'j.jsonl'), header)).rejects.toMatchObject({
      kind: 'environment',
      message: expect.stringMatching(/^cannot write /),
    });
  });
});

describe('shards', () => {
  it('have every variant once, and the incumbent each', () => {
    const of = (part: number) => [...Array(10).keys()].filter((i) => isOfShard(i, { part, parts: 3 }));
    expect([of(1), of(2), of(3)].flat().sort((a, b) => a - b)).toEqual([0, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9]);
  });

  it('become one journal that tells each variant once', async () => {
    const [a, b] = [fresh(), fresh()];
    await writeJournal(a, { ...header, shard: '1/2' }, [run(), variant(0), variant(1), timed(0, 0, 1, 400)]);
    await writeJournal(b, { ...header, shard: '2/2' }, [run(), variant(0), variant(2), timed(0, 0, 1, 300)]);
    const { header: one, records: all } = merged([a, b]);
    expect(one).toEqual(header);
    expect(all).toEqual([
      run(),
      variant(0),
      variant(1),
      timed(0, 0, 1, 400),
      run(),
      variant(2),
      timed(0, 0, 1, 300),
    ]);
  });

  /** Journals of these shards, without rounds. */
  const shardsOf = (...shards: readonly (string | null)[]) =>
    Promise.all(
      shards.map(async (shard, i) => {
        const path = fresh();
        await writeJournal(path, { ...header, shard }, [run(null), variant(0), variant(i + 1)]);
        return path;
      }),
    );

  it.each([
    [['1/3', '3/3'], '1,3/3'],
    [['10/11', '9/11', '10/11'], '9,10/11'],
    [['1,3/3', '2/3'], null],
    [['1/1', '1/1'], null],
    [[null, '2/3'], null],
  ])('%j have the parts %j together', async (shards, together) => {
    expect(merged(await shardsOf(...shards)).header).toEqual({ ...header, shard: together });
  });

  it('of two partitions are refused', async () => {
    const [a, b, c] = await shardsOf('1/2', '2/2', '1,3/3');
    expect(() => merged([a!, b!, c!])).toThrow(`${c} is of 3 shards, and ${a} of 2`);
  });

  it.each(['9/3', '0/3', '1,4/3', '1/0', '1/99999999999999999999'])(
    '%s are refused by name',
    async (shard) => {
      const [a, b] = await shardsOf('1/3', shard);
      const why = `line 1 of ${b} is no record of a journal: shard: ${shard} names a part that there is not`;
      expect(() => merged([a!, b!])).toThrow(why);
    },
  );

  it('that are not all are told where they are merged, and where that is listed', async () => {
    const journal = fresh();
    const { io, written } = memoryIo();
    expect(await cli(['explore', 'merge', ...(await shardsOf('1/3', '3/3')), '--journal', journal], io)).toBe(
      0,
    );
    expect(written.err).toBe(
      `note: variants of other shards are missing: ${journal} has shard 1,3 of 3\n${journal}: m, cpu, not timed yet, shard 1,3 of 3\n`,
    );
  });

  it('are refused where rounds would count twice, in a part of a journal, too', async () => {
    const [a, b, all] = [fresh(), fresh(), fresh()];
    const begun = [run(null), run(), variant(0), timed(0, 0, 1, 400)];
    await writeJournal(a, { ...header, shard: '1/2' }, [...begun, timed(0, 0, 200, 300)]);
    await writeJournal(b, { ...header, shard: '2/2' }, [run(null), run(), variant(0), timed(0, 0, 1, 401)]);
    await writeJournal(all, header, merged([a, b]).records);
    expect(() => merged([a, all])).toThrow(`${all} has rounds that ${a} has, too`);
    const part = fresh();
    await writeJournal(part, { ...header, shard: '1/2' }, begun);
    expect(() => merged([a, part])).toThrow(`${part} has rounds that ${a} has, too`);
  });

  it('of which one cannot be written leave nothing', async () => {
    const path = fresh();
    const endless = { ...variant(0), plan: { name: 'base', toJSON: onFullDisk } };
    await expect(writeJournal(path, header, [run(), endless])).rejects.toThrow('its disk is full');
    expect(existsSync(path)).toBe(false);
  });

  it('of another experiment or device are refused', async () => {
    const [a, b, c] = [fresh(), fresh(), fresh()];
    await writeJournal(a, header, [run()]);
    await writeJournal(b, { ...header, tokens: 9 }, [run()]);
    await writeJournal(c, header, [run('another device')]);
    expect(() => merged([a, b])).toThrow(`${b} is of another experiment than ${a}: its tokens is 9, not 64`);
    expect(() => merged([a, c])).toThrow(`${c} was timed on another device, and ${a} on a device`);
  });

  it('of another checkpoint are refused', async () => {
    const [a, b, c] = [fresh(), fresh(), fresh()];
    await writeJournal(a, { ...header, shard: '1/3' }, [{ ...run(), weights: idOf(1) } as JournalRecord]);
    await writeJournal(b, { ...header, shard: '2/3' }, [run(null)]);
    await writeJournal(c, { ...header, shard: '3/3' }, [{ ...run(), weights: idOf(2) } as JournalRecord]);
    expect(merged([a, b]).header.shard).toBe('1,2/3');
    expect(() => merged([a, b, c])).toThrow(`${c} is of other weights than ${a}`);
  });

  it('of kernels by another compiler are refused', async () => {
    const [a, b] = [fresh(), fresh()];
    await writeJournal(a, { ...header, shard: '1/2' }, [{ ...run(), compiler: 'g++ 12' } as JournalRecord]);
    await writeJournal(b, { ...header, shard: '2/2' }, [{ ...run(), compiler: 'clang 19' } as JournalRecord]);
    expect(() => merged([a, b])).toThrow(`${b} is of kernels by clang 19, and ${a} of those by g++ 12`);
  });
});

describe('a journal that is gone on from', () => {
  const tensors = readTensors(join(import.meta.dirname, '../fixtures/qwen3-micro'));
  const weights = weightsIdentity(tensors).slice(0, 12);
  /** What is appended first. */
  const first = (records: readonly JournalRecord[], more: object = {}) =>
    new Promise((appended, failed) => {
      const append = (record: JournalRecord) => {
        appended(record);
        throw new Error('enough');
      };
      const input = { mode: 'all', randomWeights: false, budget: null, ...more };
      const checked = { target: { kind: 'cpu' }, files: { tensors } };
      const strategy = { strategy: 'grid', rounds: 1, together: 2, final: false } as const;
      const candidates = [{ record: variant(0), plan: cooperative }];
      const journal = { path: 'a.jsonl', records, append, close: () => {} };
      explore({ candidates, strategy }, journal, { ...input, checked } as never).catch(failed);
    });
  const begun = (of: string) => ({ ...run(null), weights: of }) as JournalRecord;

  it('has the checkpoint of each run, and goes on with no other', async () => {
    expect(await first([])).toMatchObject({ kind: 'run', weights });
    expect(await first([begun(weights), run()])).toMatchObject({ weights });
    await expect(first([begun(weights), begun(idOf(1))])).rejects.toThrow(
      'a.jsonl is of other weights than the model has',
    );
  });

  it('has the compilers of each run, and goes on with no others', async () => {
    const compiler = compilersHere('cpu')!;
    const by = (one: string) => ({ ...begun(weights), compiler: one }) as JournalRecord;
    expect(await first([by(compiler)])).toMatchObject({ kind: 'run', compiler });
    await expect(first([by('g++ 1.0')])).rejects.toThrow(
      `a.jsonl is of kernels by g++ 1.0, and these are by ${compiler}`,
    );
    // Where they were built does not have to be here.
    expect(await first([by('g++ 1.0')], { mode: 'measure' })).not.toHaveProperty('compiler');
  });

  it('has none where nothing is timed, or weights are random', async () => {
    for (const more of [{ mode: 'build' }, { randomWeights: true }])
      expect(await first([begun(idOf(1))], more)).not.toHaveProperty('weights');
  });
});
