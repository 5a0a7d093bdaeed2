// Prints the C header and the koffi bindings from the tables of abi.ts, so that neither is written twice.
import {
  type CodeBlockWriter,
  IndentationText,
  type InterfaceDeclarationStructure,
  type OptionalKind,
  Project,
  type PropertySignatureStructure,
  QuoteKind,
  StructureKind,
  type TypeAliasDeclarationStructure,
  type WriterFunction,
} from 'ts-morph';
import { invariant } from '../errors.ts';
import {
  type AbiFunction,
  type AbiStruct,
  abiFunctions,
  abiStatus,
  abiStructs,
  abiVersion,
  finishCode,
  jobState,
  sourceDtype,
} from './abi.ts';

/** Size [bytes] and field offsets [bytes] that the C rules give a struct. */
export interface StructLayout {
  readonly size: number;
  readonly alignment: number;
  readonly offsets: Readonly<Record<string, number>>;
}

/** The layout of a struct of the table under the x86-64 and AArch64 C rules: every scalar aligned to its size. */
export function structLayout(struct: AbiStruct): StructLayout {
  const offsets: Record<string, number> = {};
  let end = 0;
  let alignment = 1;
  for (const field of struct.fields) {
    const type = sizeOf(field.type);
    const offset = roundUp(end, type.alignment);
    offsets[field.name] = offset;
    end = offset + type.size;
    alignment = Math.max(alignment, type.alignment);
  }
  return { size: roundUp(end, alignment), alignment, offsets };
}

/** abi.h: valid C11 and C++17, with every size and offset asserted. */
export function abiHeader(): string {
  const lines = [
    '// Do not edit: printed by codegen/print-abi.ts from the table in codegen/abi.ts.',
    '// The C interface of every generated library: one struct in, one status out; nothing throws and nothing aborts.',
    '#pragma once',
    '',
    '#include <assert.h>',
    '#include <stddef.h>',
    '#include <stdint.h>',
    '',
    '#ifdef __cplusplus',
    '#define OL_NOEXCEPT noexcept',
    'extern "C" {',
    '#else',
    '#define OL_NOEXCEPT',
    '#endif',
    '#define OL_API __attribute__((visibility("default")))',
    '',
    '// Raised whenever a struct or a function changes meaning.',
    `enum { kAbiVersion = ${abiVersion} };`,
  ];
  for (const codes of codeTables) {
    lines.push('', `// ${codes.doc}`, 'enum {');
    for (const [name, value] of Object.entries(codes.values)) {
      lines.push(`  ${codes.prefix}${capital(name)} = ${value},`);
    }
    lines.push('};');
  }
  for (const struct of abiStructs) lines.push('', ...headerStruct(struct));
  lines.push(
    '',
    '// All that one generation stream owns: weights, KV cache, one worker thread.',
    'typedef struct Engine Engine;',
  );
  for (const fn of abiFunctions) {
    const params = fn.params.map((param) => `${cParam(param.type)}${param.name}`).join(', ');
    lines.push('', `// ${fn.doc}`, `OL_API ${cScalar[fn.returns]}${fn.name}(${params}) OL_NOEXCEPT;`);
  }
  lines.push('', '// The layout that the bindings expect.');
  for (const struct of abiStructs) {
    const { size, offsets } = structLayout(struct);
    lines.push(`static_assert(sizeof(${struct.name}) == ${size}, "${struct.name}");`);
    for (const [field, offset] of Object.entries(offsets)) {
      lines.push(
        `static_assert(offsetof(${struct.name}, ${field}) == ${offset}, "${struct.name}.${field}");`,
      );
    }
  }
  const layout = abiStructs.flatMap((struct) => [
    `sizeof(${struct.name})`,
    ...struct.fields.map((field) => `offsetof(${struct.name}, ${field.name})`),
  ]);
  lines.push(
    '',
    '// What ol_layout returns, in order.',
    `#define OL_LAYOUT \\\n  ${layout.join(', \\\n  ')}`,
  );
  lines.push('', '#ifdef __cplusplus', '}', '#endif', '');
  return lines.join('\n');
}

