// Building under bad luck with real compilers: killed at any moment, asked for many times at once, on a full disk, damaged afterwards.
import { type ChildProcess, spawn, spawnSync } from 'node:child_process';
import {
  chmodSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  renameSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { Worker } from 'node:worker_threads';
import { afterAll, afterEach, beforeEach, describe, expect, test, vi } from 'vitest';
import { pathsHere } from '../../codegen/build/cpu-paths.ts';
import { build, type Kernel } from '../../codegen/index.ts';
import { openLibrary } from '../../runtime/engine/library.ts';
import { bundled } from '../support/bundled.ts';
import { fakeCompiler, hang, leftovers, microKernel } from '../support/fake-compiler.ts';
import { thorough } from '../support/thorough.ts';
import { until } from '../support/within.ts';

const root = mkdtempSync(join(tmpdir(), 'build-real-'));
/** g++, with headers that were compiled before. */
const gxx = process.env['ONELAUNCH_TEST_CXX'] ?? 'g++';
const kernel: Kernel = await microKernel();
let folder: string;
let cache: string;

/** The compiler itself, but it writes down what it makes and does not optimise: that takes half the time. What it made before of the same
 *  kernel it gives again, a moment later, unless there is a file `anew`. */
beforeEach(() => {
  folder = mkdtempSync(join(root, 'case-'));
  cache = join(folder, 'cache');
  const compiler = join(folder, 'c++');
  const text = `#!/bin/sh
echo "$*" >> '${folder}/made'
case "$*" in *' -c '*) ;; *) exec ${gxx} "$@" -O0;; esac
kept='${root}/kept-'$(echo "$*" | cksum | tr ' ' -)
for out; do :; done
if [ -e "$kept" ] && ! [ -e '${folder}/anew' ]; then
  sleep 0.3
  exec cp "$kept" "$out"
fi
${gxx} "$@" -O0 && cp "$out" "$kept.$$" && mv "$kept.$$" "$kept"
`;
  writeFileSync(compiler, text);
  chmodSync(compiler, 0o755);
  vi.stubEnv('CXX', compiler);
  vi.stubEnv('ONELAUNCH_CACHE', cache);
  vi.stubEnv('ONELAUNCH_CPU_PATHS', 'plain');
});
afterEach(() => {
  vi.unstubAllEnvs();
});
afterAll(() => {
  for (const made of [root, program.folder]) rmSync(made, { recursive: true, force: true });
});

const links = () => readFileSync(join(folder, 'made'), 'utf8').match(/^-shared/gm)?.length;
const program = bundled('test/support/build-apart.ts');
const thread = () => new Worker(program.path, { env: process.env });
const ended = (child: ChildProcess) => new Promise<void>((resolve) => child.on('exit', () => resolve()));

/** Processes that work below a folder, removed or not: compilers do. */
function workingIn(path: string): string[] {
  return readdirSync('/proc').filter((pid) => {
    if (!/^\d+$/.test(pid)) return false;
    try {
      return readlinkSync(`/proc/${pid}/cwd`).startsWith(path);
    } catch {
      return false;
    }
  });
}

function opens(built: Awaited<ReturnType<typeof build>>): boolean {
  return openLibrary(built.library, built.manifest).description.vocab === kernel.schedule.dims.vocab;
}

describe('the first build, asked for four times at once, compiles once', () => {
  test('in one process', async () => {
    const all = await Promise.all([1, 2, 3, 4].map(() => build(kernel)));
    expect(links()).toBe(1);
    expect(all.filter(({ cached }) => !cached)).toHaveLength(1);
    expect(all.every(opens)).toBe(true);
  });

  test('in four processes', async () => {
    const outputs = [1, 2, 3, 4].map(async () => {
      const child = spawn(process.execPath, [program.path], { stdio: ['ignore', 'pipe', 'inherit'] });
      let output = '';
      child.stdout.on('data', (data: Buffer) => (output += data.toString()));
      await new Promise((resolve) => child.on('close', resolve));
      return JSON.parse(output) as { cached: boolean };
    });
    const all = await Promise.all(outputs);
    expect(links()).toBe(1);
    expect(all.filter(({ cached }) => !cached)).toHaveLength(1);
    expect(opens(await build(kernel))).toBe(true);
    expect(leftovers(cache)).toEqual([]);
  });

  test('in four threads', async () => {
    const outputs = [1, 2, 3, 4].map(
      () =>
        new Promise<{ cached: boolean }>((resolve, reject) => {
          const worker = thread();
          worker.on('message', (said: string) => resolve(JSON.parse(said)));
          worker.on('error', reject);
        }),
    );
    const all = await Promise.all(outputs);
    expect(links()).toBe(1);
    expect(all.filter(({ cached }) => !cached)).toHaveLength(1);
    expect(opens(await build(kernel))).toBe(true);
  });

  test('a thread that is ended lets go, even of compilers that would never end', async () => {
    const compiler = fakeCompiler(folder, `[ -e "$here/second" ] || { ${hang}; }`);
    const worker = thread();
    await until(
      () => compiler.alive().length >= 2,
      () => 'a compiler and what it started',
    );
    await worker.terminate();
    await until(
      () => compiler.alive().length === 0,
      () => 'the end of all compilers',
    );
    writeFileSync(join(folder, 'second'), '');
    expect((await build(kernel)).cached).toBe(false);
    expect(leftovers(cache)).toEqual([]);
  });
});

/** $ONELAUNCH_TEST_KILLS asks for more. */
const kills = Number(process.env['ONELAUNCH_TEST_KILLS'] ?? (thorough ? 5 : 1));

test(`killed ${kills} times at any moment, each followed by a good build`, async () => {
  const anew = join(folder, 'anew');
  writeFileSync(anew, '');
  const begun = performance.now();
  await build(kernel);
  let millis = performance.now() - begun;
  let unfinished = 0;
  let tried = 0;
  // A build may be far quicker than the one before; half as late, one of them is hit.
  for (; tried < kills || (unfinished === 0 && tried < kills + 8); tried++) {
    rmSync(cache, { recursive: true });
    writeFileSync(anew, '');
    const child = spawn(process.execPath, [program.path], { stdio: 'ignore' });
    const end = ended(child);
    await until(
      () => existsSync(cache) && leftovers(cache).length > 0,
      () => 'the begin of a build',
    );
    // Spread over the whole of a build: the golden ratio's multiples are never close to each other.
    await sleep((((tried + 1) * 0.382) % 1) * millis);
    child.kill((['SIGKILL', 'SIGTERM', 'SIGINT'] as const)[tried % 3]);
    await end;
    await until(
      () => workingIn(cache).length === 0,
      () => 'the end of all compilers',
    );
    if (leftovers(cache).length > 0) unfinished++;
    else millis /= 2;
    rmSync(anew);
    expect(opens(await build(kernel))).toBe(true);
    expect(leftovers(cache)).toEqual([]);
  }
  expect(unfinished, `of ${tried} kills hit a build that was not done`).toBeGreaterThan(0);
});

test('a library that was cut short is built again, and opens', async () => {
  const { library } = await build(kernel);
  for (const bytes of [1000, 150_000]) {
    // Another file: the one that was opened stays mapped.
    writeFileSync(`${library}.cut`, readFileSync(library).subarray(0, bytes));
    renameSync(`${library}.cut`, library);
    const notes: string[] = [];
    const again = await build(kernel, {
      onProgress: ({ event, line }) => event === 'note' && notes.push(line),
    });
    expect(notes).toEqual([expect.stringContaining(`library.so has ${bytes} bytes of `)]);
    expect(opens(again)).toBe(true);
  }
});

/** A disk of so many KiB, if this user may make one. */
function smallDisk(path: string, kibibytes: number): boolean {
  mkdirSync(path);
  return spawnSync('mount', ['-t', 'tmpfs', '-o', `size=${kibibytes}k`, 'tmpfs', path]).status === 0;
}
const canMount = (() => {
  const probe = join(root, 'probe');
  const can = smallDisk(probe, 64);
  if (can) spawnSync('umount', [probe]);
  return can;
})();

test.skipIf(!canMount)(
  `a disk that fills up, at whichever step, is called full${canMount ? '' : ' (skipped: this user cannot mount a small one)'}`,
  async () => {
    let built = 0;
    for (const kibibytes of [16, 256, 1024, 16_384]) {
      const disk = join(folder, `disk-${kibibytes}`);
      expect(smallDisk(disk, kibibytes)).toBe(true);
      try {
        vi.stubEnv('ONELAUNCH_CACHE', disk);
        const result = await build(kernel).catch((error: Error) => error);
        if (result instanceof Error) {
          expect(result, `${kibibytes} KiB`).toMatchObject({
            kind: 'environment',
            message: `the disk of ${disk} is full`,
          });
        } else built++;
        expect(leftovers(disk), `${kibibytes} KiB`).toEqual([]);
      } finally {
        spawnSync('umount', ['-l', disk]);
      }
    }
    expect(built).toBeGreaterThan(0);
  },
);

test('the library that a machine builds for itself has its best path only', async () => {
  vi.stubEnv('ONELAUNCH_CPU_PATHS', undefined);
  const { manifest } = await build(kernel);
  expect(manifest.paths).toEqual([pathsHere()?.at(-1)?.name]);
});
