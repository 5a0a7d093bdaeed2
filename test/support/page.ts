// Pages of the documentation: what stands in them as code, as programs and as commands that run.
import { execFileSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';
import { expect } from 'vitest';
import { packageRoot } from '../../codegen/build/package-root.ts';
import { holding } from './held-replies.ts';

const root = packageRoot();

export const readPage = (page: string): string => readFileSync(join(root, page), 'utf8');

const block = /^```(\w*)\n(.*?)^```$/gms;

/** The blocks of code of a text that are in this language; those of a shell have none. */
export const blocksOf = (text: string, language: string): string[] =>
  [...text.matchAll(block)].filter(([, named]) => named === language).map(([, , code]) => code!);

/** What is in code within the lines of a text. */
export const wordsOf = (text: string): string[] =>
  [...text.replaceAll(block, '').matchAll(/`([^`\n]+)`/g)].map(([, word]) => word!);

/** Programs as one: the first begins it, and each of the others has names of its own. */
export function programOf(texts: readonly string[]): string {
  const imports = new Set<string>();
  const bodies = texts.map((text) =>
    text.replaceAll(/^import .*\n/gm, (line) => {
      imports.add(line);
      return '';
    }),
  );
  const scoped = bodies.map((body, i) => (i === 0 ? body : `console.log('----');\n{\n${body}}\n`));
  return [...imports, ...scoped].join('');
}

/** What each part of a program writes. @param instead texts of it, and what stands in their place here */
export function runProgram(program: string, instead: Readonly<Record<string, string>>): string[] {
  let here = program;
  for (const [there, text] of Object.entries({
    "'onelaunch'": `'${pathToFileURL(join(root, 'index.ts')).href}'`,
    ...instead,
  })) {
    expect(here).toContain(there);
    here = here.replaceAll(there, text);
  }
  // In the checkout, where the packages are that they import.
  mkdirSync(join(root, 'generated'), { recursive: true });
  const folder = mkdtempSync(join(root, 'generated', 'page-'));
  try {
    writeFileSync(join(folder, 'program.mts'), here);
    const written = execFileSync(process.execPath, [...holding, 'program.mts'], {
      ...{ cwd: folder, encoding: 'utf8' },
    });
    return written.split('----\n');
  } finally {
    rmSync(folder, { recursive: true });
  }
}

/** What the shell does in the place of our commands: it says with which words. */
const stubs = `
  put() { printf '%s\\0' "$@" >&3; printf '\\n\\0' >&3; }
  gen() { put gen "$@"; }
  npx() { put "$@"; }
  npm() { if [[ "$*" == 'run -s gen --'* ]]; then put gen "\${@:5}"; else put npm "$@"; fi; }
  curl() { put curl "$@"; }
  exec 3>&1 >/dev/null
  cd "$(mktemp -d)"
  trap 'rm -r "$PWD"' EXIT
  touch notes.txt beginning.txt
`;

/** The commands in lines of a shell, each as the words that the shell makes of it; those in front of gen in a checkout are left out. */
export const commandsOf = (lines: string): string[][] =>
  execFileSync('bash', ['-euc', `${stubs}${lines}`], { encoding: 'utf8' })
    .split('\n\0')
    .slice(0, -1)
    .map((command) => command.split('\0').slice(0, -1));
