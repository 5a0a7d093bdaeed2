// The arrows between the parts, read from the imports.
import { readdirSync, readFileSync } from 'node:fs';
import { dirname, join, relative } from 'node:path';
import { expect, test } from 'vitest';

const root = join(import.meta.dirname, '..', '..');
const parts = [
  ...['abi', 'codegen', 'files', 'gguf', 'quantised', 'hub', 'runtime', 'lab', 'server', 'cli', 'configs'],
];
const files = [
  ...readdirSync(root).filter((file) => file.endsWith('.ts') && file !== 'vitest.config.ts'),
  ...parts.flatMap((part) =>
    readdirSync(join(root, part), { recursive: true })
      .map((file) => join(part, String(file)))
      .filter((file) => file.endsWith('.ts')),
  ),
];

/** Files of ours that a file imports, types and dynamic imports included. */
function importsOf(file: string): string[] {
  const text = readFileSync(join(root, file), 'utf8');
  return [...text.matchAll(/(?:from|import)\s*\(?\s*'(\.[^']+)'/g)].map((found) =>
    relative(root, join(root, dirname(file), found[1]!)),
  );
}

const arrows = files.flatMap((from) => importsOf(from).map((to) => ({ from, to })));
const between = (from: string, to: string) =>
  arrows
    .filter((arrow) => arrow.from.startsWith(from) && arrow.to.startsWith(to))
    .map((a) => `${a.from} -> ${a.to}`);

test('there are arrows to look at', () => {
  expect(arrows.length).toBeGreaterThan(100);
});

test('codegen does not know the runtime', () => {
  expect(between('codegen/', 'runtime/')).toEqual([]);
});

test('the runtime does not know codegen: they share abi/', () => {
  expect(between('runtime/', 'codegen/')).toEqual([]);
});

test('abi/ knows neither side', () => {
  expect(between('abi/', '').filter((arrow) => !/-> (?:abi\/|errors\.ts)/.test(arrow))).toEqual([]);
});

test('codegen does not look up at what users edit; it hands on the words that ops are written in', () => {
  expect(between('codegen/', 'configs/')).toEqual(['codegen/index.ts -> configs/dsl.ts']);
});

test('hub/ knows neither side, and neither side knows it', () => {
  expect(between('hub/', '').filter((arrow) => !/-> (?:hub\/|errors\.ts|files\/)/.test(arrow))).toEqual([]);
  expect([...between('codegen/', 'hub/'), ...between('runtime/', 'hub/')]).toEqual([]);
  expect(between('configs/', 'hub/').length).toBeGreaterThan(0);
});

test('files/ knows nothing of models: all else stands on it', () => {
  expect(between('files/', '').filter((arrow) => !/-> (?:files\/|errors\.ts)/.test(arrow))).toEqual([]);
});

test('gguf/ knows neither side: both read the same files by it', () => {
  expect(between('gguf/', '').filter((arrow) => !/-> (?:gguf\/|errors\.ts|files\/)/.test(arrow))).toEqual([]);
});

test('quantised/ knows neither side: both read the same files by it', () => {
  expect(
    between('quantised/', '').filter(
      (arrow) => !/-> (?:quantised\/|errors\.ts|files\/plain-file\.ts)/.test(arrow),
    ),
  ).toEqual([]);
});

test('no file is part of a circle of imports', () => {
  const next = new Map(files.map((file) => [file, importsOf(file)]));
  const done = new Set<string>();
  const visit = (file: string, path: readonly string[]): readonly string[] => {
    if (path.includes(file)) return [...path.slice(path.indexOf(file)), file];
    if (done.has(file)) return [];
    for (const to of next.get(file) ?? []) {
      const circle = visit(to, [...path, file]);
      if (circle.length > 0) return circle;
    }
    done.add(file);
    return [];
  };
  expect(files.map((file) => visit(file, [])).filter((circle) => circle.length > 0)).toEqual([]);
});

