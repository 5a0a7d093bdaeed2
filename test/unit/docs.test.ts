// What the documents name exists.
import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { packageRoot } from '../../codegen/build/package-root.ts';

const root = packageRoot();
const documents = [
  'CONTRIBUTING.md',
  'docs/architecture.md',
  'docs/glossary.md',
  'docs/server.md',
  'examples/README.md',
];
/** A path may be written from the root, or from the folder that its document is about. */
const bases: Readonly<Record<string, readonly string[]>> = {
  'docs/architecture.md': ['codegen', 'codegen/schemes'],
  'docs/glossary.md': ['codegen', 'templates'],
  'examples/README.md': ['examples'],
};

describe.each(documents)('%s', (document) => {
  const text = readFileSync(join(root, document), 'utf8');

  it('names files and folders that exist', () => {
    const paths = [...text.matchAll(/`((?:[\w.*-]+\/)+(?:[\w*-]+\.\w+)?|[\w-]+\.(?:ts|md))`/g)]
      .map((match) => match[1]!)
      .filter((path) => !/\*|NAME/.test(path));
    const found = (path: string) =>
      ['', ...(bases[document] ?? [])].some((base) => existsSync(join(root, base, path)));
    expect(paths.length).toBeGreaterThan(2);
    expect(paths.filter((path) => !found(path))).toEqual([]);
  });

  it('links to files that exist', () => {
    const links = [...text.matchAll(/\]\(([^)#:]+)\)/g)].map((match) => match[1]!);
    expect(links.filter((link) => !existsSync(join(root, dirname(document), link)))).toEqual([]);
  });

  it('names scripts that package.json has', () => {
    const { scripts } = JSON.parse(readFileSync(join(root, 'package.json'), 'utf8')) as {
      scripts: Record<string, string>;
    };
    const named = [...text.matchAll(/npm run ([\w:]+)/g)].map((match) => match[1]!);
    expect(named.filter((name) => !(name in scripts))).toEqual([]);
  });
});

it('the glossary and the architecture speak of every scheme', () => {
  const schemes = readdirSync(join(root, 'codegen/schemes'), { withFileTypes: true })
    .filter((entry) => entry.isDirectory())
    .map((entry) => entry.name);
  const text = readFileSync(join(root, 'docs/architecture.md'), 'utf8');
  expect(schemes.filter((scheme) => !text.includes(`\`${scheme}\``))).toEqual([]);
});
