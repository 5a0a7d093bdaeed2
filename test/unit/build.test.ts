// Building under bad luck: many at a time, killed, aborted, failing, damaged, without a compiler. The compiler is a shell script.
import { spawn } from 'node:child_process';
import {
  cpSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  symlinkSync,
  truncateSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test, vi } from 'vitest';
import { memoryIo } from '../../cli/io.ts';
import { run } from '../../cli/run.ts';
import { type BuildOptions, build } from '../../codegen/build/build.ts';
import { readEntry } from '../../codegen/build/cache.ts';
import { cpuPaths, pathsHere } from '../../codegen/build/cpu-paths.ts';
import type { Built, Kernel } from '../../codegen/index.ts';
import {
  type FakeCompiler,
  fakeCompiler,
  hang,
  leftovers,
  microKernel,
  outputBytes,
  until,
} from '../support/fake-compiler.ts';

const root = mkdtempSync(join(tmpdir(), 'build-'));
let kernel: Kernel;
let other: Kernel;
let folder: string;
let cache: string;
beforeAll(async () => {
  [kernel, other] = await Promise.all([microKernel(), microKernel('cooperative')]);
});
afterAll(() => rmSync(root, { recursive: true, force: true }));
beforeEach(() => {
  folder = mkdtempSync(join(root, 'case-'));
  cache = join(folder, 'cache');
  vi.stubEnv('ONELAUNCH_CACHE', cache);
  vi.stubEnv('ONELAUNCH_CPU_PATHS', undefined);
});
afterEach(() => {
  vi.unstubAllEnvs();
});

function use(behaviour = '', version?: string): FakeCompiler {
  const compiler = fakeCompiler(folder, behaviour, version);
  vi.stubEnv('CXX', compiler.path);
  return compiler;
}

async function noted(options: BuildOptions = {}): Promise<{ built: Built; notes: string[] }> {
  const notes: string[] = [];
  const onProgress: BuildOptions['onProgress'] = (progress) => {
    if (progress.event === 'note') notes.push(progress.line);
  };
  return { built: await build(kernel, { ...options, onProgress }), notes };
}

const links = (compiler: FakeCompiler) => compiler.made().filter((file) => file === 'library.so').length;
const editManifest = (directory: string, change: (manifest: Built['manifest']) => object) => {
  const path = join(directory, 'manifest.json');
  writeFileSync(path, JSON.stringify(change(JSON.parse(readFileSync(path, 'utf8')))));
};

describe('several at a time', () => {
  test('four builds of one kernel in a process are one, and all get it', async () => {
    const compiler = use('sleep 0.1');
    const all = await Promise.all([build(kernel), build(kernel), build(kernel), build(kernel)]);
    expect(links(compiler)).toBe(1);
    expect(all.filter(({ cached }) => !cached)).toHaveLength(1);
    expect(new Set(all.map(({ library }) => library)).size).toBe(1);
    expect(leftovers(cache)).toEqual([]);
  });

  test('who waits says so, and builds if the other is aborted', async () => {
    use(`[ -e "$here/second" ] || { ${hang}; }`);
    const stop = new AbortController();
    const first = build(kernel, { signal: stop.signal });
    const begun = expect(first).rejects.toThrow('enough');
    const lines: string[] = [];
    const second = build(kernel, { onProgress: ({ line }) => lines.push(line) });
    await until(() => lines.includes('waiting for another build of this kernel'), 'a line that it waits');
    writeFileSync(join(folder, 'second'), '');
    stop.abort(new Error('enough'));
    await begun;
    expect((await second).cached).toBe(false);
  });

  test('the folder of a build that lives is left alone by the build of another kernel', async () => {
    const compiler = use(`[ -e "$here/second" ] || { ${hang}; }`);
    const stop = new AbortController();
    const first = build(kernel, { signal: stop.signal });
    const ended = expect(first).rejects.toThrow();
    await until(() => compiler.alive().length > 0, 'a running compiler');
    const living = leftovers(cache);
    expect(living).toHaveLength(2); // a work folder and a lock
    writeFileSync(join(folder, 'second'), '');
    await build(other);
    expect(leftovers(cache)).toEqual(living);
    stop.abort();
    await ended;
    expect(leftovers(cache)).toEqual([]);
  });
});

