// gen explore as processes: interrupted, killed, in shards, and always the same table; a wrong variant is never timed.
import { spawn } from 'node:child_process';
import { mkdtempSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterAll, beforeAll, describe, expect, it, vi } from 'vitest';
import { z } from 'zod';
import { memoryIo } from '../../cli/io.ts';
import { run } from '../../cli/run.ts';
import { packageRoot } from '../../codegen/build/package-root.ts';
import { readJournal } from '../../lab/journal.ts';
import { randomFrom } from '../../lab/random.ts';
import { bundled } from '../support/bundled.ts';
import { thorough } from '../support/thorough.ts';

const root = packageRoot();
const folder = mkdtempSync(join(tmpdir(), 'onelaunch-explore-'));
const at = (name: string) => join(folder, name);
afterAll(() => {
  vi.unstubAllEnvs();
  rmSync(folder, { recursive: true });
  rmSync(program.folder, { recursive: true });
});

const micro = [
  '--model',
  join(root, 'test', 'fixtures', 'qwen3-micro'),
  '--target',
  'cpu',
  '--plan',
  'cooperative',
];
/** Three kernels beside each other: as many as tell shards, groups and the final apart. */
const short = ['--positions', '1,20', '--tokens', '8', '--rounds', '3', '--together', '2', '--threads', '1'];
const explored = [...micro, ...short, '--vary', 'attn_norm=own,tokens=many,1', '--json'];
const program = bundled('cli/main.ts');
/** Explorations that are killed. */
const kills = Number(process.env['ONELAUNCH_TEST_KILLS'] ?? (thorough ? 2 : 1));

/** What does not depend on how long anything took. */
const outcome = z.object({
  variants: z.array(
    z.object({
      id: z.string(),
      label: z.string(),
      state: z.string(),
      hashes: z.array(z.string().nullable()),
      worst: z.number(),
    }),
  ),
});
const tableOf = (json: string) =>
  outcome.parse(JSON.parse(json)).variants.sort((a, b) => a.label.localeCompare(b.label));

