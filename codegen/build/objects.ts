// Objects that kernels have in common: what is compiled of sources that do not know the model serves the next model too.
import { createHash } from 'node:crypto';
import { linkSync, readdirSync } from 'node:fs';
import { join } from 'node:path';
import { makeFolder } from '../../files/make-folder.ts';
import { removeQuietly, sha256 } from './cache.ts';
import { type CompileStep, commandOf, type Tools } from './recipe.ts';

type Sources = Readonly<Record<string, string>>;

/** The objects that are kept in a folder of built libraries, for a build that works in another. */
export class SharedObjects {
  readonly #folder: string;
  readonly #work: string;
  readonly #sources: Sources;
  readonly #tools: Tools;

  constructor(root: string, work: string, sources: Sources, tools: Tools) {
    this.#folder = join(root, 'objects');
    this.#work = work;
    this.#sources = sources;
    this.#tools = tools;
  }

  /** Links a kept object to where a step would put it, if it is still what was compiled. @returns whether it is there now */
  take(step: CompileStep): boolean {
    if (!step.shared) return false;
    const key = objectKey(step, this.#sources, this.#tools);
    try {
      const name = readdirSync(this.#folder).find((kept) => kept.startsWith(`${key}-`));
      if (!name) return false;
      const object = join(this.#folder, name);
      const isWhole = nameOf(key, object) === name;
      if (isWhole) linkSync(object, join(this.#work, step.object));
      else removeQuietly(object);
      return isWhole;
    } catch {
      return false;
    }
  }

  /** Keeps what a step made for the next that asks. A folder that cannot have it does without. */
  keep(step: CompileStep): void {
    if (!step.shared) return;
    const object = join(this.#work, step.object);
    try {
      makeFolder(this.#folder);
      linkSync(object, join(this.#folder, nameOf(objectKey(step, this.#sources, this.#tools), object)));
    } catch {
      // Another builder kept it before, or the file system has no links.
    }
  }
}

/** What an object is made of: the text of every file that its source includes, the flags and the compilers. */
function objectKey(step: CompileStep, sources: Sources, tools: Tools): string {
  const texts = included(sources, step.source).map((name) => [name, sources[name]]);
  const [, ...args] = commandOf(step, tools);
  const versions = [tools[step.tool]?.version, tools.cxx?.version];
  return createHash('sha256')
    .update(JSON.stringify([versions, args, texts]))
    .digest('hex')
    .slice(0, 12);
}

/** The name tells what went in, and the bytes that came out. */
const nameOf = (key: string, object: string): string => `${key}-${sha256(object).slice(0, 12)}.o`;

/** A source and the files it includes, however deep, as far as they are among the sources; sorted. */
export function included(sources: Sources, source: string): readonly string[] {
  const found = new Set<string>();
  const visit = (name: string) => {
    if (found.has(name)) return;
    found.add(name);
    for (const [, path] of sources[name]!.matchAll(/^\s*#\s*include\s*"([^"]+)"/gm)) {
      // As the compiler looks: beside the file, then by -I. and -Ihost.
      const places = [join(name, '..', path!), path!, join('host', path!)];
      const place = places.find((candidate) => sources[candidate] !== undefined);
      if (place) visit(place);
    }
  };
  visit(source);
  return [...found].sort();
}
