// What a plan file exports, wherever it lies: 'onelaunch/codegen' in it is this package, and what is written as a module is one.
import { createRequire, register } from 'node:module';
import { pathToFileURL } from 'node:url';

/** The package's entries as a plan file names them, in the sources or in what they compile to. */
const entries = {
  onelaunch: '../index',
  'onelaunch/codegen': '../codegen/index',
  'onelaunch/configs': './resolve',
};
/**
 * Node runs this beside the program, so it is text. It answers before tsx does, which takes a file without a package.json around it for
 * CommonJS otherwise: stack traces would not show its lines. Whether a file is a module says the parser that tsx then compiles it with.
 */
const hooks = `
import { readFileSync } from 'node:fs';
let own = {};
let root = '';
let parser = '';
export const initialize = ({ entries, package: folder, esbuild }) => { own = entries; root = folder; parser = esbuild; };
const isWrittenAsModule = async (url) => {
  const { default: esbuild } = await import(parser);
  const { pathname } = new URL(url);
  const stdin = { contents: readFileSync(new URL(url), 'utf8'), loader: pathname.endsWith('.ts') ? 'ts' : 'js' };
  const options = { stdin, write: false, metafile: true, tsconfigRaw: {}, logLevel: 'silent' };
  const parsed = await esbuild.build(options).catch(() => null);
  return parsed !== null && Object.values(parsed.metafile.inputs)[0].format === 'esm';
};
export const resolve = async (specifier, context, next) => {
  const found = await next(own[specifier] ?? specifier, context);
  const url = found.url.replace(/%3F(?:[^?]*&)?namespace=[^?]*/, '').replace(/&tsx-commonjs-virtual-query=1/, '');
  const isOpen = /^file:.*\\.[jt]s($|\\?)/.test(url) && !url.includes('/node_modules/') && found.format !== 'module';
  return isOpen && (url.startsWith(root) || (await isWrittenAsModule(url))) ? { ...found, url, format: 'module' } : found;
};
`;
let isHooked = false;

function ownEntries(): Record<string, string> {
  const extension = import.meta.url.endsWith('.ts') ? '.ts' : '.js';
  const urls = Object.entries(entries).map(([name, path]) => [
    name,
    new URL(path + extension, import.meta.url).href,
  ]);
  return Object.fromEntries(urls);
}

/** esbuild, where tsx finds it. */
function parserOfLoader(): string {
  const loader = createRequire(import.meta.url).resolve('tsx/esm/api');
  return pathToFileURL(createRequire(loader).resolve('esbuild')).href;
}

/** Its default export, and what it calls `variants`; undefined: it has none. */
export interface PlanExports {
  readonly plan: unknown;
  readonly variants: unknown;
}

export async function importPlan(file: string): Promise<PlanExports> {
  const interrupts = holdInterrupts();
  const exits = holdExit(file);
  try {
    addHooks();
    const { tsImport } = await import('tsx/esm/api');
    return exportsOf(await tsImport(pathToFileURL(file).href, import.meta.url));
  } finally {
    exits.release();
    interrupts.release();
  }
}

function addHooks(): void {
  if (!isHooked)
    register(`data:text/javascript,${encodeURIComponent(hooks)}`, {
      data: {
        entries: ownEntries(),
        package: new URL('..', import.meta.url).href,
        esbuild: parserOfLoader(),
      },
    });
  isHooked = true;
}

/** The files that are imported now, and what ends the process while none is. */
const held = { files: [] as string[], exit: process.exit };

/** What a plan file finds as `process.exit`, and may call when it was read. */
export function heldExit(code?: number | string | null): never {
  const { stack = '' } = new Error();
  if (![...held.files, importPlan.name].some((part) => stack.includes(part))) return held.exit(code);
  throw new Error(`process.exit(${code ?? ''}) is called`);
}

/** Until it is released, `process.exit` throws where a plan file calls it: the command would end as if it had done its work. Others end the process. */
function holdExit(file: string): { release(): void } {
  if (held.files.length === 0) {
    held.exit = process.exit;
    process.exit = heldExit;
  }
  held.files.push(file);
  return {
    release: () => {
      held.files.splice(held.files.indexOf(file), 1);
      if (held.files.length === 0) process.exit = held.exit;
    },
  };
}

const endings = ['SIGINT', 'SIGTERM', 'SIGHUP'] as const;
/** How many files are imported now, and who is told of these signals while none is. */
const waiting = { files: 0, listeners: [] as (readonly [string, readonly NodeJS.SignalsListener[]])[] };

/** Until it is released, they end the process at once: while a plan file computes, and that for ever, no listener has its turn. */
function holdInterrupts(): { release(): void } {
  if (waiting.files++ === 0) {
    waiting.listeners = endings.map((signal) => [
      signal,
      process.rawListeners(signal) as NodeJS.SignalsListener[],
    ]);
    for (const signal of endings) process.removeAllListeners(signal);
  }
  return {
    release: () => {
      if (--waiting.files > 0) return;
      for (const [signal, listeners] of waiting.listeners)
        for (const listener of listeners) process.on(signal, listener);
    },
  };
}

function exportsOf(module: object): PlanExports {
  const { default: value }: { readonly default?: unknown } = module;
  const nested = typeof value === 'object' && value !== null && 'default' in value;
  const { default: plan, variants }: { readonly default?: unknown; readonly variants?: unknown } = nested
    ? value
    : module;
  return { plan, variants };
}
