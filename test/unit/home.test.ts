// The folder of a user: with an empty HOME, of a user that the system does not know, and a cache that may not be looked at.
import { mkdtempSync, rmSync, symlinkSync } from 'node:fs';
import os, { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect, it, vi } from 'vitest';
import { home } from '../../files/home.ts';
import { cachedModels, findCached } from '../../hub/cache.ts';
import { hubCache } from '../../hub/settings.ts';
import { refusalOf } from '../support/refusal.ts';

it('an empty HOME is none: no cache lies below the folder one is in', () => {
  vi.stubEnv('HOME', '');
  const { homedir } = os.userInfo();
  const found = [home(), hubCache({})];
  vi.unstubAllEnvs();
  expect(found).toEqual([homedir, join(homedir, '.cache', 'huggingface', 'hub')]);
});

it('a user that the system does not know, without HOME, is told to set it', () => {
  const lost = () => {
    throw Object.assign(new Error('uv_os_homedir returned ENOENT'), { code: 'ERR_SYSTEM_ERROR' });
  };
  expect(refusalOf(() => home({ homedir: lost, userInfo: lost }))).toMatchObject({
    ...{ kind: 'environment', message: 'this user has no home folder', hint: 'set HOME' },
  });
});

it('a cache that may not be looked at has no models', () => {
  const folder = mkdtempSync(join(tmpdir(), 'onelaunch-home-'));
  const cache = join(folder, 'cache');
  symlinkSync(cache, cache);
  expect([findCached('Qwen/Qwen3-0.6B', cache), cachedModels(cache)]).toEqual([null, []]);
  rmSync(folder, { recursive: true });
});
