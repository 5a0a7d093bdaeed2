// Where temporary files cannot be written: one line that says why, and TMPDIR.
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { resolvePlan } from '../../configs/resolve.ts';
import { targetNamed } from '../../configs/targets.ts';
import { duringFolder, writingTemporary } from '../../files/temporary-folder.ts';
import { runProbe } from '../../lab/calibrate/probe.ts';
import { load } from '../../load.ts';

const folder = mkdtempSync(join(tmpdir(), 'onelaunch-temporary-'));
afterAll(() => rmSync(folder, { recursive: true }));
const file = join(folder, 'file');
const missing = join(folder, 'missing');
writeFileSync(file, '');

const hint = 'set TMPDIR to a folder that can be written';

describe('TMPDIR that', () => {
  afterEach(() => void vi.unstubAllEnvs());

  it.each([
    ['is not there', missing, 'it does not exist'],
    ['is a file', file, 'it is no folder'],
    ['is below a file', join(file, 'below'), 'what should be its folder is a file'],
  ])('%s is refused before a model for embeddings is compiled, and by a probe', async (_, place, why) => {
    vi.stubEnv('TMPDIR', place);
    vi.stubEnv('ONELAUNCH_CACHE', join(folder, 'cache'));
    const refusal = { kind: 'environment', message: `cannot write in ${place}: ${why}`, hint };
    const builds: unknown[] = [];
    const loading = load({
      ...{ model: 'qwen3-tiny', target: 'cpu', embeddings: true },
      onProgress: (progress) => void builds.push(progress),
    });
    await expect(loading).rejects.toMatchObject(refusal);
    expect(builds).toEqual([]);
    const { signal } = new AbortController();
    const probed = runProbe(targetNamed('cpu')!, { device: 0, threads: 1, signal });
    await expect(probed).rejects.toMatchObject(refusal);
  });

  it('the loader of plan files cannot use is not the fault of the plan', async () => {
    vi.stubEnv('TMPDIR', folder);
    const plan = join(folder, 'plan.mjs');
    const path = join(folder, 'tsx-0');
    const thrown = `Object.assign(new Error('ENOENT'), ${JSON.stringify({ code: 'EROFS', syscall: 'mkdir', path })})`;
    writeFileSync(plan, `throw ${thrown};\nexport default 1;\n`);
    await expect(resolvePlan(plan)).rejects.toMatchObject({
      ...{ kind: 'environment', message: `cannot write in ${folder}: its disk can only be read`, hint },
    });
  });
});

describe('temporary files', () => {
  beforeEach(() => void vi.stubEnv('TMPDIR', folder));
  afterEach(() => void vi.unstubAllEnvs());

  it('on a full disk are a fault of the environment', () => {
    const write = () =>
      writingTemporary(() => {
        throw Object.assign(new Error('ENOSPC'), { code: 'ENOSPC', syscall: 'write' });
      });
    expect(write).toThrow(`the disk of ${folder} is full`);
  });

  it('do not stand for what is read beside them', async () => {
    const lost = Object.assign(new Error('lost'), { code: 'ENOENT', syscall: 'open', path: missing });
    await expect(duringFolder('test', () => Promise.reject(lost))).rejects.toBe(lost);
  });
});