test('the server knows the runtime alone, and only the command line knows the server', () => {
  expect(
    between('server/', '').filter(
      (arrow) => !/-> (?:server\/|runtime\/|errors\.ts|files\/json-text\.ts)/.test(arrow),
    ),
  ).toEqual([]);
  expect(between('', 'server/').filter((arrow) => !/^(?:cli|server)\//.test(arrow))).toEqual([]);
});

test('nothing imports generated files', () => {
  expect(arrows.filter((arrow) => arrow.to.startsWith('generated'))).toEqual([]);
});

test('nobody knows the command line', () => {
  expect(between('', 'cli/').filter((arrow) => !arrow.startsWith('cli/'))).toEqual([]);
});

test('only the command line and the laboratory know the laboratory', () => {
  expect(between('', 'lab/').filter((arrow) => !/^(?:cli|lab)\//.test(arrow))).toEqual([]);
});

test('only the command line, the laboratory, load.ts and what it checks first know both sides', () => {
  const knows = (file: string, part: string) => arrows.some((a) => a.from === file && a.to.startsWith(part));
  const both = files.filter((file) => knows(file, 'codegen/') && knows(file, 'runtime/'));
  const allowed = ['load.ts', 'preflight.ts', 'index.ts'];
  expect(both.filter((file) => !/^(?:cli|lab)\//.test(file) && !allowed.includes(file))).toEqual([]);
});

test('the plan language knows nothing of CUDA, templates or targets', () => {
  const known = new Set(arrows.filter((a) => a.from === 'codegen/plan/plan.ts').map((a) => a.to));
  expect([...known].sort()).toEqual([
    'codegen/model/graph.ts',
    'codegen/plan/call-site.ts',
    'codegen/plan/edit-issues.ts',
  ]);
  // And what it has of its own folder knows no more, but what a plain object is.
  const beyond = arrows.filter((a) => a.from === 'codegen/plan/edit-issues.ts').map((a) => a.to);
  expect(beyond.filter((to) => !to.startsWith('codegen/plan/'))).toEqual(['files/json-text.ts']);
});

test('the reference imports no file of ours but itself', () => {
  const outside = arrows.filter(
    (a) => a.from.startsWith('runtime/reference/') && !a.to.startsWith('runtime/reference/'),
  );
  expect(outside).toEqual([]);
});

/** What knows nothing of the rest. */
const tools = ['json-file.ts', 'short.ts', 'thread.ts', 'time-limit.ts', 'until-aborted.ts'];

test.each([
  ['engine', []],
  ['tokenizer', []],
  ['reference', []],
  ['weights', ['engine']],
  ['grammar', ['engine', 'tokenizer']],
  ['chat', ['grammar', 'tokenizer']],
  ['verify', ['reference']],
])('of the folders of the runtime, %s knows %j, and nothing of what puts them together', (folder, known) => {
  const others = arrows
    .filter((a) => a.from.startsWith(`runtime/${folder}/`) && a.to.startsWith('runtime/'))
    .map((a) => a.to.split('/')[1]!)
    .filter((to) => to !== folder && !tools.includes(to));
  expect([...new Set(others)].sort()).toEqual(known);
});

test('handlebars is imported in one place', () => {
  const importers = files.filter((file) =>
    readFileSync(join(root, file), 'utf8').includes("from 'handlebars'"),
  );
  expect(importers).toEqual(['codegen/emit/render.ts']);
});

test('templates hold no decision: no if, no helper, no arithmetic', () => {
  const templates = readdirSync(join(root, 'templates'), { recursive: true })
    .map(String)
    .filter((file) => file.endsWith('.hbs'));
  expect(templates.length).toBeGreaterThan(15);
  for (const file of templates) {
    const holes = [...readFileSync(join(root, 'templates', file), 'utf8').matchAll(/\{\{([^}]*)\}\}/g)].map(
      (m) => m[1]!,
    );
    const allowed = /^(?:[\w.]+|#each [\w.]+|\/each|> \w+|> \(lookup \. 'template'\))$/;
    expect(
      holes.filter((hole) => !allowed.test(hole)),
      file,
    ).toEqual([]);
  }
});

test('no function that the compiler leaves with an import of a .ts file: one with `await using` imports none', () => {
  const both = files.filter((file) => {
    const text = readFileSync(join(root, file), 'utf8').replaceAll(/\/\/.*/g, '');
    return text.includes('await using ') && /import\('\.[^']+\.ts'\)/.test(text);
  });
  expect(both).toEqual([]);
});

test('a unit test that imports modules anew, or replaces them, is apart from those that share theirs', () => {
  const config = readFileSync(join(root, 'vitest.config.ts'), 'utf8');
  const apart = /const apart = \[(.*?)\]/s.exec(config)![1]!;
  const folder = join(root, 'test', 'unit');
  const changing = readdirSync(folder).filter((file) =>
    /vi\.(?:resetModules|mock|doMock)\(/.test(readFileSync(join(folder, file), 'utf8')),
  );
  expect(changing.length).toBeGreaterThan(0);
  expect(changing.filter((file) => !apart.includes(`'${file.replace('.test.ts', '')}'`))).toEqual([]);
});