/** runtime/bindings.ts: interfaces, koffi types and typed functions. Checked in; a test compares it with this. */
export function bindingsSource(): string {
  const project = new Project({
    useInMemoryFileSystem: true,
    skipLoadingLibFiles: true,
    manipulationSettings: { indentationText: IndentationText.TwoSpaces, quoteKind: QuoteKind.Single },
  });
  const file = project.createSourceFile('bindings.ts', {
    statements: [
      '// Do not edit: printed by codegen/print-abi.ts from the table in codegen/abi.ts.',
      '// The C interface of every generated library, typed for koffi.',
      "import koffi, { type LibraryHandle } from 'koffi';",
      constant('abiVersion', 'Of the table this file was printed from.', (writer) =>
        writer.write(String(abiVersion)),
      ),
      ...codeTables.map((codes) =>
        constant(codes.name, codes.doc, (writer) => {
          writer.inlineBlock(() => {
            for (const [name, value] of Object.entries(codes.values)) writer.writeLine(`${name}: ${value},`);
          });
          writer.write(' as const');
        }),
      ),
      alias(
        'Pointer',
        'Memory of a typed array, which C reads or writes in place, or an address.',
        'Int32Array | Float32Array | bigint | null',
      ),
      alias('Int64', 'koffi gives a number where that is exact, else a bigint.', 'number | bigint'),
      alias('EngineHandle', 'The address of an engine.', 'bigint'),
      ...abiStructs.flatMap((struct) => [structInterface(struct), structType(struct)]),
      ...abiStructs.filter(isOutput).map(zeroStruct),
      layoutTable(),
      {
        kind: StructureKind.Interface,
        name: 'Functions',
        isExported: true,
        docs: ['\nThe functions of one library. Those that return a status return a value of abiStatus.'],
        methods: abiFunctions.map((fn) => ({
          name: fn.name,
          docs: [`\n${fn.doc}`],
          parameters: fn.params.map((param) => ({ name: param.name, type: tsParam(param.type, fn) })),
          returnType: spell(tsReturn, fn.returns),
        })),
      },
      constant('enginePointer', null, (writer) => writer.write('koffi.pointer(koffi.opaque())')),
      {
        kind: StructureKind.Function,
        name: 'bindFunctions',
        isExported: true,
        docs: ['\nFinds every function of the table in a library.\n@throws when one is missing'],
        parameters: [{ name: 'library', type: 'LibraryHandle' }],
        returnType: 'Functions',
        statements: (writer) => {
          writer.write('return ').inlineBlock(() => {
            for (const fn of abiFunctions) writeBinding(writer, fn);
          });
          writer.write(';');
        },
      },
    ],
  });
  return tidy(file.getFullText());
}

/** A table of codes, the C prefix and the TypeScript name of its constants. */
const codeTables = [
  {
    name: 'abiStatus',
    prefix: 'kStatus',
    doc: 'What functions that return int32_t answer, and Progress.status.',
    values: abiStatus,
  },
  { name: 'jobState', prefix: 'kJob', doc: 'Progress.state.', values: jobState },
  { name: 'finishCode', prefix: 'kFinish', doc: 'Progress.finish.', values: finishCode },
  {
    name: 'sourceDtype',
    prefix: 'kDtype',
    doc: 'TensorSource.dtype; a weight slot has one of the first three.',
    values: sourceDtype,
  },
] as const;

const scalarBytes: Readonly<Record<string, number>> = {
  i32: 4,
  f32: 4,
  i64: 8,
  u64: 8,
  f64: 8,
  str: 8,
  ptr: 8,
};

/** C spellings that a name can follow directly. */
const cScalar: Readonly<Record<string, string>> = {
  i32: 'int32_t ',
  i64: 'int64_t ',
  u64: 'uint64_t ',
  f32: 'float ',
  f64: 'double ',
  str: 'const char* ',
  ptr: 'void* ',
  void: 'void ',
  engine: 'Engine* ',
};

