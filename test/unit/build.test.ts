// Building under bad luck: many at a time, killed, aborted, failing, damaged. The compiler is a shell script.
import { spawn } from 'node:child_process';
import { cpSync, mkdirSync, readdirSync, rmSync, truncateSync, utimesSync, writeFileSync } from 'node:fs';
import { basename, join } from 'node:path';
import { beforeAll, describe, expect, test } from 'vitest';
import { build } from '../../codegen/build/build.ts';
import { readEntry } from '../../codegen/build/cache.ts';
import type { Kernel } from '../../codegen/index.ts';
import { buildSandbox, editManifest, noted } from '../support/build-sandbox.ts';
import { type FakeCompiler, hang, leftovers, microKernel, outputBytes } from '../support/fake-compiler.ts';
import { until } from '../support/within.ts';

const at = buildSandbox();
let kernel: Kernel;
let other: Kernel;
beforeAll(async () => {
  [kernel, other] = await Promise.all([microKernel(), microKernel('cooperative')]);
});

const links = (compiler: FakeCompiler) => compiler.made().filter((file) => file === 'library.so').length;

describe('several at a time', () => {
  test('four builds of one kernel in a process, whatever they call it, are one, and all get it', async () => {
    const compiler = at.use('sleep 0.1');
    const names = [kernel.name, 'mine', 'yours', 'theirs'];
    const all = await Promise.all(names.map((name) => build({ ...kernel, name })));
    expect(all.map(({ manifest }) => manifest.name)).toEqual(names);
    expect(links(compiler)).toBe(1);
    expect(all.filter(({ cached }) => !cached)).toHaveLength(1);
    expect(new Set(all.map(({ library }) => library)).size).toBe(1);
    expect(leftovers(at.cache)).toEqual([]);
  });

  test('who waits says so, and builds if the other is aborted', async () => {
    at.use(`[ -e "$here/second" ] || { ${hang}; }`);
    const stop = new AbortController();
    const first = build(kernel, { signal: stop.signal });
    const begun = expect(first).rejects.toThrow('enough');
    const lines: string[] = [];
    const second = build(kernel, { onProgress: ({ line }) => lines.push(line) });
    await until(
      () => lines.includes('waiting for another build of this kernel'),
      () => 'a line that it waits',
    );
    writeFileSync(join(at.folder, 'second'), '');
    stop.abort(new Error('enough'));
    await begun;
    expect((await second).cached).toBe(false);
  });

  test('the folder of a build that lives is left alone by the build of another kernel', async () => {
    const compiler = at.use(`[ -e "$here/second" ] || { ${hang}; }`);
    const stop = new AbortController();
    const first = build(kernel, { signal: stop.signal });
    const ended = expect(first).rejects.toThrow();
    await until(
      () => compiler.alive().length > 0,
      () => 'a running compiler',
    );
    const living = leftovers(at.cache);
    expect(living).toHaveLength(2); // a work folder and a lock
    writeFileSync(join(at.folder, 'second'), '');
    await build(other);
    expect(leftovers(at.cache)).toEqual(living);
    stop.abort();
    await ended;
    expect(leftovers(at.cache)).toEqual([]);
  });
});

test('a name that no folder could have is cut: it is for people alone', async () => {
  const compiler = at.use();
  const name = `${'n'.repeat(250)}-cpu-unfused`;
  const { manifest, directory } = await build({ ...kernel, name });
  expect(manifest.name).toBe(name);
  expect(basename(directory)).toMatch(/^n{128}-[0-9a-f]{12}$/);
  expect((await build({ ...kernel, name })).cached).toBe(true);
  expect(links(compiler)).toBe(1);
});

