// A calibration of this CPU, interrupted and gone on with.
import { spawn } from 'node:child_process';
import { existsSync, mkdtempSync, readFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { memoryIo } from '../../cli/io.ts';
import { run } from '../../cli/run.ts';
import { packageRoot } from '../../codegen/build/package-root.ts';
import { resolveTarget } from '../../configs/resolve.ts';
import { timeKernels } from '../../lab/calibrate/kernels.ts';
import { readRecord } from '../../lab/calibrate/record.ts';
import { buildKernel } from '../../load.ts';

const folder = mkdtempSync(join(tmpdir(), 'onelaunch-calibrate-'));
const out = join(folder, 'here.json');
const points = join(folder, 'here.points.json');
const model = join(packageRoot(), 'test', 'fixtures', 'qwen3-micro');
const args = [
  'calibrate',
  '--target',
  'cpu',
  '--models',
  model,
  '--positions',
  '1',
  '--tokens',
  '4',
  '--quick',
];

test('a kill leaves what was measured, and the same command goes on from there', async () => {
  const main = [
    '--import',
    'tsx',
    join(packageRoot(), 'cli', 'main.ts'),
    ...args,
    '--runs',
    '1',
    '--out',
    out,
  ];
  const child = spawn(process.execPath, main, { stdio: 'ignore' });
  await new Promise<void>((resolve) => {
    child.on('exit', () => resolve());
    const look = setInterval(() => {
      if (!existsSync(points) || readRecord(points).points.length < 1) return;
      clearInterval(look);
      child.kill('SIGKILL');
    }, 5);
  });
  const before = readRecord(points);
  expect(before.points.length).toBeGreaterThanOrEqual(1);
  const { io, written } = memoryIo();
  expect(await run([...args, '--runs', '1', '--out', out], io)).toBe(0);
  expect(written.err).toContain(`goes on from ${points}: ${before.points.length} figures are there`);
  const after = readRecord(points);
  expect(after.points.slice(0, before.points.length)).toEqual(before.points);
  expect(after.figures).toEqual(before.figures);
  expect(after.points.length).toBeGreaterThan(before.points.length);
  const target = resolveTarget(out);
  expect(target.bandwidthFrom).toBe('measured');
  expect(target.terms!.barrier).toBe(after.figures.find(({ term }) => term === 'barrier')!.value);
  expect(JSON.parse(readFileSync(out, 'utf8')).origin['*']).toContain(after.device);
  // What it wrote predicts.
  const explained = memoryIo();
  expect(await run(['explain', '--model', 'qwen3-tiny', '--target', out], explained.io)).toBe(0);
  expect(explained.written.out).toMatch(
    /predicted \d+ tok\/s at position 0, [\d.]+ us a token, at .* \(measured\)/,
  );
});

test('Ctrl-C says where what was measured is', async () => {
  const stop = new AbortController();
  const { io, written } = memoryIo({ signal: stop.signal });
  const err = (text: string) => {
    io.err(text);
    if (text.includes('goes on from')) stop.abort(new DOMException('interrupted', 'AbortError'));
  };
  expect(await run([...args, '--runs', '2', '--positions', '2', '--out', out], { ...io, err })).toBe(130);
  expect(written.err).toContain(
    `what was measured is in ${points}: the same command goes on from there\ninterrupted\n`,
  );
});

test('kernels of a CPU take turns, a reply at each position in a turn', async () => {
  const plans = ['cooperative', 'unfused'];
  const kernels = await Promise.all(plans.map((plan) => buildKernel({ model, target: 'cpu', plan })));
  const turns: string[] = [];
  const timed = timeKernels(kernels, {
    ...{ positions: [1, 9], tokens: 4, replies: 3, device: 0, threads: 1 },
    signal: new AbortController().signal,
    onProgress: (_share, detail) => turns.push(detail.split(' ')[1]!),
  });
  const plansTimed: string[] = [];
  for await (const { plan, points } of timed) {
    plansTimed.push(plan);
    expect(points.map(({ position }) => position)).toEqual([1, 9]);
    for (const { tokensPerSecond } of points) expect(tokensPerSecond.median).toBeGreaterThan(0);
  }
  expect(plansTimed).toEqual(plans);
  expect(turns).toEqual([...plans, ...plans, ...plans]);
});
