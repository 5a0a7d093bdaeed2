// The CPU library under the sanitizers of addresses, leaks and undefined behaviour, driven by a program of its own: Node has no part in it.
import { execFile } from 'node:child_process';
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { promisify } from 'node:util';
import { afterAll, expect, test } from 'vitest';
import { packageRoot } from '../../codegen/build/package-root.ts';
import { buildKernel, openEngine } from '../../load.ts';
import { checkpointTensors } from '../../runtime/weights/checkpoint.ts';
import { loadPlan } from '../../runtime/weights/load-plan.ts';

const run = promisify(execFile);
const folder = mkdtempSync(join(tmpdir(), 'sanitizer-'));
afterAll(() => rmSync(folder, { recursive: true, force: true }));

const flags = [
  ...['-std=c++17', '-O1', '-g', '-pthread', '-I.', '-Ihost', '-fno-omit-frame-pointer'],
  ...['-fsanitize=address,undefined', '-fno-sanitize-recover=all', '-DISA_NAME=plain'],
];

test.each([['qwen3-micro', 'cooperative']])(
  '%s, plan %s: no error, no leak, and the tokens of the library without',
  async (fixture, plan) => {
    const model = join(packageRoot(), 'test', 'fixtures', fixture);
    const built = await buildKernel({ model, target: 'cpu', plan }, { weights: true });
    const work = join(folder, fixture);
    for (const [name, text] of Object.entries(built.kernel.sources)) {
      mkdirSync(dirname(join(work, name)), { recursive: true });
      writeFileSync(join(work, name), text);
    }
    const driver = join(packageRoot(), 'test', 'native', 'sanitized.cpp');
    const compile = (source: string, object: string) =>
      run('g++', [...flags, '-Ihost', '-c', source, '-o', object], { cwd: work });
    await Promise.all([
      compile('kernel.cpp', 'kernel.o'),
      compile('backend.cpp', 'backend.o'),
      compile('host/model.cpp', 'model.o'),
    ]);
    await Promise.all([compile('host/library.cpp', 'library.o'), compile(driver, 'driver.o')]);
    const objects = ['kernel.o', 'backend.o', 'library.o', 'model.o', 'driver.o'];
    await run('g++', [...flags, ...objects, '-o', 'sanitized'], { cwd: work });

    const { sources } = loadPlan(built.manifest, built.files?.tensors ?? checkpointTensors(model));
    const lines = sources.map(({ path, offset, slot, dtype }) => `${path} ${offset} ${slot} ${dtype}\n`);
    writeFileSync(join(work, 'sources.txt'), lines.join(''));
    const env = { ...process.env, UBSAN_OPTIONS: 'print_stacktrace=1', ASAN_OPTIONS: 'detect_leaks=1' };
    const { stdout } = await run(join(work, 'sanitized'), ['sources.txt', '16'], { cwd: work, env });

    const { engine } = await openEngine(built, { context: 64, threads: 2 });
    const tokens: number[] = [];
    const prompt = Array.from({ length: 21 }, (_, i) => i * 3 + 1);
    for await (const batch of engine.generate(prompt, { maxTokens: 16 })) tokens.push(...batch);
    engine.close();
    expect(stdout.trim()).toBe(tokens.join(' '));
    expect(tokens).toHaveLength(16);
  },
);
