// Views into text: the only importer of handlebars.
import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import Handlebars from 'handlebars';
import { invariant } from '../../errors.ts';
import { packageRoot } from '../build/package-root.ts';

type Engine = ReturnType<typeof Handlebars.create>;
let engine: Engine | undefined;
const compiled = new Map<string, ReturnType<Engine['compile']>>();

const options = { noEscape: true, strict: true, knownHelpersOnly: true, preventIndent: false } as const;

/** Folders of partials, and what their names begin with: the stages of all, and what each scheme's kernel has of its own. */
const partialFolders = (): [folder: string, prefix: string][] => {
  const kernels = readdirSync(join(packageRoot(), 'templates', 'cuda'));
  const own = kernels.filter((name) =>
    existsSync(join(packageRoot(), 'templates', 'cuda', name, 'partials')),
  );
  return [['stages', ''], ...own.map((name): [string, string] => [`cuda/${name}/partials`, `${name}/`])];
};

/** The partials are sources, not compiled functions: a compiled one would lose `strict`. */
function withPartials(): Engine {
  if (engine) return engine;
  const created = Handlebars.create();
  for (const [folder, prefix] of partialFolders()) {
    for (const file of readdirSync(join(packageRoot(), 'templates', folder)))
      created.registerPartial(prefix + file.replace('.hbs', ''), readTemplate(`${folder}/${file}`));
  }
  for (const name of ['header', 'kinds']) created.registerPartial(name, readTemplate(`${name}.hbs`));
  engine = created;
  return created;
}

/** The text of a file in templates/. */
export const readTemplate = (path: string): string =>
  readFileSync(join(packageRoot(), 'templates', path), 'utf8');

/** templates/`path` with its holes filled. @throws an internal error that names the template when the view lacks something. */
export function render(path: string, view: object): string {
  checkView(view, path);
  try {
    const template = compiled.get(path) ?? withPartials().compile(readTemplate(path), options);
    compiled.set(path, template);
    return tidy(template(view));
  } catch (error) {
    throw new Error(
      `internal error: template ${path}: ${error instanceof Error ? error.message : String(error)}`,
    );
  }
}

/** Handlebars prints nothing for what is undefined, and `1e21` for large numbers: a view may hold only text, safe integers, lists and objects. */
function checkView(value: unknown, at: string): void {
  if (typeof value === 'string') return;
  if (typeof value === 'number') {
    invariant(Number.isSafeInteger(value), `${at}: ${value} is not an integer; floats are printed as text`);
    return;
  }
  invariant(typeof value === 'object' && value !== null, `${at} is ${String(value)}`);
  for (const [key, item] of Object.entries(value)) checkView(item, `${at}.${key}`);
}

/** No blanks at line ends, no two blank lines in a row, one newline at the end. */
const tidy = (text: string): string =>
  `${text
    .replace(/[ \t]+$/gm, '')
    .replace(/\n{3,}/g, '\n\n')
    .replace(/\n+}$/gm, '\n}')
    .trimEnd()}\n`;
