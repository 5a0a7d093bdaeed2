// Generated CUDA as C++ that g++ compiles against test/native/emulator: the same text but for what only nvcc reads.

/** A file of a kernel's device code with asm statements, shared variables, launches and volatile variables as calls of the emulator.
 *  Lines keep their numbers. */
export function emulatedSource(text: string): string {
  return [asmStatements, dynamicShared, staticShared, volatiles, launches, kernelAddresses].reduce(
    (source, rewrite) => rewrite(source),
    text,
  );
}

/** asm volatile("text" : outputs : inputs : clobbers) */
function asmStatements(text: string): string {
  let result = '';
  let from = 0;
  for (const { index, [0]: head } of withoutComments(text).matchAll(/\basm\s*(?:volatile\s*)?\(/g)) {
    if (index < from) continue;
    const begin = index + head.length;
    const end = closing(text, begin);
    const statement = text.slice(begin, end);
    result += text.slice(from, index) + ptxCall(statement) + newlines(text.slice(index, end));
    from = end + 1;
  }
  return result + text.slice(from);
}

function ptxCall(statement: string): string {
  const [code = '', outputs = '', inputs = ''] = split(statement, ':');
  const flat = code.trim().replace(/\s*\n\s*/g, ' ');
  if (flat === '""') return '(void)0';
  const operands = [...operandsOf(outputs), ...operandsOf(inputs)];
  return `emu::ptx(EMU_CODE(${flat}), {${operands.join(', ')}})`;
}

/** [name] "constraint"(expression), ... Names are not in use. */
function operandsOf(list: string): string[] {
  return split(list, ',').flatMap((operand) => {
    if (operand.trim() === '') return [];
    const found = /^\s*"([^"]*)"\s*\(([\s\S]*)\)\s*$/.exec(operand);
    if (!found) throw new Error(`an operand of asm that is not understood: ${operand}`);
    const [, constraint = '', expression = ''] = found;
    const way = constraint.includes('+') ? 'inout' : constraint.includes('=') ? 'out' : 'in';
    return [`emu::${way}(${expression.replace(/\s*\n\s*/g, ' ')})`];
  });
}

/** extern __shared__ T name[]; */
function dynamicShared(text: string): string {
  return text.replace(
    /extern\s+__shared__\s+(?:(?:__align__|alignas)\((\d+)\)\s*)?([\w:]+)\s+(\w+)\[\]\s*;/g,
    (_, alignment: string | undefined, type: string, name: string) =>
      `${type}* const ${name} = reinterpret_cast<${type}*>(emu::dynamic_memory(${alignment ?? 16}));`,
  );
}

/** __shared__ T a[n], b; */
function staticShared(text: string): string {
  return text.replace(
    /\b__shared__\s+(?:(?:__align__|alignas)\((\d+)\)\s*)?([^;]+);/g,
    (_, alignment: string | undefined, list: string) => {
      const [first = '', ...others] = split(list, ',');
      const [, type, declarator] = /^([\s\S]*[\s&*>])(\w+\s*(?:\[[\s\S]*\])?)$/.exec(first.trim()) ?? [];
      if (!type || !declarator) throw new Error(`a shared variable that is not understood: ${list}`);
      return [declarator, ...others]
        .map((one) => {
          const [, name, sizes = ''] = /^\s*(\w+)([\s\S]*)$/.exec(one) ?? [];
          const sized = `${type.trim()}${sizes.trim().replaceAll('[', '[(').replaceAll(']', ')]')}`;
          return `auto& ${name} = emu::shared<${sized}, __COUNTER__, ${alignment ?? 1}>("${name}");`;
        })
        .join(' ');
    },
  );
}

/** volatile T name: its reads let other threads run. */
const volatiles = (text: string): string =>
  text.replace(/\bvolatile\s+(int|unsigned|float|bool|u?int\d+_t)(?=\s+\w)/g, 'emu::Volatile<$1>');

/** kernel<<<grid, size, shared, stream>>>(arguments) */
const launches = (text: string): string =>
  text.replace(
    /(\w+(?:<[\w, ]*>)?)<<<([\s\S]*?)>>>\s*\(/g,
    'emu::launcher([](const auto&... given) { $1(given...); }, $2)(',
  );

/** A kernel's address, by which CUDA knows it. */
const kernelAddresses = (text: string): string =>
  /\bcuda(?:Func|Occupancy|Launch)\w+\(/.test(text)
    ? text.replace(/reinterpret_cast<const void\*>\((\w+(?:<[\w, ]*>)?)\)/g, 'emu::kernel_of($1)')
    : text;

/** The text with blanks in the place of comments. */
const withoutComments = (text: string): string =>
  text.replace(/\/\*[\s\S]*?\*\/|\/\/[^\n]*/g, (comment) => comment.replace(/[^\n]/g, ' '));

const newlines = (text: string): string => text.replace(/[^\n]/g, '');

/** Where the bracket closes that was opened just before `from`. */
function closing(text: string, from: number): number {
  let depth = 1;
  for (const [at, char] of characters(text, from)) {
    if (char === '(') depth++;
    if (char === ')' && --depth === 0) return at;
  }
  throw new Error(`a bracket that is not closed: ${text.slice(from, from + 80)}`);
}

/** Parts between separators that are in no bracket and no string. */
function split(text: string, separator: string): string[] {
  const parts: string[] = [];
  let begin = 0;
  let depth = 0;
  for (const [at, char] of characters(text, 0)) {
    if ('([{'.includes(char)) depth++;
    if (')]}'.includes(char)) depth--;
    if (char !== separator || depth > 0) continue;
    parts.push(text.slice(begin, at));
    begin = at + 1;
  }
  return [...parts, text.slice(begin)];
}

/** The characters from a place on that are in no string. */
function* characters(text: string, from: number): Generator<[at: number, char: string]> {
  let quoted = false;
  for (let at = from; at < text.length; at++) {
    const char = text[at]!;
    if (quoted && char === '\\') at++;
    else if (char === '"') quoted = !quoted;
    else if (!quoted) yield [at, char];
  }
}
