// The C header of every generated library, and the layout of its structs, from the table in abi.ts.
import { invariant } from '../errors.ts';
import { type AbiStruct, abiFunctions, abiStructs, abiVersion } from './abi.ts';
import { codeTables, direction, isStruct, spell } from './text.ts';

/** Size [bytes] and field offsets [bytes] that the C rules give a struct. */
interface StructLayout {
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
    '// Do not edit: printed by abi/header.ts from the table in abi/abi.ts.',
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

const roundUp = (value: number, multiple: number) => Math.ceil(value / multiple) * multiple;
const capital = (name: string) => name.charAt(0).toUpperCase() + name.slice(1);

function sizeOf(type: string): { size: number; alignment: number } {
  const bytes = scalarBytes[type];
  if (bytes !== undefined) return { size: bytes, alignment: bytes };
  const struct = abiStructs.find((candidate) => candidate.name === type);
  invariant(struct, `abi.ts uses the unknown type ${type}`);
  return structLayout(struct);
}

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
