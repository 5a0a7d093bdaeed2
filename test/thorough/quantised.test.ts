// Quantised checkpoints run as the oracle computes over its own reading of them: as codes that are kept, as numbers, and as blocks anew.
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { memoryIo } from '../../cli/io.ts';
import { run } from '../../cli/run.ts';
import { kinds, writeQuantised } from '../support/quantised-model.ts';

const root = mkdtempSync(join(tmpdir(), 'onelaunch-quantised-'));
afterAll(() => rmSync(root, { recursive: true }));
beforeAll(() => {
  // One instruction set: isa.test.ts compares them.
  process.env['ONELAUNCH_CPU_PATHS'] = 'plain';
});

const fixture = (name: string) => join(import.meta.dirname, '../fixtures', name);

test.each<[string, string, readonly string[], RegExp]>([
  ['qwen3-micro', 'GPTQ of 4 bits, symmetric', [], /-int4-/],
  ['qwen3-micro', 'packed int4', [], /-int4-/],
  ['qwen3-micro', 'int8, a row', [], /-int8-/],
  ['qwen3-micro', 'AWQ, groups of 128', [], /-int4-asym-/],
  ['qwen3-micro', 'AWQ, groups of 128', ['--weights', 'plain'], /^model-cpu-/],
  ['qwen3-micro', 'AWQ, groups of 16', [], /^model-cpu-/],
  ['qwen2-micro', 'packed int4, zero points', [], /-int4-asym-/],
  ['qwen3-micro', 'GPTQ, version 2', [], /-int4-asym-/],
  ['qwen3-micro', 'packed int4', ['--weights', 'int4-asym'], /-int4-asym-/],
  ['qwen3-micro', 'AWQ, groups of 128', ['--weights', 'int4'], /-int4-/],
  ['qwen3-micro', 'AWQ, groups of 128', ['--weights', 'mixed'], /-mixed-/],
  ['qwen3-micro', 'fp8, blocks of 128', [], /-fp8-/],
  ['qwen2-micro', 'fp8 of compressed-tensors, a row', [], /-fp8-/],
  ['qwen3-micro', 'fp8, blocks that do not divide', [], /^model-cpu-/],
  ['qwen2-micro', 'packed int8, a row', [], /-int8-/],
  ['llama3-micro', 'GPTQ of 4 bits, groups of 32', [], /-int4-asym-/],
  ['phi3-micro', 'GPTQ of 4 bits, groups of 32', [], /-int4-asym-/],
  ['phi3-micro', 'packed int4, zero points', [], /-int4-asym-/],
  ['phi3-micro', 'AWQ, groups of 16', [], /^model-cpu-/],
])(
  '%s, %s %j',
  async (source, kind, flags, kernel) => {
    const model = join(root, `${source} ${kind}`.replaceAll(/\W/g, '-'), 'model');
    writeQuantised(fixture(source), model, kinds[kind]!);
    const { io, written } = memoryIo();
    const code = await run(['verify', '--model', model, '--target', 'cpu', '--json', ...flags], io);
    expect(JSON.parse(written.out)).toMatchObject({ ok: true, kernel: expect.stringMatching(kernel) });
    expect(code).toBe(0);
  },
  300_000,
);
