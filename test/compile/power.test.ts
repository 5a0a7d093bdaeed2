// The energy counter of a driver that is made up: its steps, its joules, and what has none.
import { execFileSync } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { energyOf, openEnergyCounter } from '../../lab/power.ts';

const folder = mkdtempSync(join(tmpdir(), 'onelaunch-power-'));
afterAll(() => rmSync(folder, { recursive: true }));

/** 200 W, counted every 20 ms. @param has whether the GPU counts energy */
function fakeNvml(name: string, has: boolean): string {
  const source = join(folder, `${name}.cpp`);
  const library = join(folder, `${name}.so`);
  writeFileSync(
    source,
    `#include <chrono>
extern "C" int nvmlInit_v2() { return 0; }
extern "C" int nvmlDeviceGetHandleByIndex_v2(unsigned index, void** handle) {
  static int device;
  *handle = &device;
  return index == 0 ? 0 : 2;
}
extern "C" int nvmlDeviceGetHandleByUUID(const char* uuid, void** handle) {
  return uuid[4] == 'a' ? nvmlDeviceGetHandleByIndex_v2(0, handle) : 2;
}
extern "C" int nvmlDeviceGetTotalEnergyConsumption(void*, unsigned long long* millijoules) {
  const auto now = std::chrono::steady_clock::now().time_since_epoch();
  const long long ms = std::chrono::duration_cast<std::chrono::milliseconds>(now).count();
  *millijoules = ms / 20 * 20 * 200;
  return ${has ? 0 : 3};
}
`,
  );
  execFileSync('g++', ['-shared', '-fPIC', '-o', library, source]);
  return library;
}

let counts: string;
beforeAll(() => {
  counts = fakeNvml('counts', true);
});

// Time is measured: a machine that stands still for a while in between may miss steps of the counter.
test('energy is that of one run, however often it had to be repeated', { retry: 3 }, async () => {
  const counter = openEnergyCounter('0', counts)!;
  // No step is shorter; a busy machine may miss one.
  expect(counter.resolutionMs).toBeGreaterThan(10);
  let busy = 0;
  const { joules, runs } = await energyOf(counter, async () => {
    const begun = performance.now();
    await new Promise((resolve) => setTimeout(resolve, 50));
    busy += performance.now() - begun;
  });
  expect(runs).toBeGreaterThan(1);
  // 200 W over the time that the runs took, and a step at each end.
  const steps = (2 * counter.resolutionMs) / 1000;
  expect(Math.abs(joules * runs - (200 * busy) / 1000)).toBeLessThan(200 * (steps + 0.1 * (busy / 1000)));
});

test('one of several is found by its UUID, whatever number it has', () => {
  expect(openEnergyCounter('GPU-a0', counts)?.joules()).toBeGreaterThan(0);
  expect(openEnergyCounter('GPU-b0', counts)).toBeNull();
});

test('there is none without the library, the GPU or its counter', () => {
  expect(openEnergyCounter('0', join(folder, 'nowhere.so'))).toBeNull();
  expect(openEnergyCounter('1', counts)).toBeNull();
  expect(openEnergyCounter('0', fakeNvml('none', false))).toBeNull();
});
