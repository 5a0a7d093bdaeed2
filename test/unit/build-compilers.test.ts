import { mkdtempSync, readdirSync, symlinkSync, truncateSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { beforeAll, describe, expect, test, vi } from 'vitest';
import { memoryIo } from '../../cli/io.ts';
import { run } from '../../cli/run.ts';
import { build } from '../../codegen/build/build.ts';
import { cpuPaths, pathsHere } from '../../codegen/build/cpu-paths.ts';
import { findTools, keyOf, recipeOf, type Tools } from '../../codegen/build/recipe.ts';
import type { Kernel } from '../../codegen/index.ts';
import { targetNamed } from '../../configs/targets.ts';
import { BuildError } from '../../errors.ts';
import { runProbe } from '../../lab/calibrate/probe.ts';
import { buildSandbox, editManifest, noted } from '../support/build-sandbox.ts';
import { type FakeCompiler, hang, leftovers, microKernel } from '../support/fake-compiler.ts';
import { until } from '../support/within.ts';

const at = buildSandbox();
let kernel: Kernel;
let other: Kernel;
beforeAll(async () => {
  [kernel, other] = await Promise.all([microKernel(), microKernel('cooperative')]);
});

describe('compilers', () => {
  test('a built library needs none', async () => {
    at.use();
    const { directory } = await build(kernel);
    vi.stubEnv('CXX', undefined);
    vi.stubEnv('PATH', at.folder.replace(/[^/]+$/, 'nowhere'));
    expect(await build(kernel)).toMatchObject({ cached: true, directory });
    await expect(build(other)).rejects.toThrow('no C++ compiler found');
    await expect(build(other)).rejects.toMatchObject({
      ...{ name: 'BuildError', kind: 'environment', command: undefined, log: '' },
    });
    await expect(build(kernel, { force: true })).rejects.toThrow('no C++ compiler found');
    await expect(build(kernel, { ship: true })).rejects.toThrow('no C++ compiler found');
    truncateSync(join(directory, 'library.so'), 5);
    await expect(build(kernel)).rejects.toThrow('no C++ compiler found');
  });

  test('an unusable CXX is named, and not replaced', async () => {
    vi.stubEnv('CXX', join(at.folder, 'g++-99'));
    const refused = build(kernel);
    await expect(refused).rejects.toMatchObject({ kind: 'environment' });
    await expect(refused).rejects.toThrow(`CXX is '${join(at.folder, 'g++-99')}', which does not run`);
    at.use();
    const { directory } = await build(kernel);
    vi.stubEnv('CXX', join(at.folder, 'g++-99'));
    expect(await build(kernel)).toMatchObject({ cached: true, directory });
  });

  test.each(['g++ (Ubuntu 11.4.0-1ubuntu1~22.04) 11.4.0', 'g++ (GCC) 11.4.1 20231218 (Red Hat 11.4.1-3)'])(
    'one that is too old is named, before it is run: %s',
    async (version) => {
      at.use();
      const { directory } = await build(kernel);
      const compiler = at.use('', version);
      const before = compiler.made().length;
      expect(await build(kernel)).toMatchObject({ cached: true, directory });
      await expect(build(other)).rejects.toMatchObject({
        ...{ name: 'BuildError', kind: 'environment', message: 'g++ 11 is too old for kernels of a CPU' },
        hint: 'install g++ 12 or newer, or clang++, and name it in CXX',
      });
      expect(compiler.made().length).toBe(before);
      const { io, written } = memoryIo();
      expect(await run(['doctor'], io)).toBe(3);
      expect(written.out).toContain('C++ compiler   none: g++ 11 is too old for kernels of a CPU');
    },
  );

  test.each([
    'g++ (Debian 12.2.0-14+deb12u1) 12.2.0',
    'Debian clang version 11.0.1-2',
    'x86_64-conda-linux-gnu-c++ (conda-forge gcc 13.2.0-5) 13.2.0',
  ])('one that is not too old compiles: %s', async (version) => {
    at.use('', version);
    expect((await build(kernel)).manifest.build.compiler).toBe(version);
  });

  test('nvcc may have an older one beside it', async () => {
    at.use('', 'g++ (Ubuntu 11.4.0-1ubuntu1~22.04) 11.4.0');
    const recipe = recipeOf(await microKernel('unfused', 'h100', 'qwen3-micro'));
    vi.stubEnv('NVCC', at.use('', 'g++ (Ubuntu 11.4.0-1ubuntu1~22.04) 11.4.0').path);
    expect(findTools(recipe)).toHaveProperty('nvcc');
  });

  test('a disk of temporary files that is full is what a probe names', async () => {
    at.use('echo "fatal error: error writing to x.s: No space left on device" >&2; exit 1');
    const { signal } = new AbortController();
    const probed = runProbe(targetNamed('cpu')!, { device: 0, threads: 1, signal });
    await expect(probed).rejects.toMatchObject({
      ...{ kind: 'environment', message: `the disk of ${tmpdir()} is full` },
      hint: expect.stringContaining('TMPDIR'),
    });
  });

  test('a probe that is interrupted leaves nothing that its compiler started or wrote', async () => {
    const temporary = mkdtempSync(join(at.folder, 'temporary-'));
    vi.stubEnv('TMPDIR', temporary);
    const compiler = at.use(`touch "$TMPDIR/cc0.s"; ${hang}`);
    const stop = new AbortController();
    const probed = runProbe(targetNamed('cpu')!, { device: 0, threads: 1, signal: stop.signal });
    await until(
      () => compiler.alive().length === 2,
      () => 'the compiler of a probe, and what it starts',
    );
    stop.abort();
    await expect(probed).rejects.toBe(stop.signal.reason);
    expect(compiler.alive()).toEqual([]);
    expect(readdirSync(temporary)).toEqual([]);
  });

  test('CXX may have words behind it, and a path from here', async () => {
    const { path } = at.use();
    vi.stubEnv('CXX', `env ${path} -g`);
    const { manifest } = await build(kernel);
    expect(manifest.build.compiler).toBe('fake 1.0 -g');
    vi.stubEnv('CXX', `${'../'.repeat(process.cwd().split('/').length - 1)}${path.slice(1)}`);
    expect((await build(other)).cached).toBe(false);
  });

  const key = () => {
    const recipe = recipeOf(kernel);
    return keyOf(recipe, findTools(recipe) as Tools);
  };

  test.each([
    ['of another version makes another library', () => at.use('', 'fake 1.1').path, false],
    ['with another flag makes another library', ({ path }: FakeCompiler) => `${path} -g`, false],
    [
      'that lies elsewhere makes the same',
      ({ path }: FakeCompiler) => {
        symlinkSync(path, join(at.folder, 'g++'));
        return join(at.folder, 'g++');
      },
      true,
    ],
  ])('one %s', (_, change, same) => {
    const compiler = at.use();
    const before = key();
    expect(key()).toBe(before);
    vi.stubEnv('CXX', change(compiler));
    expect(key() === before).toBe(same);
  });

  test('what ptxas finds is told, and not that it found something', async () => {
    const found = `ptxas /tmp/kernel.ptx, line 7; error   : Feature '.bf16' requires .target sm_80 or higher`;
    at.use(`echo "${found}"; echo "ptxas fatal   : Ptx assembly aborted due to errors"; exit 1`);
    await expect(build(kernel)).rejects.toThrow(/failed: Feature '\.bf16' requires .target sm_80 or higher$/);
  });

  test.each([
    ['itself', 'kill -9 $$'],
    ['what it started', 'echo "g++: fatal error: Killed signal terminated program cc1plus"; exit 1'],
  ])('one that is killed for want of memory, %s, is named', async (_, behaviour) => {
    at.use(behaviour);
    const killed = build(kernel);
    await expect(killed).rejects.toThrow(/^\w+\.cpp.*: the compiler was killed$/);
    await expect(killed).rejects.toBeInstanceOf(BuildError);
    await expect(killed).rejects.toMatchObject({
      ...{ kind: 'failed', log: expect.stringContaining('illed') },
      command: expect.arrayContaining([expect.stringContaining('.cpp')]),
    });
  });
});

describe('a full disk is called one', () => {
  test.each([
    ['by the system', 'cat "$here/object" > /dev/full; exit 1'],
    ['by the assembler', 'echo "Fatal error: can\'t close $out: No space left on device"; exit 1'],
  ])('%s', async (_, behaviour) => {
    at.use(behaviour);
    const refused = build(kernel);
    await expect(refused).rejects.toMatchObject({ kind: 'environment' });
    await expect(refused).rejects.toThrow(`the disk of ${at.cache}`);
    await expect(refused).rejects.toThrow('is full');
    expect(leftovers(at.cache)).toEqual([]);
  });
});

describe('instruction sets', () => {
  const best = pathsHere()?.at(-1)?.name;

  test.skipIf(!best)(
    'the best of this machine is compiled, all of them to ship, and a library gets what it lacks',
    async () => {
      const compiler = at.use();
      const { manifest, directory } = await build(kernel);
      expect(manifest.paths).toEqual([best]);
      expect(compiler.made().filter((file) => file.startsWith('kernel'))).toEqual([`kernel_${best}.o`]);

      // As if a machine of other sets had built it.
      const theirs = best === 'plain' ? 'future' : 'plain';
      editManifest(directory, (read) => ({ ...read, paths: [theirs] }));
      const { built, notes } = await noted(kernel);
      expect(notes).toEqual([`built before for ${theirs}: now for ${best} too`]);
      expect(built).toMatchObject({ cached: false, directory, manifest: { paths: [theirs, best] } });

      editManifest(directory, (read) => ({ ...read, paths: [best] }));
      const shipped = await build(kernel, { ship: true });
      expect(shipped).toMatchObject({ cached: false, directory });
      expect([...shipped.manifest.paths].sort()).toEqual(cpuPaths.map(({ name }) => name).sort());
      expect((await build(kernel)).cached).toBe(true);

      vi.stubEnv('CXX', '/nowhere');
      expect((await build(kernel, { ship: true })).cached).toBe(true);
      editManifest(directory, (read) => ({ ...read, paths: ['plain'] }));
      expect((await build(kernel)).cached).toBe(true);
      await expect(build(kernel, { ship: true })).rejects.toThrow('does not run');
      editManifest(directory, (read) => ({ ...read, paths: ['future'] }));
      const refused = await noted(kernel).catch((error: Error) => error.message);
      expect(refused).toBe("CXX is '/nowhere', which does not run");
    },
  );

  test('those of ONELAUNCH_CPU_PATHS and no others make another library', () => {
    const { hash } = recipeOf(kernel);
    vi.stubEnv('ONELAUNCH_CPU_PATHS', 'plain');
    const recipe = recipeOf(kernel);
    expect(recipe.paths).toEqual(['plain']);
    expect(recipe.hash).not.toBe(hash);
    expect(recipeOf(kernel, { ship: true }).hash).toBe(hash);
    vi.stubEnv('ONELAUNCH_CPU_PATHS', 'plain,avx3');
    expect(() => recipeOf(kernel)).toThrow("ONELAUNCH_CPU_PATHS has no path 'avx3'");
  });
});

describe('gen build', () => {
  const gen = async (...args: string[]) => {
    const { io, written } = memoryIo();
    const model = join(import.meta.dirname, '../fixtures/qwen3-micro');
    const code = await run(['build', '--model', model, '--target', 'cpu', '--plan', 'unfused', ...args], io);
    return { code, out: written.out.trim(), lines: written.err.trim().split('\n') };
  };

  test('has a line for each step and what came of it, for damage, a full disk and a CXX that does not run', async () => {
    vi.stubEnv('ONELAUNCH_CPU_PATHS', 'plain');
    at.use();
    const first = await gen();
    expect(first.code).toBe(0);
    const shown = first.lines.map((line) => line.replaceAll(/[\d.]+ s$/g, 'TIME')).sort();
    expect(shown).toEqual([
      '  backend.cpp: TIME',
      '  kernel.cpp for plain C++: TIME',
      '  library.cpp: TIME',
      '  link: TIME',
      '  model.cpp: TIME',
      'compiling: kernel.cpp for plain C++',
      'qwen3-micro-cpu-unfused: compiled in TIME',
    ]);
    expect((await gen()).lines).toEqual(['qwen3-micro-cpu-unfused: built before']);

    truncateSync(join(first.out, 'library.so'), 1000);
    at.use('cat "$here/object" > /dev/full; exit 1');
    const full = await gen();
    expect(full.code).toBe(3);
    expect(full.lines[0]).toMatch(/library\.so has 1000 bytes of 200000: building it again$/);
    expect(full.lines).toContainEqual(expect.stringMatching(/^error: the disk of .* is full$/));

    vi.stubEnv('CXX', 'g++-99');
    const missing = await gen();
    expect(missing.code).toBe(3);
    expect(missing.lines).toContain("error: CXX is 'g++-99', which does not run");
  });
});
