import { execFileSync } from 'node:child_process';
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { abiFunctions, abiStructs, abiVersion } from '../../abi/abi.ts';
import { abiHeader, structLayout } from '../../abi/header.ts';
import { bindingsSource } from '../../abi/print-bindings.ts';
import { OnelaunchError } from '../../errors.ts';
import { layout } from '../../runtime/engine/bindings.ts';
import { openLibrary } from '../../runtime/engine/library.ts';
import { fakeManifest } from '../support/host-fake.ts';

let folder: string;
beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), 'ol-abi-'));
});
afterAll(() => rmSync(folder, { recursive: true }));

/** Compiles text that includes abi.h, which stands in `folder` as `header`. */
function compile(
  compiler: string,
  standard: string,
  text: string,
  header = abiHeader(),
  flags = ['-fsyntax-only'],
) {
  const file = join(folder, standard.startsWith('c++') ? 'main.cpp' : 'main.c');
  writeFileSync(join(folder, 'abi.h'), header);
  writeFileSync(file, text);
  execFileSync(compiler, [`-std=${standard}`, '-Wall', '-Wextra', '-Werror', ...flags, file], {
    stdio: 'pipe',
  });
}

describe('the printed interface', () => {
  it('is what runtime/engine/bindings.ts holds, byte for byte', () => {
    expect(readFileSync(new URL('../../runtime/engine/bindings.ts', import.meta.url), 'utf8')).toBe(
      bindingsSource(),
    );
  });

  it.each([
    ['gcc', 'c11'],
    ['g++', 'c++17'],
  ])('compiles without a warning with %s as %s', (compiler, standard) => {
    compile(compiler, standard, '#include "abi.h"\n');
  });

  it('is refused by a compiler that lays a struct out otherwise', () => {
    const shifted = abiHeader().replace('  int32_t slot;', '  int64_t slot;');
    expect(() => compile('gcc', 'c11', '#include "abi.h"\n', shifted)).toThrow(/TensorSource\.dtype/);
  });

  it('declares every function of the table once', () => {
    const names = [...abiHeader().matchAll(/^OL_API .*?(ol_\w+)\(/gm)].map((match) => match[1]);
    expect(names).toEqual(abiFunctions.map((fn) => fn.name));
  });

  it('has the layout that koffi computes', () => {
    const byKoffi = layout.map(({ type }) => ({
      size: type.size,
      offsets: Object.values(type.members ?? {}).map((member) => member.offset),
    }));
    const byRule = abiStructs.map((struct) => {
      const { size, offsets } = structLayout(struct);
      return { size, offsets: Object.values(offsets) };
    });
    expect(byKoffi).toEqual(byRule);
  });
});

describe('openLibrary', () => {
  const slots = [{ tensor: 'a', shape: [1, 8], offset: 0, stride: 8, dtype: 'fp32' } as const].map(
    (slot) => ({
      ...slot,
      shape: [1, 8] as [number, number],
    }),
  );

  /** A library that answers ol_describe and ol_layout and does nothing else. */
  function stub(name: string, describe = '{kAbiVersion, 4, 512, 1, 128, "fake"}', tweak = ''): string {
    const path = join(folder, `${name}.so`);
    if (existsSync(path)) return path;
    const others = abiFunctions.filter((fn) => fn.name !== 'ol_describe' && fn.name !== 'ol_layout');
    const text = [
      '#include "abi.h"',
      `extern "C" int32_t ol_describe(Description* out) noexcept { *out = ${describe}; return 0; }`,
      'extern "C" int64_t ol_layout(int32_t i) noexcept {',
      '  static const int64_t all[] = {OL_LAYOUT};',
      `  ${tweak}`,
      '  return i < int32_t(sizeof all / sizeof *all) ? all[i] : -1;',
      '}',
      ...(name === 'partial'
        ? []
        : others.map(
            (fn) => `extern "C" OL_API void stub_${fn.name}() __asm__("${fn.name}");
void stub_${fn.name}() {}`,
          )),
    ].join('\n');
    compile('g++', 'c++17', text, abiHeader(), ['-shared', '-fPIC', '-Wno-unused', '-o', path]);
    return path;
  }
  const refusal = (path: string, manifest = fakeManifest(slots, 128)) => {
    try {
      openLibrary(path, manifest);
    } catch (error) {
      if (error instanceof OnelaunchError) return error;
      throw error;
    }
    return null;
  };

  it('takes a library that fits', () => {
    expect(refusal(stub('fits'))).toBe(null);
  });

  it('refuses a library of another interface version, and says to build again', () => {
    const error = refusal(stub('version', '{kAbiVersion + 1, 4, 512, 1, 128, "fake"}'));
    expect(error?.message).toContain(
      `version.so does not match: interface version is ${abiVersion + 1}, expected ${abiVersion}`,
    );
    expect(error?.hint).toMatch(/build it again/);
  });

  it.each([
    ['size', 'if (i == 0) return 40;', 'size of Description is 40, expected 32'],
    ['offset', 'if (i == 2) return 8;', 'offset of Description.pass_tokens is 8, expected 4'],
    ['longer', 'if (i == int32_t(sizeof all / sizeof *all)) return 7;', 'number of fields is larger'],
  ])('refuses a library with another layout (%s)', (name, tweak, message) => {
    expect(refusal(stub(name, undefined, tweak))?.message).toContain(message);
  });

  it.each([
    ['hash', { hash: 'other' }, 'hash is fake, expected other'],
    ['weight bytes', { weightBytes: 256 }, 'weight bytes is 128, expected 256'],
    ['tokens a pass', { passTokens: 8 }, 'tokens a pass is 4, expected 8'],
    ['slots', { slots: [] }, 'weight slots is 1, expected 0'],
    ['manifest version', { abi: 99 }, `interface version in the manifest is 99, expected ${abiVersion}`],
  ])('refuses a library whose manifest differs in %s', (_, change, message) => {
    expect(refusal(stub('manifest'), { ...fakeManifest(slots, 128), ...change })?.message).toContain(message);
  });

  it('names the file that cannot be loaded, and a function that is missing', () => {
    const missing = refusal(join(folder, 'nowhere.so'));
    expect(missing?.message).toMatch(/^cannot load .*nowhere\.so: /);
    expect(missing?.kind).toBe('environment');
    expect(refusal(stub('partial'))?.message).toMatch(/ol_channel/);
  });
});
