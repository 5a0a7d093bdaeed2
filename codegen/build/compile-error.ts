// What a compiler says of generated text, told in terms of the stage, op or template it came from.
import { BuildError } from '../../errors.ts';

interface Diagnostic {
  readonly file: string;
  readonly line: number;
  readonly text: string;
}

/** The first error in the output of g++, clang++ or nvcc. */
function firstDiagnostic(output: string): Diagnostic | null {
  for (const line of output.split('\n')) {
    const gnu = /^([^\s:]+):(\d+):\d+: (?:fatal )?error: (.*)$/.exec(line);
    const nvcc = /^([^\s(]+)\((\d+)\): error(?: #\d+)?: (.*)$/.exec(line);
    const found = gnu ?? nvcc;
    if (found) return { file: found[1]!.replace(/^\.\//, ''), line: Number(found[2]), text: found[3]! };
  }
  return null;
}

/** The first error of ptxas, whose last line says no more than that there was one. */
const ptxasError = (output: string): string | undefined =>
  /^ptxas \S.*, line \d+; error\s*: (.*)$/m.exec(output)?.[1];

/** The function of a generated file that holds a line: a stage, a pointwise op or the pass itself. */
function enclosing(text: string, line: number): string | null {
  const above = text.split('\n').slice(0, line);
  for (const row of above.reverse()) {
    const found = /^(?:DEVICE|__global__|void)\b.*?(\w+)\(/.exec(row);
    if (found) return found[1]!;
  }
  return null;
}

/** Whether the system ended the compiler, by what was printed: that says nothing of the text it compiled. */
export const wasKilled = (output: string): boolean =>
  firstDiagnostic(output) === null && /\bKilled\b/.test(output);

/** An error that names the place in the plan, the ops or the templates. */
export function compileError(
  step: string,
  output: string,
  sources: Readonly<Record<string, string>>,
  command: readonly string[],
): BuildError {
  const ran = { command, log: output };
  const found = firstDiagnostic(output);
  if (wasKilled(output)) {
    return new BuildError('failed', `${step}: the compiler was killed`, {
      ...ran,
      hint: 'the system does that when memory runs out; end other programs, or give this one more',
    });
  }
  if (!found) {
    const said = ptxasError(output) ?? output.trim().split('\n').at(-1) ?? '';
    return new BuildError('failed', `${step}: the compiler failed: ${said}`, {
      ...ran,
      hint: 'ONELAUNCH_DEBUG=6 shows the command and all it printed',
    });
  }
  const source = sources[found.file];
  const name = source ? enclosing(source, found.line) : null;
  const place = name ? `${name} (${found.file}:${found.line})` : `${found.file}:${found.line}`;
  const origin = found.file.startsWith('kernel')
    ? 'its text comes from templates/stages and configs/ops.ts'
    : 'it is copied from templates/';
  return new BuildError('failed', `${step}: ${place}: ${found.text}`, {
    ...ran,
    hint: `${origin}; ONELAUNCH_DEBUG=6 shows all the compiler printed`,
    ...(name ? { stage: name } : {}),
  });
}