describe('a build that ends early leaves no compiler and no folder', () => {
  test('aborted: with the reason of the signal', async () => {
    const compiler = at.use(hang);
    const stop = new AbortController();
    const ended = expect(build(kernel, { signal: stop.signal })).rejects.toThrow('no more');
    await until(
      () => compiler.alive().length >= 2,
      () => 'a compiler and what it started',
    );
    stop.abort(new Error('no more'));
    await ended;
    await until(
      () => compiler.alive().length === 0,
      () => 'the end of all compilers',
    );
    expect(leftovers(at.cache)).toEqual([]);
  });

  test('one step fails: the others end', async () => {
    const fails = 'sleep 0.3; echo "backend.cpp:3:1: error: no"; exit 1';
    const compiler = at.use(`case $out in kernel*) ${hang};; *) ${fails};; esac`);
    await expect(build(kernel)).rejects.toThrow('backend.cpp: backend.cpp:3: no');
    expect(compiler.alive()).toEqual([]);
    expect(leftovers(at.cache)).toEqual([]);
  });

  test('killed: at once, and the next build removes the folder', async () => {
    const compiler = at.use(`[ -e "$here/second" ] || { ${hang}; }`);
    const script = join(import.meta.dirname, '../support/build-apart.ts');
    const child = spawn(process.execPath, ['--import', 'tsx', script], { stdio: 'ignore' });
    const ended = new Promise((resolve) => child.on('exit', resolve));
    await until(
      () => compiler.alive().length >= 2,
      () => 'a compiler and what it started',
    );
    child.kill('SIGKILL');
    await ended;
    await until(
      () => compiler.alive().length === 0,
      () => 'the end of all compilers',
    );
    expect(leftovers(at.cache)).toHaveLength(2);
    writeFileSync(join(at.folder, 'second'), '');
    expect((await build(kernel)).cached).toBe(false);
    expect(leftovers(at.cache)).toEqual([]);
  });

  test('what dead builders of other kernels left is removed too', async () => {
    at.use();
    for (const name of ['a-b-c-0123456789ab.4711.tmp', 'a-b-c-ba9876543210.00ff00ff00ff.tmp']) {
      mkdirSync(join(at.cache, name, 'host'), { recursive: true });
    }
    writeFileSync(join(at.cache, '0123456789ab.lock'), '');
    mkdirSync(join(at.cache, 'mine.tmp'));
    const [old, young] = ['ops-0011.json.1.tmp', 'ops-0011.json.2.tmp'].map((name) => join(at.cache, name));
    writeFileSync(old!, '');
    writeFileSync(young!, '');
    utimesSync(old!, 1e9, 1e9);
    await build(kernel);
    expect(leftovers(at.cache)).toEqual(['mine.tmp', basename(young!)]);
  });
});

describe('what was built is opened only if it is what was built', () => {
  const cut = (bytes: number) => (directory: string) => truncateSync(join(directory, 'library.so'), bytes);
  const write = (file: string, text: string) => (directory: string) =>
    writeFileSync(join(directory, file), text);

  const damages: readonly (readonly [string, (directory: string) => void, RegExp])[] = [
    ['of no bytes', cut(0), /library\.so has 0 bytes of 200000$/],
    ['of 1,000 bytes', cut(1000), /library\.so has 1000 bytes of 200000$/],
    ['of 20,000 bytes', cut(20_000), /library\.so has 20000 bytes of 200000$/],
    ['of 150,000 bytes', cut(150_000), /library\.so has 150000 bytes of 200000$/],
    ['that is too long', cut(outputBytes + 1), /library\.so has 200001 bytes of 200000$/],
    [
      'of the right size',
      write('library.so', 'x'.repeat(outputBytes)),
      /library\.so is not what was compiled$/,
    ],
    [
      'that is gone',
      (directory: string) => rmSync(join(directory, 'library.so')),
      /library\.so cannot be read$/,
    ],
    ['with a manifest cut short', write('manifest.json', '{"format":'), /manifest\.json cannot be read$/],
    ['with an empty manifest', write('manifest.json', ''), /manifest\.json cannot be read$/],
    ['with another manifest', write('manifest.json', 'null'), /manifest\.json cannot be read$/],
    [
      'without a manifest',
      (directory: string) => rmSync(join(directory, 'manifest.json')),
      /manifest\.json is missing$/,
    ],
  ];

  test('a library that is not is told from one that is, and built again, with a line', async () => {
    at.use();
    const { directory, manifest } = await build(kernel);
    expect(readEntry(directory)).toEqual({ state: 'whole', manifest });
    expect(readEntry(join(at.folder, 'nothing'))).toEqual({ state: 'none' });
    for (const [what, damage, why] of damages) {
      const copy = join(at.folder, what);
      cpSync(directory, copy, { recursive: true });
      damage(copy);
      expect(readEntry(copy), what).toEqual({ state: 'damaged', why: expect.stringMatching(why) });
    }
    for (const damage of [cut(1000), write('manifest.json', '{"format":')]) {
      damage(directory);
      const { built, notes } = await noted(kernel);
      expect(notes).toEqual([expect.stringMatching(/: building it again$/)]);
      expect(built).toMatchObject({ cached: false, directory });
      expect(built.manifest.librarySha256).toBe(manifest.librarySha256);
      expect((await noted(kernel)).built.cached).toBe(true);
      expect(readdirSync(at.cache).filter((name) => !/^(ops-|objects$)/.test(name))).toHaveLength(1);
    }
  });

  test('what a manifest says of the model is not taken from the file', async () => {
    at.use();
    const { directory, manifest } = await build(kernel);
    editManifest(directory, (read) => ({ ...read, weightBytes: 7, slots: [] }));
    const { built } = await noted(kernel);
    expect(built).toMatchObject({ cached: true, manifest: { weightBytes: manifest.weightBytes } });
    expect(built.manifest.slots).toEqual(manifest.slots);
  });
});
