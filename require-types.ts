// Types for those who require the package: dist/**/*.d.cts, which hand on what each entry's .d.ts declares. `npm run build` writes them.
import { writeFileSync } from 'node:fs';
import { basename, join } from 'node:path';

/** Node loads the modules themselves for `require`; TypeScript believes it of no .d.ts where a project has "module": "node16". */
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
  const text = [`export type * from '${file}' with ${mode};`, ...lines, ''].join('\n');
  writeFileSync(join(import.meta.dirname, 'dist', `${entry}.d.cts`), text);
}
