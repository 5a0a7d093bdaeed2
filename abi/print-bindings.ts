// Prints runtime/engine/bindings.ts, the koffi bindings, from the table in abi.ts. Apart from the header, since ts-morph is slow to load.
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
import { type AbiFunction, type AbiStruct, abiFunctions, abiStructs, abiVersion } from './abi.ts';
import { structLayout } from './header.ts';
import { codeTables, direction, isStruct, spell } from './text.ts';

/** runtime/engine/bindings.ts: interfaces, koffi types and typed functions. Checked in; a test compares it with this. */
export function bindingsSource(): string {
  const project = new Project({
    useInMemoryFileSystem: true,
    skipLoadingLibFiles: true,
    manipulationSettings: { indentationText: IndentationText.TwoSpaces, quoteKind: QuoteKind.Single },
  });
  const file = project.createSourceFile('bindings.ts', {
    statements: [
      '// Do not edit: npm run golden -- --update prints it from the table in abi/abi.ts.',
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
        'Int32Array | Float32Array | Uint8Array | bigint | null',
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

const typeConstant = (struct: string) => `${struct.charAt(0).toLowerCase()}${struct.slice(1)}Type`;

const isOutput = (struct: AbiStruct) =>
  abiFunctions.some((fn) => fn.params.some((param) => param.type === `out ${struct.name}`));

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

/** Doc comments of one line on one line, where ts-morph prints three; one blank line between statements; long signatures over lines. */
function tidy(source: string): string {
  return source
    .replace(/^( *)(\w+)\((.*)\): (\w+);$/gm, (line, indent: string, name, params: string, type) =>
      line.length <= formatterWidth
        ? line
        : `${indent}${name}(\n${params
            .split(', ')
            .map((param) => `${indent}  ${param},\n`)
            .join('')}${indent}): ${type};`,
    )
    .replace(/^( *)\/\*\*\n *\* ([^\n]*)\n *\*\/$/gm, '$1/** $2 */')
    .replace(/\n(?=\/\*\*)/g, '\n\n')
    .replace(/\n{3,}/g, '\n\n');
}