const koffiScalar: Readonly<Record<string, string>> = {
  i32: "'int32_t'",
  i64: "'int64_t'",
  u64: "'uint64_t'",
  f32: "'float'",
  f64: "'double'",
  str: "'str'",
  ptr: "'void *'",
  void: "'void'",
  engine: 'enginePointer',
};

const tsScalar: Readonly<Record<string, string>> = {
  i32: 'number',
  i64: 'Int64',
  u64: 'Int64',
  f32: 'number',
  f64: 'number',
  str: 'string | null',
  ptr: 'Pointer',
};

const tsReturn: Readonly<Record<string, string>> = {
  i32: 'number',
  i64: 'Int64',
  str: 'string | null',
  void: 'void',
};

const roundUp = (value: number, multiple: number) => Math.ceil(value / multiple) * multiple;
const capital = (name: string) => name.charAt(0).toUpperCase() + name.slice(1);
const typeConstant = (struct: string) => `${struct.charAt(0).toLowerCase()}${struct.slice(1)}Type`;
const isStruct = (type: string) => abiStructs.some((struct) => struct.name === type);

function sizeOf(type: string): { size: number; alignment: number } {
  const bytes = scalarBytes[type];
  if (bytes !== undefined) return { size: bytes, alignment: bytes };
  const struct = abiStructs.find((candidate) => candidate.name === type);
  invariant(struct, `abi.ts uses the unknown type ${type}`);
  return structLayout(struct);
}

/** A table entry, or the invariant error: a type that this printer does not know. */
function spell(table: Readonly<Record<string, string>>, type: string): string {
  const text = table[type];
  invariant(text !== undefined, `abi.ts uses the unknown type ${type}`);
  return text;
}

/** Splits `in X`, `out X` into direction and type; plain types have no direction. */
function direction(type: string): { way: 'in' | 'out' | 'plain'; type: string } {
  if (type.startsWith('in ')) return { way: 'in', type: type.slice(3) };
  if (type.startsWith('out ')) return { way: 'out', type: type.slice(4) };
  return { way: 'plain', type };
}

const isOutput = (struct: AbiStruct) =>
  abiFunctions.some((fn) => fn.params.some((param) => param.type === `out ${struct.name}`));

function headerStruct(struct: AbiStruct): string[] {
  const declarations = struct.fields.map((field) => {
    const type = isStruct(field.type) ? `${field.type} ` : spell(cScalar, field.type);
    return { text: `  ${type}${field.name};`, doc: field.doc };
  });
  const width = Math.max(...declarations.map((line) => line.text.length));
  return [
    `// ${struct.doc}`,
    `typedef struct ${struct.name} {`,
    ...declarations.map((line) => (line.doc ? `${line.text.padEnd(width)}  // ${line.doc}` : line.text)),
    `} ${struct.name};`,
  ];
}

function cParam(text: string): string {
  const { way, type } = direction(text);
  if (way === 'plain') return spell(cScalar, type);
  if (type === 'engine') return 'Engine** ';
  return way === 'in' ? `const ${type}* ` : `${type}* `;
}

function tsParam(text: string, fn: AbiFunction): string {
  const { way, type } = direction(text);
  if (type === 'engine') return way === 'out' ? '[EngineHandle | null]' : 'EngineHandle | null';
  if (way === 'in') return fn.params.some((param) => param.name === 'count') ? `readonly ${type}[]` : type;
  return way === 'out' ? type : spell(tsScalar, type);
}

function koffiParam(text: string): string {
  const { way, type } = direction(text);
  const known = isStruct(type) ? typeConstant(type) : spell(koffiScalar, type);
  if (way === 'plain') return known;
  return way === 'in' ? `koffi.pointer(${known})` : `koffi.out(koffi.pointer(${known}))`;
}

