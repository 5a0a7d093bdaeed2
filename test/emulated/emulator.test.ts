// CUDA kernels as they are generated, run without a GPU by test/native/emulator; and that it does not let faults pass.
import { execFile } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { z } from 'zod';
import type { Kernel } from '../../codegen/index.ts';
import cooperative from '../../configs/plans/cooperative.ts';
import seed from '../../configs/plans/seed.ts';
import type { VerifyResult } from '../../runtime/verify/verify.ts';
import { type Change, replacedIn } from '../support/changed-kernel.ts';
import { cannotEmulate, cxx, deviceObject, emulatorObject } from '../support/emulate.ts';
import { type EmulatedCase, prepareEmulated } from '../support/emulate-model.ts';

const run = promisify(execFile);
const why = cannotEmulate();
if (why) console.warn(`skipped: ${why}`);

describe.skipIf(why)('the emulator', () => {
  const folder = mkdtempSync(join(tmpdir(), 'onelaunch-emulator-'));
  const program = join(folder, 'checks');
  afterAll(() => rmSync(folder, { recursive: true, force: true }));

  beforeAll(async () => {
    const source = join(import.meta.dirname, '..', 'native', 'emulator-checks.cu');
    const sources = { 'checks.cu': readFileSync(source, 'utf8') };
    const objects = await Promise.all([emulatorObject(), deviceObject(sources, 'checks.cu')]);
    const machine = '#include "emulator/machine.h"\nconst EmulatedMachine emulated_machine{4, 232448};\n';
    writeFileSync(join(folder, 'machine.cpp'), machine);
    await cxx(folder, ['machine.cpp', ...objects, '-pthread', '-o', program]);
  });

  const checkLine = z.object({ check: z.string(), compared: z.number().positive(), worst: z.number() });

  test.each(['1', '2', '3'])('computes what plain sums give, in the order of seed %s', async (seed) => {
    const { stdout } = await run(program, [], { env: { ONELAUNCH_EMULATOR_SEED: seed }, timeout: 60_000 });
    const checks = stdout
      .trim()
      .split('\n')
      .map((line) => checkLine.parse(JSON.parse(line)));
    expect(checks).toHaveLength(10);
    expect(checks.filter(({ worst }) => !(worst <= 1))).toEqual([]);
  });

  test.each([
    ['wait_group', /"worst": (?:nan|[1-9])/],
    ['syncthreads', /"worst": (?:nan|[1-9])/],
    ['expect_tx', /nothing moves any more: block 0: 31 at ended, 33 at mbarrier\.try_wait/],
    ['barrier', /all threads wait: block 0,1: 32 at bar\.sync .*\(checks\.cu:\d+\), 32 at ended/],
    ['flag', /nothing moves any more: block 0: 63 at a look at a volatile variable/],
    ['outside_shared', /at ld\.shared.*: 4 bytes at \d+ are out of bounds/],
    ['past_shared', /block 0 has written past what lies behind the dynamic shared memory/],
    ['past_page', /a thread touches memory that is not its own/],
    ['outside_global', /at ld\.global.*: 4 bytes are out of bounds of all allocations/],
    ['opcode', /the emulator does not know "brkpt"/],
  ])('notices a fault: %s', async (fault, report) => {
    const { stdout } = await run(program, [fault], { timeout: 60_000 });
    expect(stdout).toMatch(report);
  });
});

const changed =
  (...change: Change) =>
  (kernel: Kernel): Kernel =>
    replacedIn(kernel, 'wrong', [change]);

type Named = Readonly<Record<string, EmulatedCase>>;
const h100 = { target: 'h100', cases: [1] };
const qwen3 = { ...h100, model: 'qwen3-micro', plan: 'cooperative' };

const right: Named = {
  'qwen3, cooperative': { ...qwen3, cases: [2] },
  'qwen2, the seed with two buffers': {
    ...{ ...h100, model: 'qwen2-micro' },
    plan: seed.with('two-buffers', {}, { buffers: 2 }),
  },
  'qwen3, warps that copy for others': {
    ...qwen3,
    plan: cooperative.with('producers', {}, { buffers: 3, producers: 3, loadsInFlight: 4 }),
  },
  'qwen3, stream': { ...qwen3, plan: 'stream' },
};

const wrong: Named = {
  'no __syncthreads between the sums of a norm and their use': {
    ...qwen3,
    change: changed('lib/norm.cuh', /(sums\[thread \/ 32\] = square;\n) {2}__syncthreads\(\);/, '$1'),
  },
  'a grid barrier less': { ...qwen3, change: changed('kernel.cu', /\n *grid_barrier\(b\);/, '\n') },
  'a wrong word of a matrix': {
    ...qwen3,
    change: changed(
      'lib/matmul.cuh',
      'upper.x, lower.x, upper.y, lower.y',
      'upper.x, lower.x, upper.x, lower.y',
    ),
  },
  'no wait for copies': {
    ...right['qwen2, the seed with two buffers']!,
    change: changed('lib/mbarrier.cuh', /asm volatile\("cp\.async\.wait_group[^;]*;[^;]*;/, ''),
  },
};

describe.skipIf(why)('a kernel on the emulator', () => {
  const prepared = new Map<string, () => Promise<VerifyResult>>();
  beforeAll(async () => {
    const all = Object.entries({ ...right, ...wrong });
    await Promise.all(all.map(async ([name, asked]) => prepared.set(name, await prepareEmulated(asked))));
  });

  test.each(Object.keys(right))('gives the logits and tokens of transformers: %s', async (name) => {
    const { cases } = await prepared.get(name)!();
    expect(cases.flatMap((one) => one.problems)).toEqual([]);
  });

  test.each(Object.keys(wrong))('is caught with a fault: %s', async (name) => {
    const problems = await prepared.get(name)!().then(
      ({ cases }) => cases.flatMap((one) => one.problems),
      (error: unknown) => [String(error)],
    );
    expect(problems).not.toEqual([]);
  });
});
