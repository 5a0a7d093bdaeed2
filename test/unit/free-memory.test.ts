// What a process may still take of a machine, from the files of systems that are none of ours.
import { expect, it, test } from 'vitest';
import { freeMemory } from '../../free-memory.ts';

const MiB = 2 ** 20;

/** A system that has these files, and no others. */
const withFiles = (files: Readonly<Record<string, string>>) => freeMemory((path) => files[path] ?? null);

/** Sizes in MiB. */
const meminfo = (sizes: Readonly<Record<string, number>>) =>
  Object.entries(sizes)
    .map(([name, size]) => `${name}:   ${size * 1024} kB\n`)
    .join('');
const machine = { '/proc/meminfo': meminfo({ MemTotal: 1000, MemFree: 100, MemAvailable: 600 }) };
const swapping = {
  '/proc/meminfo': meminfo({ MemTotal: 1000, MemAvailable: 600, SwapTotal: 300, SwapFree: 200 }),
};

/** memory.stat of a group whose files take 50 MiB. */
const stat = `anon 1\nfile 999999999\ninactive_file ${30 * MiB}\nactive_file ${15 * MiB}\nslab_reclaimable ${5 * MiB}\n`;
const group = (folder: string, most: number | 'max', used: number) => ({
  [`${folder}/memory.max`]: `${most === 'max' ? most : most * MiB}\n`,
  [`${folder}/memory.current`]: `${used * MiB}\n`,
  [`${folder}/memory.stat`]: stat,
});
const inGroup = { '/proc/self/cgroup': '0::/pods/mine\n' };
const root = '/sys/fs/cgroup';

test.each<[string, Readonly<Record<string, string>>, number | null, number | null]>([
  ['a system that says nothing', {}, null, null],
  ['a machine: what files are cached in is free', machine, 600, 1000],
  ['swap is free, too', swapping, 800, 1300],
  [
    'an old kernel, which does not count',
    { '/proc/meminfo': meminfo({ MemTotal: 1000, MemFree: 1 }) },
    null,
    1000,
  ],
  [
    'what ZFS caches, but for what it keeps',
    {
      ...machine,
      '/proc/spl/kstat/zfs/arcstats': `name type data\nc_min 4 ${20 * MiB}\nsize 4 ${120 * MiB}\n`,
    },
    700,
    1000,
  ],
  [
    'a group without a limit',
    { ...machine, ...inGroup, ...group(`${root}/pods/mine`, 'max', 10) },
    600,
    1000,
  ],
  [
    'a group: its files are free',
    { ...machine, ...inGroup, ...group(`${root}/pods/mine`, 400, 300) },
    150,
    400,
  ],
  [
    'the least of all groups above it',
    { ...machine, ...inGroup, ...group(`${root}/pods/mine`, 'max', 1), ...group(`${root}/pods`, 200, 110) },
    140,
    200,
  ],
  [
    'a container that sees its own group as the root, and the path that it has outside',
    { ...machine, ...inGroup, ...group(root, 256, 56) },
    250,
    256,
  ],
  ['a group that may swap', { ...swapping, ...inGroup, ...group(`${root}/pods/mine`, 400, 300) }, 350, 700],
  [
    'a group whose swap has a limit',
    {
      ...{ ...swapping, ...inGroup, ...group(`${root}/pods/mine`, 400, 300) },
      [`${root}/pods/mine/memory.swap.max`]: `${50 * MiB}\n`,
      [`${root}/pods/mine/memory.swap.current`]: `${20 * MiB}\n`,
    },
    180,
    450,
  ],
  [
    'version 1, with a limit of memory and swap',
    {
      ...swapping,
      '/proc/self/cgroup': '4:cpu,memory:/pod\n0::/\n',
      [`${root}/memory/pod/memory.limit_in_bytes`]: `${400 * MiB}\n`,
      [`${root}/memory/pod/memory.usage_in_bytes`]: `${300 * MiB}\n`,
      [`${root}/memory/pod/memory.memsw.limit_in_bytes`]: `${450 * MiB}\n`,
      [`${root}/memory/pod/memory.memsw.usage_in_bytes`]: `${300 * MiB}\n`,
      [`${root}/memory/pod/memory.stat`]: `total_inactive_file ${40 * MiB}\ntotal_active_file 0\n`,
    },
    190,
    450,
  ],
  [
    'version 1 without a limit',
    {
      ...machine,
      '/proc/self/cgroup': '4:memory:/\n',
      [`${root}/memory/memory.limit_in_bytes`]: '9223372036854771712\n',
      [`${root}/memory/memory.usage_in_bytes`]: '1\n',
    },
    600,
    1000,
  ],
  ['a path out of what is mounted', { ...machine, '/proc/self/cgroup': '0::/../../x\n' }, 600, 1000],
])('%s', (_, files, now, ever) => {
  const { now: free, ever: all } = withFiles(files);
  expect([free, all]).toEqual([now, ever].map((size) => (size === null ? null : size * MiB)));
});

it('addresses are told of ulimit, and of a system that promises no more than it has', () => {
  const limits = (size: string) =>
    `Limit Soft Limit\nMax address space         ${size}     unlimited   bytes\n`;
  const process = {
    '/proc/self/limits': limits(String(900 * MiB)),
    '/proc/self/status': 'VmSize:\t  204800 kB\n',
  };
  expect(withFiles(process).mappable).toBe(700 * MiB);
  expect(withFiles({ '/proc/self/limits': limits('unlimited') }).mappable).toBeNull();
  const strict = {
    '/proc/sys/vm/overcommit_memory': '2\n',
    '/proc/meminfo': meminfo({ MemTotal: 1000, MemAvailable: 900, CommitLimit: 500, Committed_AS: 400 }),
  };
  expect(withFiles({ ...process, ...strict }).mappable).toBe(100 * MiB);
  expect(withFiles({ ...strict, '/proc/sys/vm/overcommit_memory': '0\n' }).mappable).toBeNull();
});

it('this machine has some, and not more than all of it', () => {
  const { now, ever } = freeMemory();
  expect(now).toBeGreaterThan(0);
  expect(now).toBeLessThanOrEqual(ever!);
});