describe('a build that ends early leaves no compiler and no folder', () => {
  test('aborted: with the reason of the signal', async () => {
    const compiler = use(hang);
    const stop = new AbortController();
    const ended = expect(build(kernel, { signal: stop.signal })).rejects.toThrow('no more');
    await until(() => compiler.alive().length >= 2, 'a compiler and what it started');
    stop.abort(new Error('no more'));
    await ended;
    await until(() => compiler.alive().length === 0, 'the end of all compilers');
    expect(leftovers(cache)).toEqual([]);
  });

  test('one step fails: the others end', async () => {
    const fails = 'sleep 0.3; echo "backend.cpp:3:1: error: no"; exit 1';
    const compiler = use(`case $out in kernel*) ${hang};; *) ${fails};; esac`);
    await expect(build(kernel)).rejects.toThrow('backend.cpp: backend.cpp:3: no');
    expect(compiler.alive()).toEqual([]);
    expect(leftovers(cache)).toEqual([]);
  });

  test('killed: at once, and the next build removes the folder', async () => {
    const compiler = use(`[ -e "$here/second" ] || { ${hang}; }`);
    const script = join(import.meta.dirname, '../support/build-apart.ts');
    const child = spawn(process.execPath, ['--import', 'tsx', script], { stdio: 'ignore' });
    const ended = new Promise((resolve) => child.on('exit', resolve));
    await until(() => compiler.alive().length >= 2, 'a compiler and what it started');
    child.kill('SIGKILL');
    await ended;
    await until(() => compiler.alive().length === 0, 'the end of all compilers');
    expect(leftovers(cache)).toHaveLength(2);
    writeFileSync(join(folder, 'second'), '');
    expect((await build(kernel)).cached).toBe(false);
    expect(leftovers(cache)).toEqual([]);
  });

  test('what dead builders of other kernels left is removed too', async () => {
    use();
    for (const name of ['a-b-c-0123456789ab.4711.tmp', 'a-b-c-ba9876543210.00ff00ff00ff.tmp']) {
      mkdirSync(join(cache, name, 'host'), { recursive: true });
    }
    writeFileSync(join(cache, '0123456789ab.lock'), '');
    mkdirSync(join(cache, 'mine.tmp'));
    await build(kernel);
    expect(leftovers(cache)).toEqual(['mine.tmp']);
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
    ['that is gone', (at: string) => rmSync(join(at, 'library.so')), /library\.so cannot be read$/],
    ['with a manifest cut short', write('manifest.json', '{"format":'), /manifest\.json cannot be read$/],
    ['with an empty manifest', write('manifest.json', ''), /manifest\.json cannot be read$/],
    ['with another manifest', write('manifest.json', 'null'), /manifest\.json cannot be read$/],
    ['without a manifest', (at: string) => rmSync(join(at, 'manifest.json')), /manifest\.json is missing$/],
  ];

  test('a library that is not is told from one that is', async () => {
    use();
    const { directory, manifest } = await build(kernel);
    expect(readEntry(directory)).toEqual({ state: 'whole', manifest });
    expect(readEntry(join(folder, 'nothing'))).toEqual({ state: 'none' });
    for (const [what, damage, why] of damages) {
      const copy = join(folder, what);
      cpSync(directory, copy, { recursive: true });
      damage(copy);
      expect(readEntry(copy), what).toEqual({ state: 'damaged', why: expect.stringMatching(why) });
    }
  });

  test.each(damages.filter((_, i) => i % 6 === 1))(
    'a library %s is built again, with a line',
    async (_, damage, why) => {
      use();
      const { directory, manifest } = await build(kernel);
      damage(directory);
      const { built, notes } = await noted();
      expect(notes).toEqual([expect.stringMatching(/: building it again$/)]);
      expect(notes[0]!.replace(/: building it again$/, '')).toMatch(why);
      expect(built).toMatchObject({ cached: false, directory });
      expect(built.manifest.librarySha256).toBe(manifest.librarySha256);
      expect((await noted()).built.cached).toBe(true);
      expect(readdirSync(cache)).toHaveLength(1);
    },
  );

  test('what a manifest says of the model is not taken from the file', async () => {
    use();
    const { directory, manifest } = await build(kernel);
    editManifest(directory, (read) => ({ ...read, weightBytes: 7, slots: [] }));
    const { built } = await noted();
    expect(built).toMatchObject({ cached: true, manifest: { weightBytes: manifest.weightBytes } });
    expect(built.manifest.slots).toEqual(manifest.slots);
  });
});

describe('compilers', () => {
  test('a built library needs none', async () => {
    use();
    const { directory } = await build(kernel);
    vi.stubEnv('CXX', undefined);
    vi.stubEnv('PATH', folder.replace(/[^/]+$/, 'nowhere'));
    expect(await build(kernel)).toMatchObject({ cached: true, directory });
    await expect(build(other)).rejects.toThrow('no C++ compiler found');
    await expect(build(kernel, { force: true })).rejects.toThrow('no C++ compiler found');
    await expect(build(kernel, { ship: true })).rejects.toThrow('no C++ compiler found');
    truncateSync(join(directory, 'library.so'), 5);
    await expect(build(kernel)).rejects.toThrow('no C++ compiler found');
  });

  test('an unusable CXX is named, and not replaced', async () => {
    vi.stubEnv('CXX', join(folder, 'g++-99'));
    const refused = build(kernel);
    await expect(refused).rejects.toMatchObject({ kind: 'environment' });
    await expect(refused).rejects.toThrow(`CXX is '${join(folder, 'g++-99')}', which does not run`);
    use();
    const { directory } = await build(kernel);
    vi.stubEnv('CXX', join(folder, 'g++-99'));
    expect(await build(kernel)).toMatchObject({ cached: true, directory });
  });

  test('CXX may have words behind it, and a path from here', async () => {
    const { path } = use();
    vi.stubEnv('CXX', `env ${path}`);
    const { manifest } = await build(kernel);
    expect(manifest.build.compiler).toBe('fake 1.0');
    vi.stubEnv('CXX', `${'../'.repeat(process.cwd().split('/').length - 1)}${path.slice(1)}`);
    expect((await build(other)).cached).toBe(false);
  });

  test.each([
    ['of another version', () => use('', 'fake 1.1'), false],
    ['in another place', () => symlinkSync(join(folder, 'c++'), join(folder, 'g++')), true],
    ['with another flag', () => vi.stubEnv('CXX', `${join(folder, 'c++')} -g`), false],
  ])('one %s', async (_, change, cached) => {
    use();
    await build(kernel);
    change();
    if (cached) vi.stubEnv('CXX', join(folder, 'g++'));
    expect((await build(kernel)).cached).toBe(cached);
  });

  test.each([
    ['itself', 'kill -9 $$'],
    ['what it started', 'echo "g++: fatal error: Killed signal terminated program cc1plus"; exit 1'],
  ])('one that is killed for want of memory, %s, is named', async (_, behaviour) => {
    use(behaviour);
    await expect(build(kernel)).rejects.toThrow(/^\w+\.cpp.*: the compiler was killed$/);
  });
});

describe('a full disk is called one', () => {
  test.each([
    ['by the system', 'cat "$here/object" > /dev/full; exit 1'],
    ['by the assembler', 'echo "Fatal error: can\'t close $out: No space left on device"; exit 1'],
  ])('%s', async (_, behaviour) => {
    use(behaviour);
    const refused = build(kernel);
    await expect(refused).rejects.toMatchObject({ kind: 'environment' });
    await expect(refused).rejects.toThrow(`the disk of ${cache}`);
    await expect(refused).rejects.toThrow('is full');
    expect(leftovers(cache)).toEqual([]);
  });
});

describe('instruction sets', () => {
  const best = pathsHere()?.at(-1)?.name;

  test.skipIf(!best)('only the best of this machine is compiled, and all of them to ship', async () => {
    const compiler = use();
    const { manifest, directory } = await build(kernel);
    expect(manifest.paths).toEqual([best]);
    expect(compiler.made().filter((file) => file.startsWith('kernel'))).toEqual([`kernel_${best}.o`]);
    const shipped = await build(kernel, { ship: true });
    expect(shipped).toMatchObject({ cached: false, directory });
    expect([...shipped.manifest.paths].sort()).toEqual(cpuPaths.map(({ name }) => name).sort());
    expect((await build(kernel)).cached).toBe(true);
  });

  test.skipIf(!best)(
    'a library from a machine of other sets gets this one, and keeps what it has',
    async () => {
      use();
      const { directory } = await build(kernel);
      const paths = best === 'plain' ? ['future'] : ['plain'];
      editManifest(directory, (read) => ({ ...read, paths }));
      const { built, notes } = await noted();
      expect(notes).toEqual([`built before for ${paths[0]}: now for ${best} too`]);
      expect(built.manifest.paths).toEqual([...paths, best]);
      expect(built.cached).toBe(false);
    },
  );

  test.skipIf(!best)('without a compiler one that this machine can run is taken, and no other', async () => {
    use();
    const { directory } = await build(kernel);
    vi.stubEnv('CXX', '/nowhere');
    editManifest(directory, (read) => ({ ...read, paths: ['plain'] }));
    expect((await build(kernel)).cached).toBe(true);
    editManifest(directory, (read) => ({ ...read, paths: ['future'] }));
    await expect(build(kernel)).rejects.toThrow('does not run');
  });

  test('those of ONELAUNCH_CPU_PATHS and no others, in a folder of their own', async () => {
    use();
    const { directory } = await build(kernel);
    vi.stubEnv('ONELAUNCH_CPU_PATHS', 'plain');
    const built = await build(kernel);
    expect(built.manifest.paths).toEqual(['plain']);
    expect(built.directory).not.toBe(directory);
    vi.stubEnv('ONELAUNCH_CPU_PATHS', 'plain,avx3');
    await expect(build(kernel)).rejects.toThrow("ONELAUNCH_CPU_PATHS has no path 'avx3'");
  });
});

describe('gen build', () => {
  const gen = async (...args: string[]) => {
    const { io, written } = memoryIo();
    const model = join(import.meta.dirname, '../fixtures/qwen3-micro');
    const code = await run(['build', '--model', model, '--target', 'cpu', '--plan', 'unfused', ...args], io);
    return { code, out: written.out.trim(), lines: written.err.trim().split('\n') };
  };

  test('has a line for each step, with its time, and one for what came of it', async () => {
    vi.stubEnv('ONELAUNCH_CPU_PATHS', 'plain');
    use();
    const { code, lines } = await gen();
    expect(code).toBe(0);
    const shown = lines.map((line) => line.replaceAll(/[\d.]+ s$/g, 'TIME')).sort();
    expect(shown).toEqual([
      '  backend.cpp: TIME',
      '  kernel.cpp for plain C++: TIME',
      '  library.cpp: TIME',
      '  link: TIME',
      'compiling: kernel.cpp for plain C++',
      'qwen3-micro-cpu-unfused: compiled in TIME',
    ]);
    expect((await gen()).lines).toEqual(['qwen3-micro-cpu-unfused: built before']);
  });

  test('says when a library is damaged, and exits with 3 for a full disk and for a CXX that does not run', async () => {
    use();
    const { out } = await gen();
    truncateSync(join(out, 'library.so'), 1000);
    expect((await gen()).lines[0]).toMatch(/library\.so has 1000 bytes of 200000: building it again$/);
    use('cat "$here/object" > /dev/full; exit 1');
    const full = await gen('--force');
    expect(full.code).toBe(3);
    expect(full.lines).toContainEqual(expect.stringMatching(/^error: the disk of .* is full$/));
    vi.stubEnv('CXX', 'g++-99');
    const missing = await gen('--force');
    expect(missing.code).toBe(3);
    expect(missing.lines).toContain("error: CXX is 'g++-99', which does not run");
  });
});