/** `const name = …;` as a statement of its own: in ts-morph's own structure the lines of the value come out indented. */
function constant(
  name: string,
  doc: string | null,
  value: (writer: CodeBlockWriter) => void,
): WriterFunction {
  return (writer) => {
    writer.blankLine();
    if (doc !== null) writer.writeLine(`/** ${doc} */`);
    writer.write(doc === null ? `const ${name} = ` : `export const ${name} = `);
    value(writer);
    writer.write(';').newLine();
  };
}

function alias(name: string, doc: string, type: string): TypeAliasDeclarationStructure {
  return { kind: StructureKind.TypeAlias, name, isExported: true, docs: [`\n${doc}`], type };
}

function structInterface(struct: AbiStruct): InterfaceDeclarationStructure {
  const properties = struct.fields.map(
    (field): OptionalKind<PropertySignatureStructure> => ({
      name: field.name,
      type: isStruct(field.type) ? field.type : spell(tsScalar, field.type),
      docs: field.doc === '' ? [] : [`\n${field.doc}`],
    }),
  );
  return {
    kind: StructureKind.Interface,
    name: struct.name,
    isExported: true,
    docs: [`\n${struct.doc}`],
    properties,
  };
}

function structType(struct: AbiStruct): WriterFunction {
  return constant(typeConstant(struct.name), null, (writer) => {
    writer.write('koffi.struct(').inlineBlock(() => {
      for (const { name, type } of struct.fields) {
        writer.writeLine(`${name}: ${isStruct(type) ? typeConstant(type) : spell(koffiScalar, type)},`);
      }
    });
    writer.write(')');
  });
}

/** A function that makes the object koffi fills. */
function zeroStruct(struct: AbiStruct): WriterFunction {
  return constant(`zero${struct.name}`, 'An object for the library to fill.', (writer) => {
    writer.write(`(): ${struct.name} => (`).inlineBlock(() => {
      for (const { name, type } of struct.fields) {
        writer.writeLine(`${name}: ${type === 'str' || type === 'ptr' ? 'null' : '0'},`);
      }
    });
    writer.write(')');
  });
}

function layoutTable(): WriterFunction {
  return constant(
    'layout',
    'Sizes and offsets [bytes] that koffi and the library must agree with, in table order.',
    (writer) => {
      writer.write('[').newLine();
      writer.indent(() => {
        for (const struct of abiStructs) {
          const { size, offsets } = structLayout(struct);
          writer.inlineBlock(() => {
            writer.writeLine(`name: '${struct.name}',`);
            writer.writeLine(`type: ${typeConstant(struct.name)},`);
            writer.writeLine(`size: ${size},`);
            writer.write('offsets: ').inlineBlock(() => {
              for (const [name, offset] of Object.entries(offsets)) writer.writeLine(`${name}: ${offset},`);
            });
            writer.write(',').newLine();
          });
          writer.write(',').newLine();
        }
      });
      writer.write('] as const');
    },
  );
}

/** One entry of the object that bindFunctions returns, broken over lines as the formatter breaks it. */
function writeBinding(writer: CodeBlockWriter, fn: AbiFunction): void {
  const params = fn.params.map((param) => koffiParam(param.type));
  const head = `${fn.name}: library.func('${fn.name}', ${spell(koffiScalar, fn.returns)}, [`;
  const line = `${head}${params.join(', ')}]),`;
  if (line.length + 4 <= formatterWidth) {
    writer.writeLine(line);
    return;
  }
  writer.writeLine(head);
  writer.indent(() => {
    for (const param of params) writer.writeLine(`${param},`);
  });
  writer.writeLine(']),');
}

const formatterWidth = 110;

/** Doc comments of one line on one line, where ts-morph prints three; one blank line between statements. */
function tidy(source: string): string {
  return source
    .replace(/^( *)\/\*\*\n *\* ([^\n]*)\n *\*\/$/gm, '$1/** $2 */')
    .replace(/\n(?=\/\*\*)/g, '\n\n')
    .replace(/\n{3,}/g, '\n\n');
}
