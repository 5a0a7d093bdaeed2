// What the keywords of a JSON Schema say, each checked for its shape: what cannot be followed is refused with its place.
import { OnelaunchError } from '../../errors.ts';
import { type Bounds, mostNumber } from './number-grammar.ts';

/** More of a text's characters, or of a list's items, are never made. */
export const mostRepeats = 10_000;

/** Keywords that say nothing of which texts are right. */
const annotations = [
  ...['$schema', '$id', '$comment', '$defs', 'definitions', 'title', 'description', 'default', 'examples'],
  ...['deprecated', 'readOnly', 'writeOnly'],
];
const followed = [
  ...['type', 'nullable', 'enum', 'const', 'anyOf', 'oneOf', 'allOf', '$ref', 'minLength', 'maxLength'],
  ...['format', 'pattern', 'propertyNames'],
  ...['minimum', 'maximum', 'exclusiveMinimum', 'exclusiveMaximum', 'items', 'prefixItems', 'minItems'],
  ...['maxItems', 'properties', 'required', 'additionalProperties'],
];
/** Where there is no type, one of these says which is meant. */
const kinds: Readonly<Record<string, readonly string[]>> = {
  object: ['properties', 'required', 'additionalProperties', 'propertyNames'],
  array: ['items', 'prefixItems', 'minItems', 'maxItems'],
  string: ['minLength', 'maxLength', 'format', 'pattern'],
  number: ['minimum', 'maximum', 'exclusiveMinimum', 'exclusiveMaximum'],
};

export type Fields = { readonly [keyword: string]: unknown };

export const isFields = (value: unknown): value is Fields =>
  typeof value === 'object' && value !== null && !Array.isArray(value);

export const refuse = (at: string, why: string): OnelaunchError =>
  new OnelaunchError('usage', ...refusalAt(at, why));

/** What stands around a part of a schema leaves no value of it: in a choice it is left out. */
export class NothingLeft extends OnelaunchError {
  constructor(at: string, why: string) {
    super('usage', ...refusalAt(at, why));
  }
}

const refusalAt = (at: string, why: string) =>
  [
    `the schema cannot be followed${at ? ` at ${at}` : ''}: ${why}`,
    {
      hint: `Keywords that are followed: ${followed.join(', ')}.`,
      // A place such as #.properties.a, or #/$defs/a.items of what is referred to.
      option: at.length > 1 ? [at.slice(2).replaceAll('/', '.')] : [],
    },
  ] as const;

export function asSchema(given: unknown, at: string): boolean | Fields {
  if (typeof given === 'boolean' || isFields(given)) return given;
  throw refuse(at, 'it is neither an object nor true or false');
}

export function list(given: unknown, at: string): readonly unknown[] {
  if (Array.isArray(given)) return given;
  throw refuse(at, 'it is not a list');
}

/** Whether a keyword says nothing of which texts are right: OpenAPI's discriminator is a hint for who reads them. */
const isAnnotation = (one: Fields, keyword: string): boolean =>
  annotations.includes(keyword) || (keyword === 'discriminator' && isFields(one[keyword]));

/** The keyword of a schema that is neither followed nor without a meaning for texts. */
export const unknownKeyword = (one: Fields): string | undefined =>
  Object.keys(one).find(
    (keyword) => one[keyword] !== undefined && !isAnnotation(one, keyword) && !followed.includes(keyword),
  );

/** The keyword beside these, and beside types, that narrows a schema further. */
export const narrowing = (one: Fields, besides: readonly string[]): string | undefined =>
  Object.keys(one).find((key) => !isAnnotation(one, key) && !['type', 'nullable', ...besides].includes(key));

/** The bounds of a length; null: none above. */
export function range(one: Fields, at: string, low: string, high: string): [number, number | null] {
  const read = (name: string): number | null => {
    const given = one[name];
    if (given === undefined) return null;
    if (typeof given === 'number' && Number.isInteger(given) && given >= 0) return given;
    throw refuse(`${at}.${name}`, 'it is not a whole number from 0 on');
  };
  const [least, most] = [read(low) ?? 0, read(high)];
  if (most !== null && most < least) throw refuse(at, `${high} is below ${low}`);
  if (least > mostRepeats) throw refuse(`${at}.${low}`, `it is more than ${mostRepeats}`);
  return [least, most === null ? null : Math.min(most, mostRepeats)];
}

/** With null, where a type is nullable: OpenAPI 3.0 says so of types alone. */
export function typesOf(one: Fields, at: string): readonly string[] | null {
  const { type, nullable = false } = one;
  if (typeof nullable !== 'boolean') throw refuse(`${at}.nullable`, 'it is neither true nor false');
  if (type === undefined) return null;
  const types = Array.isArray(type) ? type : [type];
  if (types.length > 0 && types.every((each) => typeof each === 'string'))
    return [...new Set([...types, ...(nullable ? ['null'] : [])])];
  throw refuse(`${at}.type`, 'it is neither a name nor a list of names');
}

/** The types of both, of which null are all. @throws NothingLeft where there is none */
export function commonTypes(
  own: readonly string[] | null,
  within: readonly string[] | null,
  at: string,
): readonly string[] | null {
  if (own === null || within === null) return own ?? within;
  const has = (types: readonly string[], type: string) =>
    types.includes(type) || (type === 'integer' && types.includes('number'));
  const common = [
    ...own.filter((type) => has(within, type)),
    ...within.filter((type) => !own.includes(type) && has(own, type)),
  ];
  if (common.length > 0) return common;
  const why = `it is of type ${own.join(' or ')}, and what stands around it asks for ${within.join(' or ')}`;
  throw new NothingLeft(at, why);
}

