// The library that tells which tokens go on with a text of a grammar, loaded when it is first needed.
import { readFileSync } from 'node:fs';
import Module, { createRequire } from 'node:module';
import { dirname } from 'node:path';
import type * as Package from '@mlc-ai/web-xgrammar';

export interface XGrammar {
  readonly package: typeof Package;
  /** What it wrote since this was last asked: why it refused a grammar, which its errors do not say. */
  told(): string;
}

/** A new instance, since one that refused a grammar is not used again. */
export function loadXGrammar(): XGrammar {
  const path = createRequire(import.meta.url).resolve('@mlc-ai/web-xgrammar');
  // A script for CommonJS whose package says that it is a module, so that neither import nor require takes it.
  const script = new Module(path) as Module & { _compile(text: string, path: string): void; out?: object };
  script.filename = path;
  script.paths = [dirname(path)];
  let lines: string[] = [];
  const write = (...words: unknown[]) => void lines.push(words.join(' '));
  script.out = { log: write, warn: write, error: write };
  script._compile(`const console = module.out;${readFileSync(path, 'utf8')}`, path);
  return {
    package: script.exports as typeof Package,
    told: () => {
      const text = lines.join('\n');
      lines = [];
      return text;
    },
  };
}
