// Entries for those who require the package: dist/**/*.cjs hand on the modules, and *.d.cts what their .d.ts declare. `npm run build` writes them.
import { writeFileSync } from 'node:fs';
import { basename, join } from 'node:path';

/** Node and bundlers load a module for `require`; TypeScript's types of a CommonJS file must stand beside one, where a project has "module": "node16". */
const entries = ['index', 'codegen/index', 'configs/resolve'];

for (const entry of entries) {
  const values: object = await import(`./${entry}.ts`);
  const file = `./${basename(entry)}.js`;
  const mode = "{ 'resolution-mode': 'import' }";
  const of = (name: string) => `import('${file}', { with: ${mode} }).${name}`;
  const lines = Object.entries(values).flatMap(([name, value]) => [
    `export declare const ${name}: typeof ${of(name)};`,
    ...(String(value).startsWith('class ') ? [`export type ${name} = ${of(name)};`] : []),
  ]);
  const write = (ending: string, text: string) =>
    writeFileSync(join(import.meta.dirname, 'dist', `${entry}${ending}`), text);
  write('.d.cts', [`export type * from '${file}' with ${mode};`, ...lines, ''].join('\n'));
  write('.cjs', `module.exports = require('${file}');\n`);
}
