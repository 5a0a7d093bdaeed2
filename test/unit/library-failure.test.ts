// What a library says of a failure becomes an error that a program can tell from others. The texts are those of templates/*/host and of CUDA.
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterEach, describe, expect, it, test, vi } from 'vitest';
import { packageRoot } from '../../codegen/build/package-root.ts';
import { InsufficientMemoryError, KernelTimeoutError } from '../../errors.ts';
import { abiStatus } from '../../runtime/engine/bindings.ts';
import { failure } from '../../runtime/engine/library-failure.ts';

afterEach(() => vi.unstubAllEnvs());

const GiB = 2 ** 30;

describe('memory', () => {
  test.each<[string, number | undefined, number | undefined]>([
    [
      'the model needs 90.25 GiB of GPU memory (weights 15.26 GiB, KV cache for 16 sequences of 40960 positions 70.00 GiB, while loading 4.99 GiB), 79.50 GiB are free',
      90.25 * GiB,
      79.5 * GiB,
    ],
    [
      'cannot allocate 2460.5 MB: weights 1192.2 MB, KV cache of 4096 positions 469.8 MB, activations 800.0 MB (Cannot allocate memory)',
      2460.5e6,
      undefined,
    ],
    ['cudaMalloc(&memory, bytes): out of memory (cudaErrorMemoryAllocation)', undefined, undefined],
    ['out of memory', undefined, undefined],
  ])('%s', (text, neededBytes, freeBytes) => {
    const error = failure(abiStatus.outOfMemory, text, 'environment');
    expect(error).toBeInstanceOf(InsufficientMemoryError);
    expect(error).toMatchObject({ message: text, kind: 'environment', neededBytes, freeBytes });
    expect(error.hint).toBeTruthy();
  });

  it('has these words in the libraries', () => {
    const read = (file: string) => readFileSync(join(packageRoot(), 'templates', file), 'utf8');
    const gpu = read('cuda/host/backend.cpp');
    expect(gpu).toContain('"the model needs " + gibibytes(');
    expect(gpu).toContain('gibibytes(free_bytes) + " are free"');
    expect(read('cuda/host/arena.h')).toContain('"%.2f GiB"');
    expect(read('cpu/backend.cpp')).toContain('"cannot allocate " + megabytes(total)');
  });
});

describe('a kernel that does not end', () => {
  test.each([
    [
      'decode: block 2 waited too long for its weights in stage qkv of layer 1',
      { stage: 'qkv', timeoutMs: 2000 },
    ],
    [
      'block 7 waited too long for words of another block in stage lm_head',
      { stage: 'lm_head', timeoutMs: 2000 },
    ],
    [
      'barrier: block 3 waited more than 2 s at grid barrier 5 of the pass',
      { stage: 'barrier', timeoutMs: 2000 },
    ],
    ['block 3 waited more than 2 s at grid barrier 5 of a prompt', { stage: undefined, timeoutMs: 2000 }],
    [
      'decode: the launch timed out and was terminated (cudaErrorLaunchTimeout)',
      { stage: 'decode', timeoutMs: undefined },
    ],
  ])('%s', (text, fields) => {
    const error = failure(abiStatus.device, text, 'failed');
    expect(error).toBeInstanceOf(KernelTimeoutError);
    expect(error).toMatchObject({ message: text, kind: 'failed', ...fields });
  });

  it('has waited as long as the environment says', () => {
    vi.stubEnv('ONELAUNCH_WAIT_MS', '150');
    const text = 'block 7 waited too long for words of another block in stage lm_head';
    expect(failure(abiStatus.device, text, 'failed')).toMatchObject({ timeoutMs: 150 });
  });

  it('has these words in the libraries', () => {
    const read = (file: string) => readFileSync(join(packageRoot(), 'templates/cuda', file), 'utf8');
    expect(read('stream/host/scheme.h')).toMatch(/ waited too long for .*\n.* in stage /);
    expect(read('stream/host/times.h')).toContain("timeout_ns = 2'000'000'000");
    for (const file of ['barriers/host/scheme.h', 'tiles/host/prompt_launches.h']) {
      expect(read(file)).toContain(' waited more than 2 s at grid barrier ');
    }
  });

  it('is told from a device that fails in another way', () => {
    const error = failure(abiStatus.device, 'decode: unspecified launch failure', 'failed');
    expect(error.name).toBe('OnelaunchError');
    expect(error.stage).toBe('decode');
  });
});

test('logits that are no numbers have a hint for quantised files', () => {
  expect(failure(abiStatus.notFinite, null, 'failed').hint).toContain('--weights plain');
});
