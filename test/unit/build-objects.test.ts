// What builds of different kernels share: objects of the host code, as long as they are what was compiled.
import { readdirSync, truncateSync } from 'node:fs';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { build } from '../../codegen/build/build.ts';
import { included } from '../../codegen/build/objects.ts';
import type { Kernel } from '../../codegen/index.ts';
import { buildSandbox } from '../support/build-sandbox.ts';
import { microKernel } from '../support/fake-compiler.ts';

const at = buildSandbox();
const shared = (made: readonly string[]) => {
  const times = (object: string) => made.filter((file) => file === object).length;
  expect(times('backend.o')).toBe(times('library.o'));
  return times('library.o');
};
const kept = () => readdirSync(join(at.cache, 'objects'));

test('the host code is compiled for the first kernel, and again by another compiler or of other text', async () => {
  const compiler = at.use();
  const [one, other] = await Promise.all([microKernel(), microKernel('cooperative')]);
  await build(one);
  await build(other);
  expect(shared(compiler.made())).toBe(1);
  const text = `${one.sources['host/backend.h']}\n`;
  await build({ ...one, hash: 'changed', sources: { ...one.sources, 'host/backend.h': text } });
  expect(shared(compiler.made())).toBe(2);
  await build(other, { profile: true });
  expect(shared(compiler.made())).toBe(3);
  const newer = at.use('', 'fake 2.0');
  await build(one);
  expect(shared(newer.made())).toBe(4);
});

test('a kept object that is damaged is compiled again; force does not ask for it', async () => {
  const compiler = at.use();
  await build(await microKernel());
  const other = await microKernel('cooperative');
  const names = kept();
  expect(names).toHaveLength(2);
  for (const name of names) truncateSync(join(at.cache, 'objects', name), 1000);
  await build(other);
  expect(shared(compiler.made())).toBe(2);
  expect(kept()).toEqual(names);
  await build(other, { force: true });
  expect(shared(compiler.made())).toBe(3);
});

test('backend.cpp and what it includes are the same text for every model and plan of a CPU', async () => {
  const kernels = await Promise.all([
    microKernel(),
    microKernel('cooperative'),
    microKernel('unfused', 'cpu', 'mistral-micro'),
  ]);
  const texts = kernels.map(({ sources }) =>
    included(sources, 'backend.cpp').map((name) => [name, sources[name]]),
  );
  expect(texts[0]!.map(([name]) => name)).toContain('lib/entry.h');
  for (const other of texts.slice(1)) expect(other).toEqual(texts[0]);
});

test.each(['cpu', 'h100', 'a100'])('no header of the model reaches library.cpp for %s', async (target) => {
  const { sources }: Kernel = await microKernel(target === 'cpu' ? 'unfused' : 'cooperative', target);
  const files = included(sources, 'host/library.cpp');
  expect(files).toContain('host/generate.h');
  expect(files.filter((file) => /^(?!host\/|abi\.h$)/.test(file))).toEqual([]);
  expect(included(sources, 'host/model.cpp')).toContain('model.h');
});
