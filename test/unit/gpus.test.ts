// GPUs as CUDA counts them: what CUDA_VISIBLE_DEVICES leaves, in its order.
import { chmodSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test, vi } from 'vitest';
import { checkDevice } from '../../codegen/build/can-run.ts';
import { findGpus, type Gpu, smiIdOf, visibleOf, whyNoGpu } from '../../codegen/build/gpus.ts';
import { resolveTarget } from '../../configs/resolve.ts';
import { targetNamed } from '../../configs/targets.ts';
import { freeOnGpu } from '../../free-memory.ts';

const gpu = (uuid: string, name = 'NVIDIA H100', freeMiB = 100): Gpu => {
  const [arch, driver] = name.endsWith('A100') ? ['sm_80', '560.1'] : ['sm_90', '560.1'];
  return { name, arch, driver, memoryMiB: 1000, freeMiB, uuid };
};
const three = [gpu('GPU-aa10'), gpu('GPU-aa20'), gpu('GPU-bb30')];

test.each<[string | undefined, readonly number[]]>([
  [undefined, [0, 1, 2]],
  ['', []],
  ['-1', []],
  ['1', [1]],
  ['2,0', [2, 0]],
  [' 2 , 1 ', [2, 1]],
  ['0,3,1', [0]],
  ['NoDevFiles', []],
  ['GPU-bb', [2]],
  ['GPU-bb30,0', [2, 0]],
  ['GPU-aa', []],
  ['GPU-', []],
  ['1,1', []],
  ['MIG-4a5b', [0, 1, 2]],
])('CUDA_VISIBLE_DEVICES as %j leaves %j', (visible, left) => {
  expect(visibleOf(three, visible)).toEqual(left.map((i) => three[i]));
});

test('memory is that of the GPU of an ordinal; of GPUs that differ, which CUDA may count otherwise, the most', () => {
  const MiB = 2 ** 20;
  const alike = [gpu('a', undefined, 10), gpu('b', undefined, 90)];
  expect(freeOnGpu(alike, 0)).toMatchObject({ now: 10 * MiB });
  expect(freeOnGpu(alike, 1)).toMatchObject({ now: 90 * MiB });
  expect(freeOnGpu([alike[0]!, gpu('c', 'NVIDIA A100', 50)], 0)).toMatchObject({ now: 50 * MiB });
  expect(freeOnGpu([], 0)).toEqual({ now: null, ever: null, mappable: null });
});

describe('on a machine with two', () => {
  const root = mkdtempSync(join(tmpdir(), 'onelaunch-gpus-'));
  const h100 = targetNamed('h100')!;
  beforeAll(() => {
    const lines = ['NVIDIA H100, 9.0, 560.1, 81559, 10, GPU-1', 'NVIDIA H200, 9.0, 560.1, 143771, 20, GPU-2'];
    writeFileSync(
      join(root, 'nvidia-smi'),
      `#!/bin/sh\nprintf '%s\\n' ${lines.map((one) => `'${one}'`).join(' ')}\n`,
    );
    writeFileSync(join(root, 'nvcc'), '#!/bin/sh\necho Build cuda_13.0\n');
    for (const name of ['nvidia-smi', 'nvcc']) chmodSync(join(root, name), 0o755);
    vi.stubEnv('PATH', `${root}:${process.env['PATH']}`);
    vi.stubEnv('NVCC', join(root, 'nvcc'));
  });
  afterAll(() => {
    vi.unstubAllEnvs();
    rmSync(root, { recursive: true });
  });

  test('the target is that of the GPU that is asked for, and one that is not there is for others to refuse', () => {
    vi.stubEnv('CUDA_VISIBLE_DEVICES', undefined);
    expect([0, 1, 2].map((device) => resolveTarget('auto', findGpus, device).name)).toEqual([
      'h100',
      'h200',
      'h100',
    ]);
    expect(() => checkDevice(h100, 2, findGpus)).toThrow('there is no GPU 2 here');
  });

  test('the one that is left is the first, and figures are of its clocks', () => {
    vi.stubEnv('CUDA_VISIBLE_DEVICES', '1');
    expect(resolveTarget('auto').name).toBe('h200');
    expect(() => checkDevice(h100, 1, findGpus)).toThrow('there is no GPU 1 here');
    expect(smiIdOf(0)).toBe('GPU-2');
    vi.stubEnv('CUDA_VISIBLE_DEVICES', undefined);
    expect(smiIdOf(1)).toBe('1');
  });

  test('none that is left is told before anything is compiled, and the CPU is taken where none is asked for', () => {
    vi.stubEnv('CUDA_VISIBLE_DEVICES', '');
    expect(resolveTarget('auto').name).toBe('cpu');
    expect(whyNoGpu()).toBe("CUDA_VISIBLE_DEVICES is '', which leaves no GPU");
    expect(() => checkDevice(h100, 0, findGpus)).toThrow("CUDA_VISIBLE_DEVICES is '', which leaves no GPU");
  });
});
