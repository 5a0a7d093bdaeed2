// A plan file is remembered by its path, found from anywhere, and its library is built once whatever it is called.
import { spawnSync } from 'node:child_process';
import { mkdirSync, readFileSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { dirname, join, relative } from 'node:path';
import { afterAll, describe, expect, test } from 'vitest';
import { currentHash } from '../../cli/report-file.ts';
import { packageRoot } from '../../codegen/build/package-root.ts';
import { generate } from '../../codegen/index.ts';
import cooperative from '../../configs/plans/cooperative.ts';
import {
  resolveModel,
  resolvePlan,
  resolveTarget,
  resolveVaried,
  shippedVariants,
  unlisted,
} from '../../configs/resolve.ts';
import { buildKernel } from '../../load.ts';
import { ownOps, planFolder, writePlan } from '../support/plan-files.ts';

const folder = planFolder();
afterAll(() => rmSync(folder, { recursive: true, force: true }));
const { dims } = resolveModel(join(import.meta.dirname, '../fixtures/qwen3-micro'));
const target = resolveTarget('cpu');
const fromHere = (path: string) => relative(process.cwd(), path);

describe('a plan file outside of any package', () => {
  test.each(['mine.ts', 'mine.mts', 'mine.js', 'mine.mjs'])('%s finds the running package', async (file) => {
    const plan = await resolvePlan(writePlan(folder, 'mine', { file }));
    expect(plan.stages).toEqual(cooperative.stages.map((stage) => ({ ...stage, at: expect.anything() })));
    expect(plan.stages[0]!.at).toMatchObject({ line: 4, column: 3 });
  });

  test('so do the files that it imports', async () => {
    writeFileSync(
      join(folder, 'base.ts'),
      "import { stream } from 'onelaunch/codegen';\nexport const slots = (n: number) => stream({ slots: n });\n",
    );
    const file = writePlan(folder, 'imports', { ops: "import { slots } from './base.ts';" });
    writeFileSync(file, readFileSync(file, 'utf8').replace('barriers(),', 'slots(9),'));
    expect((await resolvePlan(file)).scheme).toMatchObject({ kind: 'stream', slots: 9 });
  });

  test.each([
    ['behind.ts', "const text: string = 'x'; export { default } from './again.ts';"],
    ['behind.js', "/* in one line */ export { default } from './again.ts';"],
  ])('%s is a module, though no line of it begins as one of a module does', async (name, text) => {
    const words = "import { resolvePlan } from 'onelaunch/configs';";
    writeFileSync(join(folder, 'again.ts'), `${words}\nexport default await resolvePlan('cooperative');\n`);
    writeFileSync(join(folder, name), text);
    expect((await resolvePlan(join(folder, name))).name).toBe('cooperative');
  });

  test('a file that does not parse is refused with its place', async () => {
    const file = join(folder, 'broken.ts');
    writeFileSync(file, 'export default plan(;\n');
    await expect(resolvePlan(file)).rejects.toThrow('broken.ts:1:20: ERROR: Unexpected ";"');
  });
});

describe('the variants of a plan file', () => {
  const writeVariants = (name: string, variants: string): string => {
    const file = join(folder, `${name}.ts`);
    const words =
      "import { dealt } from 'onelaunch/codegen';\nimport { resolvePlan } from 'onelaunch/configs';";
    const base = `const base = (await resolvePlan('stream')).with('stream', {});`;
    writeFileSync(file, `${words}\n${base}\nexport default base;\nexport const variants = ${variants};\n`);
    return file;
  };
  const unsplit = (name: string) => `base.with('${name}', { attention: dealt({ split: 'none' }) })`;

  test('are those that it exports, though its plan is called as one that ships', async () => {
    const { plan, variants } = await resolveVaried(writeVariants('varied', `[${unsplit('whole')}]`));
    expect(plan.file).toBe(fromHere(join(folder, 'varied.ts')));
    expect(variants.map(({ name, file, at }) => [name, file, at.line])).toEqual([['whole', null, 5]]);
    expect(shippedVariants(plan)).toEqual([]);
    expect((await resolveVaried('stream')).variants.map(({ name }) => name)).toContain('stream-unsplit');
    expect((await resolveVaried(writePlan(folder, 'single'))).variants).toEqual([]);
  });

  test.each([
    ['a plan alone', unsplit('whole'), 'exports are no list of plans'],
    ['no plan', '[base, 3]', 'no-plan.ts: variants[1] is 3'],
    [
      'a field that is wrong',
      '[{ ...base, stages: [7] }]',
      'a-field-that-is-wrong.ts: variants[0].stages[0] is 7',
    ],
    ['a name of two', `[${unsplit('a')}, ${unsplit('a')}]`, "exports are called 'a'"],
    ['the name of the plan', `[${unsplit('stream')}]`, "exports are called 'stream'"],
  ])('are refused where they are %s, by who asks for them alone', async (what, variants, message) => {
    const file = writeVariants(what.replaceAll(' ', '-'), variants);
    await expect(resolveVaried(file)).rejects.toThrow(message);
    expect((await resolvePlan(file)).name).toBe('stream');
  });
});

test.each([
  ['nothing', 'export const named = 1;', 'there is no default export', 'export default plan(name'],
  ['a name', "export default 'stream';", 'the default export is no plan', 'export default plan(name'],
  ['a promise', 'export default Promise.resolve(1);', 'the default export is a promise', 'await'],
  ['part of one', "export default { name: 'x', stages: [] };", 'plan.scheme is missing', 'of type object'],
])('a file that exports %s is named where that is refused', async (what, text, message, hint) => {
  const file = join(folder, `exports-${what.replaceAll(' ', '-')}.ts`);
  writeFileSync(file, `${text}\n`);
  await expect(resolvePlan(file)).rejects.toMatchObject({
    message: expect.stringContaining(`${file}: ${message}`),
    hint: expect.stringContaining(hint),
  });
});

test.each(['SIGINT', 'SIGTERM', 'SIGHUP'] as const)(
  'while a plan file is read nobody listens for %s, which then ends one that computes for ever',
  async (signal) => {
    const listener = () => {};
    process.on(signal, listener);
    const ops = `Object.assign(globalThis, { listened: process.listenerCount('${signal}') });`;
    await resolvePlan(writePlan(folder, `listens-${signal}`, { ops }));
    expect(globalThis).toMatchObject({ listened: 0 });
    expect(process.listeners(signal)).toContain(listener);
    process.off(signal, listener);
  },
);

describe('the path of a plan file', () => {
  test('stands in the header, from the working folder', async () => {
    const file = writePlan(folder, 'geglu', ownOps.geglu);
    const { sources, plan } = await generate({ dims, target, plan: await resolvePlan(file) });
    expect(plan).toMatchObject({ name: 'geglu', file: fromHere(file) });
    expect(sources['kernel.cpp']!.split('\n')[0]).toBe(
      `// Generated by \`gen --model qwen3-micro --target cpu --plan ${fromHere(file)}\`. Do not edit.`,
    );
  });

  test('begins with a dot in the working folder, so that it is no name', async () => {
    const near = join(packageRoot(), 'generated', 'plans');
    mkdirSync(near, { recursive: true });
    const plan = await resolvePlan(writePlan(near, 'near'));
    expect(plan.file).toBe('./generated/plans/near.ts');
    expect((await resolvePlan(plan.file!)).name).toBe('near');
    rmSync(near, { recursive: true });
  });

  test('is not there for a plan that is built in, nor for what is made of it', () => {
    expect(cooperative.file).toBeNull();
    expect(cooperative.with('mine', {}).file).toBeNull();
  });

  test.each(["a b/it's $mine.ts", "a\nb'/mine.ts", 'plain-1.0/mine.ts'])(
    'is a word of the command in the header, whatever its path: %j',
    async (name) => {
      mkdirSync(dirname(join(folder, name)), { recursive: true });
      const file = writePlan(folder, 'mine', { file: name });
      const { sources } = await generate({ dims, target, plan: await resolvePlan(file) });
      const [first, second] = sources['kernel.cpp']!.split('\n');
      expect(second).toBe('//');
      const [, command] = /`(.*)`\. Do not edit\.$/.exec(first!)!;
      const said = spawnSync('bash', ['-c', `printf '%s\\0' ${command}`], { encoding: 'utf8' }).stdout;
      expect(said.split('\0').slice(-3)).toEqual(['--plan', fromHere(file), '']);
    },
  );

  test('makes the figures of a report those of known sources', async () => {
    const file = writePlan(folder, 'reported');
    const { hash } = await generate({ dims, target, plan: await resolvePlan(file) });
    const report = { kernel: 'x', model: dims.name, target: 'cpu', plan: 'reported', dims: { ...dims } };
    expect(await currentHash({ ...report, planFile: fromHere(file) })).toBe(hash);
    expect(await currentHash(report)).toBeNull();
  });
});

describe('a target that is not listed', () => {
  const h100 = resolveTarget('h100');
  const calibrated = { ...h100, pollCycles: { ...h100.pollCycles, down_proj: 77 } };

  test('is told apart from the listed one of its name', () => {
    expect(unlisted(h100)).toBeUndefined();
    expect(unlisted({ ...h100 })).toBeUndefined();
    expect(unlisted(calibrated)).toBe(calibrated);
  });

  test('is in the figures of a report, whose sources are known by it', async () => {
    const plan = await resolvePlan('stream');
    const { hash } = await generate({ dims, target: calibrated, plan });
    const report = { kernel: 'x', model: dims.name, target: 'h100', plan: 'stream', dims: { ...dims } };
    expect(await currentHash({ ...report, ownTarget: { ...calibrated } })).toBe(hash);
    expect(await currentHash(report)).not.toBe(hash);
    const ownTarget = { ...calibrated, name: 'mine' };
    expect(await currentHash({ ...report, target: 'mine', ownTarget })).toBe(hash);
    expect(await currentHash({ ...report, target: 'mine' })).toBeNull();
  });
});

test('a library is found under another name of its plan and of its model', async () => {
  const renamed = join(folder, 'renamed');
  symlinkSync(join(packageRoot(), 'models', 'qwen3-tiny'), renamed);
  const first = await buildKernel({ model: 'qwen3-tiny', target: 'cpu' });
  const plan = cooperative.with('other', {});
  const second = await buildKernel({ model: renamed, target: 'cpu', plan });
  expect(second).toMatchObject({ cached: true, directory: first.directory });
  expect(second.manifest).toMatchObject({ name: 'renamed-cpu-other', model: 'renamed', plan: 'other' });
  expect(second.manifest.dims.name).toBe('renamed');
});