function start(...args: readonly string[]) {
  const child = spawn(process.execPath, [program.path, 'explore', ...args], {
    cwd: root,
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  const written = { out: '', err: '' };
  child.stdout.on('data', (data: Buffer) => (written.out += data.toString()));
  child.stderr.on('data', (data: Buffer) => (written.err += data.toString()));
  const ended = new Promise<number | string>((resolve) => {
    child.on('close', (code, signal) => resolve(code ?? signal ?? 'gone'));
  });
  return { child, written, ended };
}

const inProcess = async (...args: readonly string[]) => {
  const { io, written } = memoryIo();
  const code = await run(args, io);
  return { code, ...written };
};

let whole: { readonly table: ReturnType<typeof tableOf>; readonly bytes: number };

beforeAll(async () => {
  const { written, ended } = start(...explored, '--journal', at('whole.jsonl'), '--out', at('best.ts'));
  expect(await ended, written.err).toBe(0);
  whole = { table: tableOf(written.out), bytes: statSync(at('whole.jsonl')).size };
});

describe('gen explore', () => {
  it('verifies, times and ranks every variant, and writes the best', async () => {
    expect(whole.table.map(({ label, state }) => [label, state])).toEqual([
      ['cooperative', 'timed'],
      ['cooperative+attn_norm=own:tokens', 'timed'],
      ['cooperative+attn_norm=own:tokens+tokens=1', 'timed'],
    ]);
    const { code, out, err } = await inProcess('explain', ...micro.slice(0, 4), '--plan', at('best.ts'));
    expect(code, err).toBe(0);
    expect(out).toContain('embed');
  });

  it('verifies before it times', () => {
    const { records } = readJournal(at('whole.jsonl'));
    const first = (kind: string, id: string) =>
      records.findIndex((one) => one.kind === kind && 'id' in one && one.id === id);
    for (const { id } of whole.table) {
      expect(first('verified', id)).toBeGreaterThan(first('built', id));
      expect(first('timed', id)).toBeGreaterThan(first('verified', id));
    }
  });

  it('with a budget builds what is to be timed next, and comes to the same table', async () => {
    const path = at('budget.jsonl');
    const { code, out, err } = await inProcess(
      ...['explore', ...explored, '--journal', path, '--jobs', '1', '--budget', '1h'],
    );
    expect(code, err).toBe(0);
    expect(tableOf(out)).toEqual(whole.table);
    const steps = readJournal(path).records.flatMap((one) =>
      one.kind === 'built' || one.kind === 'timed' ? [one.kind] : [],
    );
    expect(steps.filter((kind, i) => kind !== steps[i - 1])).toEqual(['built', 'timed', 'built', 'timed']);
  });

  it('begins nothing behind its budget, and says how far it came', async () => {
    const path = at('no-budget.jsonl');
    const { code, out, err } = await inProcess(
      ...['explore', ...explored, '--journal', path, '--budget', '0.000001s'],
    );
    expect(code, err).toBe(0);
    expect(err).toMatch(
      /^the budget is used up after .* s, nothing timed, 0 of 3 kernels built: the same command goes on$/m,
    );
    expect(tableOf(out.replaceAll('"worst":null', '"worst":0')).map(({ state }) => state)).toEqual([
      ...['found', 'found', 'found'],
    ]);
    expect(readJournal(path).records.map(({ kind }) => kind)).toEqual([
      ...['run', 'variant', 'variant', 'variant', 'done'],
    ]);
  });

  it('that only builds begins no build behind its budget, and goes on without', async () => {
    const path = at('built.jsonl');
    const building = ['explore', ...explored, '--journal', path, '--build-only'];
    const none = await inProcess(...building, '--budget', '0.000001s');
    expect(none.code, none.err).toBe(0);
    expect(none.err).toMatch(
      /^the budget is used up after .* s, nothing timed, 0 of 3 kernels built: the same/m,
    );
    const all = await inProcess(...building, '--budget', '1h');
    expect(all.code, all.err).toBe(0);
    expect(all.err).toMatch(/^all is built after .* s: time it with --measure-only$/m);
  });

  it('that is interrupted and killed at random moments comes to the same table', async () => {
    const next = randomFrom(Date.now());
    for (let round = 0, left = kills; left > 0; round++) {
      const path = at(`killed-${round}.jsonl`);
      const size = () => statSync(path, { throwIfNoEntry: false })?.size ?? 0; // it may be made and taken away: it is tried
      const some = Math.min(left, 2);
      left -= some;
      for (const signal of ['SIGINT' as const, ...Array<'SIGKILL'>(some).fill('SIGKILL')]) {
        const { child, written, ended } = start(...explored, '--journal', path);
        const goal = size() + next() * (whole.bytes - size());
        let over = false;
        ended.then(() => (over = true));
        while (size() < goal && !over) await sleep(2);
        child.kill(signal);
        const how = await ended;
        // One that had nothing left to do may have ended by itself, or prints its table while it hears.
        if (how === 0 || written.err.includes('all is timed')) continue;
        expect(how, written.err).toBe(signal === 'SIGINT' ? 130 : signal);
        if (signal === 'SIGINT')
          expect(written.err).toContain(`${path}: the same command goes on from there`);
        expect(() => readJournal(path)).not.toThrow();
      }
      const { written, ended } = start(...explored, '--journal', path);
      expect(await ended, written.err).toBe(0);
      expect(tableOf(written.out)).toEqual(whole.table);
    }
  });

  it('in two shards at once, merged, is one run', async () => {
    const shards = [1, 2].map((part) =>
      start(...explored, '--shard', `${part}/2`, '--journal', at(`${part}.jsonl`)),
    );
    for (const { written, ended } of shards) expect(await ended, written.err).toBe(0);
    const { code, out, err } = await inProcess(
      ...['explore', 'merge', at('1.jsonl'), at('2.jsonl'), '--journal', at('merged.jsonl'), '--json'],
    );
    expect(code, err).toBe(0);
    expect(tableOf(out)).toEqual(whole.table);
    const listed = await inProcess('explore', 'list', at('merged.jsonl'));
    expect(listed.out).toContain('cooperative+attn_norm=own:tokens');
  });

  it('times what was built before, and refuses what was not', async () => {
    const only = ['--build-only', '--journal', at('halves.jsonl')];
    const built = await inProcess('explore', ...explored, ...only);
    expect(tableOf(built.out.replaceAll('"worst":null', '"worst":0')).map(({ state }) => state)).toEqual(
      Array(3).fill('built'),
    );
    const timed = await inProcess('explore', ...explored, '--measure-only', '--journal', at('halves.jsonl'));
    expect(tableOf(timed.out)).toEqual(whole.table);
    const cache = process.env['ONELAUNCH_CACHE'];
    vi.stubEnv('ONELAUNCH_CACHE', at('nothing'));
    const refused = await inProcess(
      ...['explore', ...explored, '--measure-only', '--journal', at('none.jsonl')],
    );
    vi.stubEnv('ONELAUNCH_CACHE', cache);
    expect(refused.out).toContain('is not built in');
    expect(refused.code).toBe(3);
  });
});

it('gen ablate names a plan that computes something else, and never times it', async () => {
  const relu = `import { type f32, pointwise } from 'onelaunch/codegen';
import { resolvePlan } from 'onelaunch/configs';
const swiglu = pointwise((gate: f32, up: f32) => Math.max(gate, 0) * up);
export default (await resolvePlan('cooperative')).with('relu', {}, {}, { ops: { swiglu } });
`;
  writeFileSync(at('relu.ts'), relu);
  const asked = [
    '--plans',
    at('relu.ts'),
    '--vary',
    'attn_norm=own',
    '--journal',
    at('ablate.jsonl'),
    '--markdown',
  ];
  const { code, out, err } = await inProcess('ablate', ...micro, ...short, ...asked);
  expect(code, err).toBe(1);
  expect(out).toMatch(/^\| variant \|/);
  expect(out).toMatch(/^\| relu \| - \| - \| .* \| wrong \|/m);
  expect(out).toMatch(/^\| cooperative\+attn_norm=own:tokens \| [\d.]+ /m);
  const { records } = readJournal(at('ablate.jsonl'));
  const wrong = records.find((one) => one.kind === 'variant' && one.label === 'relu');
  expect(wrong).toBeDefined();
  expect(
    records.some((one) => one.kind === 'timed' && wrong?.kind === 'variant' && one.id === wrong.id),
  ).toBe(false);
});