/** The schemas of properties, by their names. */
export function propertiesOf(one: Fields, at: string): Fields {
  const properties = one['properties'] ?? {};
  if (isFields(properties)) return properties;
  throw refuse(`${at}.properties`, 'it is not an object');
}

/** The names of required properties, each once. */
export function requiredOf(one: Fields, at: string): ReadonlySet<string> {
  const names = one['required'] === undefined ? [] : list(one['required'], `${at}.required`);
  if (names.every((name) => typeof name === 'string')) return new Set(names);
  throw refuse(`${at}.required`, 'it is not a list of names');
}

export function inferred(one: Fields): readonly string[] | null {
  const kind = Object.keys(kinds).find((name) => kinds[name]!.some((keyword) => one[keyword] !== undefined));
  return kind === undefined ? null : [kind];
}

export function isOfType(value: unknown, type: string): boolean {
  if (type === 'integer') return Number.isInteger(value);
  if (type === 'null') return value === null;
  if (type === 'array') return Array.isArray(value);
  if (type === 'object') return isFields(value);
  return typeof value === type;
}

/** What a pointer in a schema refers to. @throws OnelaunchError of kind usage where there is nothing */
export function pointed(schema: unknown, pointer: string, at: string): unknown {
  let target = schema;
  for (const part of pointer.split('/').slice(1)) {
    const key = decodeURIComponent(part).replaceAll('~1', '/').replaceAll('~0', '~');
    const inside = typeof target === 'object' && target !== null && Object.hasOwn(target, key);
    if (!inside) throw refuse(`${at}.$ref`, `there is no ${pointer}`);
    target = (target as Fields)[key];
  }
  return target;
}

/** More branches must be told apart by one property of them all. */
const mostPaired = 500;

/** That no value is of two branches of a oneOf, as far as types and constant properties tell. @param target what a pointer refers to */
export function checkApart(
  branches: readonly unknown[],
  at: string,
  target: (pointer: string) => unknown,
): void {
  const all = branches.map((branch) => marksOf(branch, target));
  const [first] = all;
  const tells = (name: string) => new Set(all.map(({ fixed }) => fixed.get(name))).size === all.length;
  const isTold =
    first && [...first.fixed.keys()].some((name) => all.every(({ fixed }) => fixed.has(name)) && tells(name));
  if (isTold) return;
  if (all.length > mostPaired)
    throw refuse(
      `${at}.oneOf`,
      `of more than ${mostPaired} branches each must have another const of one required property`,
    );
  const areApart = all.every((one, i) => all.slice(i + 1).every((other) => isApart(one, other)));
  if (areApart) return;
  throw refuse(
    `${at}.oneOf`,
    'its branches must differ in type, or in the const of a required property; anyOf may overlap',
  );
}

/** What tells a branch from others. */
interface Marks {
  /** Null: any, or not known. */
  readonly types: ReadonlySet<unknown> | null;
  /** Constants of required properties, as JSON. */
  readonly fixed: ReadonlyMap<string, string>;
}

/** References are followed so often. */
const mostFollowed = 20;

function marksOf(branch: unknown, target: (pointer: string) => unknown, followed = 0): Marks {
  if (!isFields(branch)) return { types: null, fixed: new Map() };
  const { $ref: pointer, type, nullable, properties, required } = branch;
  if (typeof pointer === 'string' && /^#(\/|$)/.test(pointer) && followed < mostFollowed)
    return marksOf(target(pointer), target, followed + 1);
  const types = [type, ...(type !== undefined && nullable === true ? ['null'] : [])].flat();
  const needed = new Set([required].flat());
  const fixed = Object.entries(isFields(properties) ? properties : {}).flatMap(([name, each]) => {
    const [value, ...others] = isFields(each) ? [each['const'] ?? each['enum']].flat() : [];
    const isFixed = value !== undefined && others.length === 0 && needed.has(name);
    return isFixed ? [[name, JSON.stringify(value)] as const] : [];
  });
  return {
    types: types.every((one) => typeof one === 'string')
      ? new Set(types.map((one) => (one === 'integer' ? 'number' : one)))
      : null,
    fixed: new Map(fixed),
  };
}

const isApart = (one: Marks, other: Marks): boolean =>
  (one.types !== null && other.types !== null && ![...one.types].some((type) => other.types!.has(type))) ||
  [...one.fixed].some(([name, text]) => (other.fixed.get(name) ?? text) !== text);

/** A bound of a number; null: none. */
export function numberAt(one: Fields, name: string, at: string): number | null {
  const given = one[name];
  if (given === undefined) return null;
  if (typeof given === 'number' && Number.isFinite(given)) return given;
  throw refuse(`${at}.${name}`, 'it is not a number');
}

/** The bounds of a number; null: none. */
export function bounds(one: Fields, at: string): Bounds | null {
  const read = (name: string) => numberAt(one, name, at);
  const [min, max, over, under] = [
    ...[read('minimum'), read('maximum'), read('exclusiveMinimum'), read('exclusiveMaximum')],
  ];
  if ([min, max, over, under].every((each) => each === null)) return null;
  const low = Math.max(min ?? -mostNumber, over ?? -mostNumber, -mostNumber);
  const high = Math.min(max ?? mostNumber, under ?? mostNumber, mostNumber);
  return { low, high, above: over === low, below: under === high };
}
