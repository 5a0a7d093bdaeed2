// The library that tells which tokens go on with a text of a grammar, loaded when it is first needed.
import { readFileSync } from 'node:fs';
import Module, { createRequire } from 'node:module';
import { dirname } from 'node:path';
import type * as Package from '@mlc-ai/web-xgrammar';
import { invariant } from '../../errors.ts';

export interface XGrammar {
  readonly package: typeof Package;
  /** As Grammar.fromEBNF and fromStructuralTag of the package, at once: what is not yet done when they return has no limit of time. */
  fromEbnf(text: string): Package.Grammar;
  fromRegex(pattern: string): Package.Grammar;
  /** What it wrote since this was last asked: why it refused a grammar, which its errors do not say. */
  told(): string;
}

/** A new instance, since one that refused a grammar is not used again. */
export async function loadXGrammar(): Promise<XGrammar> {
  const path = createRequire(import.meta.url).resolve('@mlc-ai/web-xgrammar');
  // A script for CommonJS whose package says that it is a module, so that neither import nor require takes it.
  const script = new Module(path) as Module & { _compile(text: string, path: string): void; out?: object };
  script.filename = path;
  script.paths = [dirname(path)];
  let lines: string[] = [];
  const write = (...words: unknown[]) => void lines.push(words.join(' '));
  script.out = { log: write, warn: write, error: write };
  script._compile(`const console = module.out;${withoutMerging(readFileSync(path, 'utf8'))}`, path);
  const exported = script.exports as typeof Package;
  const { Grammar } = exported;
  const first = await Grammar.fromEBNF('root ::= "a"');
  const { FromEBNF, FromStructuralTag } = first.handle.constructor;
  first.dispose();
  return {
    package: exported,
    fromEbnf: (text) => new Grammar(FromEBNF(text, 'root')),
    fromRegex: (pattern) => {
      const format = { type: 'regex', pattern };
      return new Grammar(FromStructuralTag(JSON.stringify({ type: 'structural_tag', format })));
    },
    told: () => {
      const text = lines.join('\n');
      lines = [];
      return text;
    },
  };
}

/** In 0.1.27, where states of a rule are merged: if their bytes are at least as many as this, they are left as they are. */
const leaveFrom = (bytes: readonly number[]): Buffer => Buffer.from([0x41, ...bytes, 0x4e]); // i32.const bytes; i32.ge_s
const [manyStates, anyStates] = [leaveFrom([0x81, 0x9f, 0xc9, 0]), leaveFrom([0x80, 0x80, 0x80, 0])]; // 1200001, 0

/** The script with a WebAssembly module that merges no states: it takes some for one that are not, so that "abab" | "abb" allows "abaaab".
 *  They are minimised behind it, and rightly. */
function withoutMerging(script: string): string {
  const [, module = ''] = /data:application\/octet-stream;base64,([A-Za-z0-9+/=]+)/.exec(script) ?? [];
  const code = Buffer.from(module, 'base64');
  const at = code.indexOf(manyStates);
  invariant(at >= 0 && code.indexOf(manyStates, at + 1) < 0, '@mlc-ai/web-xgrammar is another version');
  anyStates.copy(code, at);
  return script.replace(module, code.toString('base64'));
}
