// A calibrated checkpoint is a model: a kernel is built of it, and computes what its codes say.
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, expect, test } from 'vitest';
import { memoryIo } from '../../cli/io.ts';
import { run } from '../../cli/run.ts';
import { fixture } from '../support/changed-models.ts';
import { calibrationText, copyWithTokenizer } from '../support/micro-tokenizer.ts';

const root = mkdtempSync(join(tmpdir(), 'onelaunch-calibrated-'));
afterAll(() => rmSync(root, { recursive: true }));

test.each(['int4', 'fp8'])(
  'gen verify of what gen quantize --calibrate wrote in %s',
  async (format) => {
    const model = copyWithTokenizer(fixture('qwen3-micro'), join(root, `model-${format}`));
    const text = join(root, 'text.txt');
    writeFileSync(text, calibrationText(200));
    const out = join(root, format);
    const flags = ['--weights', format, '--calibrate', text, '--tokens', '400', '--out', out];
    expect(await run(['quantize', model, ...flags], memoryIo().io)).toBe(0);
    const { io, written } = memoryIo();
    const code = await run(['verify', '--model', out, '--target', 'cpu', '--json'], io);
    expect(JSON.parse(written.out)).toMatchObject({
      ok: true,
      kernel: expect.stringContaining(`-${format}-`),
    });
    expect(code).toBe(0);
  },
  300_000,
);
