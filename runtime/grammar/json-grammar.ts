// A JSON Schema as a grammar in EBNF: texts of it are JSON that the schema accepts. Of what a schema allows some is never made, such as
// properties that it does not name; what cannot be followed is refused by name, so that no text is wrong.
import { OnelaunchError } from '../../errors.ts';
import type { BoundedGrammar } from './length-counter.ts';
import { repeats } from './repeats.ts';
import { beginApart } from './schema-branches.ts';

/** A schema: an object of JSON Schema (draft 2020-12, and of older drafts what is the same there), true, or false. */
export type JsonSchema = boolean | { readonly [keyword: string]: unknown };

/** More of a text's characters, or of a list's items, are never made. */
const mostRepeats = 10_000;
const mostRules = 20_000;

/** Keywords that say nothing of which texts are right. */
const annotations = [
  ...['$schema', '$id', '$comment', '$defs', 'definitions', 'title', 'description', 'default', 'examples'],
  ...['deprecated', 'readOnly', 'writeOnly'],
];
const followed = [
  ...['type', 'enum', 'const', 'anyOf', 'oneOf', 'allOf', '$ref', 'minLength', 'maxLength', 'format'],
  ...['minimum', 'maximum', 'exclusiveMinimum', 'exclusiveMaximum', 'items', 'prefixItems', 'minItems'],
  ...['maxItems', 'properties', 'required', 'additionalProperties'],
];
/** Where there is no type, one of these says which is meant. */
const kinds: Readonly<Record<string, readonly string[]>> = {
  object: ['properties', 'required', 'additionalProperties'],
  array: ['items', 'prefixItems', 'minItems', 'maxItems'],
  string: ['minLength', 'maxLength', 'format'],
  number: ['minimum', 'maximum', 'exclusiveMinimum', 'exclusiveMaximum'],
};

const day = '[0-9]{4} "-" ("0" [1-9] | "1" [0-2]) "-" ("0" [1-9] | "1" [0-9] | "2" [0-8])';
const hour = '([0-1] [0-9] | "2" [0-3]) ":" [0-5] [0-9] ":" [0-5] [0-9]';
const zone = '("Z" | [+-] ([0-1] [0-9] | "2" [0-3]) ":" [0-5] [0-9])';
const formats: Readonly<Record<string, string>> = {
  date: day,
  time: `${hour} ${zone}`,
  'date-time': `${day} "T" ${hour} ${zone}`,
  uuid: '[0-9a-f]{8} "-" [0-9a-f]{4} "-" [1-8] [0-9a-f]{3} "-" [89ab] [0-9a-f]{3} "-" [0-9a-f]{12}',
};

/** Digits of a number, such that a double tells it from its neighbours. */
const mostDigits = 15;
/** Rules that all schemas have in common. */
export const basicRules: string = String.raw`
char ::= [^\x00-\x1f"\\] | "\\" ["\\/bfnrt]
string ::= "\"" char* "\""
integer ::= "-"? ("0" | [1-9] [0-9]{0,14})
number ::= "-"? ("0" | [1-9] [0-9]{0,14}) ("." [0-9]{1,15})? ([eE] [+-]? [0-9]{1,2})?
boolean ::= "true" | "false"
null ::= "null"
array ::= "[" (any (", " any)*)? "]"
object ::= "{" (string ": " any (", " string ": " any)*)? "}"
any ::= string | number | boolean | null | array | object
`.trim();

/** Rules of a schema, and what stands for a text of it. */
export interface JsonRules {
  readonly root: string;
  readonly rules: readonly string[];
  /** Whether texts of it have bounds. */
  readonly hasBounds: boolean;
  /** The rules without these; null: the beginning of a text with bounds can be read in two ways. */
  readonly loose: readonly string[] | null;
}

/** The grammar of a schema; its first rule is root.
 *  @throws OnelaunchError of kind usage, with the place in the schema of what cannot be followed */
export function jsonGrammar(schema: JsonSchema): string | BoundedGrammar {
  const json = jsonRules(schema);
  return withLengths(
    [json],
    ([rules]) => [`root ::= ${json.root}`, ...rules!, basicRules, ''].join('\n'),
    null,
  );
}

/** A grammar of parts, in which lengths are counted apart from it where they can be.
 *  @param write the grammar with these rules of the parts
 *  @param entry as of BoundedGrammar */
export function withLengths(
  parts: readonly JsonRules[],
  write: (rules: readonly (readonly string[])[]) => string,
  entry: string | null,
): string | BoundedGrammar {
  const exact = write(parts.map(({ rules }) => rules));
  const loose = parts.flatMap((part) => (part.loose === null ? [] : [part.loose]));
  const isCounted = parts.some(({ hasBounds }) => hasBounds) && loose.length === parts.length;
  return isCounted ? { exact, loose: write(loose), entry } : exact;
}

/** A schema as a part of a grammar that has the basic rules.
 *  @param prefix of the names of these rules
 *  @throws OnelaunchError as jsonGrammar does */
export function jsonRules(schema: JsonSchema, prefix = ''): JsonRules {
  const rules: string[] = [];
  const loose: string[] = [];
  /** Texts with bounds so far; parts that are referred to may have some. */
  let bounded = 0;
  let referring = 0;
  let isAmbiguous = false;
  /** Rules of what is referred to, by its pointer. */
  const referred = new Map<string, string>();

  /** @param any the body where texts have no bounds; null: no rule is needed there */
  const rule = (body: string, any: string | null = body): string => {
    const name = `${prefix}r${rules.length}`;
    if (rules.length >= mostRules) throw refuse('', `it has more than ${mostRules} parts`);
    rules.push(`${name} ::= ${body}`);
    if (any !== null) loose.push(`${name} ::= ${any}`);
    return name;
  };

  const characters = repeats((body) => rule(body, null));
  const repeated = repeats(rule);

  /** @param open references that were followed to here without a character between */
  const value = (given: unknown, at: string, open: readonly string[]): string => {
    const one = asSchema(given, at);
    if (one === true) return 'any';
    if (one === false) throw refuse(at, 'false allows no value');
    for (const [keyword, asked] of Object.entries(one)) {
      if (asked === undefined || annotations.includes(keyword) || followed.includes(keyword)) continue;
      throw refuse(at, `the keyword ${keyword} is not supported`);
    }
    if (one['$ref'] !== undefined) return reference(one, at, open);
    if (one['const'] !== undefined) return literal(one['const']);
    if (one['enum'] !== undefined) {
      const of = typesOf(one, at);
      const all = list(one['enum'], `${at}.enum`);
      const fitting = all.filter((each) => of === null || of.some((type) => isOfType(each, type)));
      if (fitting.length === 0) throw refuse(`${at}.enum`, 'it has no value of the type');
      return choice(fitting.map(literal));
    }
    const [combined, ...others] = ['anyOf', 'oneOf', 'allOf'].filter((name) => one[name] !== undefined);
    if (combined !== undefined) {
      const beside = Object.keys(one).find(
        (key) => !annotations.includes(key) && key !== 'type' && key !== combined,
      );
      if (others.length > 0 || beside !== undefined) {
        throw refuse(at, `${combined} beside ${others[0] ?? beside} is not supported`);
      }
      const branches = list(one[combined], `${at}.${combined}`);
      if (branches.length === 0) throw refuse(`${at}.${combined}`, 'it is empty');
      if (combined === 'allOf' && branches.length > 1) throw refuse(at, 'allOf of several is not supported');
      if (combined === 'oneOf') checkApart(branches, at);
      const before = bounded + referring;
      const made = branches.map((branch, i) => value(branch, `${at}.${combined}[${i}]`, open));
      const hasBounds = bounded + referring > before;
      if (hasBounds && !beginApart(branches, (pointer) => pointed(schema, pointer, at))) isAmbiguous = true;
      return choice(made);
    }
    const types = typesOf(one, at) ?? inferred(one);
    return types === null ? 'any' : choice(types.map((type) => typed(type, one, at)));
  };

  const typed = (type: string, one: Fields, at: string): string => {
    switch (type) {
      case 'string':
        return text(one, at);
      case 'integer':
        return bounds(one, at) === null ? 'integer' : rule(integers(bounds(one, at)!, at));
      case 'number':
        return bounds(one, at) === null ? 'number' : rule(numbers(bounds(one, at)!, at));
      case 'boolean':
      case 'null':
        return type;
      case 'array':
        return items(one, at);
      case 'object':
        return fields(one, at);
      default:
        throw refuse(`${at}.type`, `there is no type ${JSON.stringify(type)}`);
    }
  };

  const text = (one: Fields, at: string): string => {
    const { format } = one;
    const [least, most] = range(one, at, 'minLength', 'maxLength');
    if (format === undefined) {
      if (least === 0 && most === null) return 'string';
      bounded++;
      return rule(String.raw`"\"" ${characters('char', least, most)} "\""`, 'string');
    }
    if (typeof format !== 'string' || !Object.hasOwn(formats, format)) {
      throw refuse(
        `${at}.format`,
        `${JSON.stringify(format)} is not supported; ${Object.keys(formats).join(', ')} are`,
      );
    }
    if (least > 0 || most !== null) throw refuse(at, 'format beside lengths is not supported');
    return rule(String.raw`"\"" ${formats[format]} "\""`);
  };

  const items = (one: Fields, at: string): string => {
    const [least, most] = range(one, at, 'minItems', 'maxItems');
    const first = one['prefixItems'] === undefined ? [] : list(one['prefixItems'], `${at}.prefixItems`);
    const rest = one['items'] ?? true;
    const none = rest === false;
    const last = Math.min(most ?? mostRepeats, none ? first.length : mostRepeats);
    if (last < least) throw refuse(at, 'no list is as long as it asks for');
    const heads = first.slice(0, last).map((each, i) => value(each, `${at}.prefixItems[${i}]`, []));
    const tail = none || last === heads.length ? null : value(rest, `${at}.items`, []);
    // From the last item on: what may follow so many items.
    let behind =
      tail === null
        ? ''
        : repeated(
            `(", " ${tail})`,
            Math.max(0, least - Math.max(1, heads.length)),
            most === null ? null : last - Math.max(1, heads.length),
          );
    if (heads.length === 0) {
      if (tail === null) return literal([]);
      return rule(`"[" ${least > 0 ? `${tail} ${behind}` : `(${tail} ${behind})?`} "]"`);
    }
    for (let i = heads.length - 1; i >= 0; i--) {
      const item = `${i > 0 ? '", " ' : ''}${heads[i]} ${behind}`;
      behind = rule(i >= least ? `(${item})?` : item);
    }
    return rule(`"[" ${behind} "]"`);
  };

  const fields = (one: Fields, at: string): string => {
    const properties = one['properties'] ?? {};
    if (!isFields(properties)) throw refuse(`${at}.properties`, 'it is not an object');
    const required = one['required'] === undefined ? [] : list(one['required'], `${at}.required`);
    const unnamed = required.filter((name) => typeof name !== 'string' || !Object.hasOwn(properties, name));
    const others = one['additionalProperties'] ?? true;
    const all: [string, unknown][] = [
      ...Object.entries(properties),
      ...unnamed.map((name): [string, unknown] => [String(name), others]),
    ];
    if (all.length === 0) {
      if (others === false) return literal({});
      const member = `string ": " ${value(others, `${at}.additionalProperties`, [])}`;
      return rule(`"{" (${member} (", " ${member})*)? "}"`);
    }
    const members = all.map(([name, each]) => ({
      body: `${literal(name)} ": " ${value(each, `${at}.properties.${name}`, [])}`,
      needed: required.includes(name),
    }));
    // What may follow the members before, of which one is there; then the same where none is.
    let behind = '';
    const rests = members.map(() => '');
    for (let i = members.length - 1; i >= 0; i--) {
      rests[i] = behind;
      const { body, needed } = members[i]!;
      const here = `", " ${body} ${behind}`;
      behind = rule(needed ? here : `(", " ${body})? ${behind}`);
    }
    const firsts: string[] = [];
    let empty = true;
    for (const [i, { body, needed }] of members.entries()) {
      firsts.push(`${body} ${rests[i]}`);
      if (needed) {
        empty = false;
        break;
      }
    }
    const choices = firsts.map((first) => `(${first})`).join(' | ');
    return rule(`"{" (${choices})${empty ? '?' : ''} "}"`);
  };

  const reference = (one: Fields, at: string, open: readonly string[]): string => {
    const pointer = one['$ref'];
    const beside = Object.keys(one).find((key) => key !== '$ref' && !annotations.includes(key));
    if (beside !== undefined) throw refuse(at, `$ref beside ${beside} is not supported`);
    if (typeof pointer !== 'string' || !/^#(\/|$)/.test(pointer)) {
      throw refuse(`${at}.$ref`, `${JSON.stringify(pointer)} is not in this schema`);
    }
    if (open.includes(pointer)) throw refuse(`${at}.$ref`, `${pointer} refers to itself alone`);
    referring++;
    const known = referred.get(pointer);
    if (known !== undefined) return known;
    const name = `${prefix}ref${referred.size}`;
    // Inside of itself it is known by its name, but only where a character comes first.
    const target = pointed(schema, pointer, at);
    referred.set(pointer, name);
    checkEnds(target, pointer, [...open, pointer]);
    const body = `${name} ::= ${value(target, pointer, [...open, pointer])}`;
    rules.push(body);
    loose.push(body);
    return name;
  };

  /** That following references alone comes to an end. */
  const checkEnds = (target: unknown, at: string, open: readonly string[]): void => {
    if (!isFields(target)) return;
    const next = target['$ref'];
    if (typeof next === 'string') {
      if (open.includes(next)) throw refuse(`${at}.$ref`, `${next} refers to itself alone`);
      if (/^#(\/|$)/.test(next)) checkEnds(pointed(schema, next, at), next, [...open, next]);
    }
    for (const name of ['anyOf', 'oneOf', 'allOf']) {
      const branches = target[name];
      if (Array.isArray(branches)) for (const branch of branches) checkEnds(branch, `${at}.${name}`, open);
    }
  };

  checkEnds(schema, '#', ['#']);
  const root = value(schema, '#', ['#']);
  return { root, rules, hasBounds: bounded > 0, loose: bounded > 0 && isAmbiguous ? null : loose };
}

type Fields = { readonly [keyword: string]: unknown };

const isFields = (value: unknown): value is Fields =>
  typeof value === 'object' && value !== null && !Array.isArray(value);

const refuse = (at: string, why: string) =>
  new OnelaunchError('usage', `the schema cannot be followed${at ? ` at ${at}` : ''}: ${why}`, {
    hint: `Keywords that are followed: ${followed.join(', ')}.`,
    // A place such as #.properties.a, or #/$defs/a.items of what is referred to.
    option: at.length > 1 ? [at.slice(2).replaceAll('/', '.')] : [],
  });

function asSchema(given: unknown, at: string): boolean | Fields {
  if (typeof given === 'boolean' || isFields(given)) return given;
  throw refuse(at, 'it is neither an object nor true or false');
}

function list(given: unknown, at: string): readonly unknown[] {
  if (Array.isArray(given)) return given;
  throw refuse(at, 'it is not a list');
}

const choice = (of: readonly string[]): string => (of.length === 1 ? of[0]! : `(${of.join(' | ')})`);

/** A text as the grammar has it. */
export const quoted = (text: string): string => JSON.stringify(text);

/** JSON as the rules make it, and as text of the grammar. */
const literal = (value: unknown): string => quoted(spaced(value));

function spaced(value: unknown): string {
  if (Array.isArray(value)) return `[${value.map(spaced).join(', ')}]`;
  if (!isFields(value)) return JSON.stringify(value);
  const members = Object.entries(value).map(([name, each]) => `${JSON.stringify(name)}: ${spaced(each)}`);
  return `{${members.join(', ')}}`;
}

/** The bounds of a length; null: none above. */
function range(one: Fields, at: string, low: string, high: string): [number, number | null] {
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

function typesOf(one: Fields, at: string): readonly string[] | null {
  const { type } = one;
  if (type === undefined) return null;
  const types = Array.isArray(type) ? type : [type];
  if (types.length > 0 && types.every((each) => typeof each === 'string')) return [...new Set(types)];
  throw refuse(`${at}.type`, 'it is neither a name nor a list of names');
}

function inferred(one: Fields): readonly string[] | null {
  const kind = Object.keys(kinds).find((name) => kinds[name]!.some((keyword) => one[keyword] !== undefined));
  return kind === undefined ? null : [kind];
}

function isOfType(value: unknown, type: string): boolean {
  if (type === 'integer') return Number.isInteger(value);
  if (type === 'null') return value === null;
  if (type === 'array') return Array.isArray(value);
  if (type === 'object') return isFields(value);
  return typeof value === type;
}

/** What a pointer in a schema refers to. @throws OnelaunchError of kind usage where there is nothing */
export function pointed(schema: JsonSchema, pointer: string, at: string): unknown {
  let target: unknown = schema;
  for (const part of pointer.split('/').slice(1)) {
    const key = decodeURIComponent(part).replaceAll('~1', '/').replaceAll('~0', '~');
    const inside = typeof target === 'object' && target !== null && Object.hasOwn(target, key);
    if (!inside) throw refuse(`${at}.$ref`, `there is no ${pointer}`);
    target = (target as Fields)[key];
  }
  return target;
}

/** That no value is of two branches of a oneOf, as far as types and constant properties tell. */
function checkApart(branches: readonly unknown[], at: string): void {
  for (const [i, one] of branches.entries()) {
    for (const other of branches.slice(i + 1)) {
      if (areApart(one, other)) continue;
      throw refuse(
        `${at}.oneOf`,
        'its branches must differ in type, or in the const of a required property; anyOf may overlap',
      );
    }
  }
}

function areApart(a: unknown, b: unknown): boolean {
  if (!isFields(a) || !isFields(b)) return false;
  const [first, second] = [a, b].map((one) => [one['type']].flat());
  const known = [...first!, ...second!].every((type) => typeof type === 'string');
  const same = (type: unknown) => (type === 'integer' ? 'number' : type);
  if (known && !first!.some((type) => second!.map(same).includes(same(type)))) return true;
  const fixed = (one: Fields) =>
    Object.entries(isFields(one['properties']) ? one['properties'] : {}).flatMap(([name, each]) =>
      isFields(each) && each['const'] !== undefined && [one['required']].flat().includes(name)
        ? [[name, JSON.stringify(each['const'])] as const]
        : [],
    );
  return fixed(a).some(([name, text]) => fixed(b).some(([its, other]) => its === name && other !== text));
}

interface Bounds {
  readonly low: number;
  readonly high: number;
  /** Whether low and high themselves are outside. */
  readonly above: boolean;
  readonly below: boolean;
}

function bounds(one: Fields, at: string): Bounds | null {
  const read = (name: string): number | null => {
    const given = one[name];
    if (given === undefined) return null;
    if (typeof given === 'number' && Number.isFinite(given)) return given;
    throw refuse(`${at}.${name}`, 'it is not a number');
  };
  const [min, max, over, under] = [
    ...[read('minimum'), read('maximum'), read('exclusiveMinimum'), read('exclusiveMaximum')],
  ];
  if ([min, max, over, under].every((each) => each === null)) return null;
  const most = 10 ** mostDigits - 1;
  const low = Math.max(min ?? -most, over ?? -most, -most);
  const high = Math.min(max ?? most, under ?? most, most);
  return { low, high, above: over === low, below: under === high };
}

/** The whole numbers within bounds. */
function integers(bounds: Bounds, at: string): string {
  const low = Math.ceil(bounds.low) + Number(bounds.above && Number.isInteger(bounds.low));
  const high = Math.floor(bounds.high) - Number(bounds.below && Number.isInteger(bounds.high));
  if (low > high) throw refuse(at, 'no whole number is within its bounds');
  return signed(low, high).join(' | ');
}

/** Numbers within bounds: the whole ones, and fractions between two of them. */
function numbers(bounds: Bounds, at: string): string {
  const { low, high } = bounds;
  const fraction = ' "." [0-9]{0,13} [1-9]';
  const fractions = (from: number, to: number, sign: string) =>
    from > to ? [] : naturals(from, to).map((one) => `${sign}${one}${fraction}`);
  const parts = [
    ...fractions(Math.max(0, Math.ceil(low)), Math.floor(high) - 1, ''),
    ...fractions(Math.max(0, Math.ceil(-high)), Math.floor(-low) - 1, '"-" '),
  ];
  const first = Math.ceil(low) + Number(bounds.above && Number.isInteger(low));
  const last = Math.floor(high) - Number(bounds.below && Number.isInteger(high));
  if (first <= last) parts.unshift(...signed(first, last));
  if (parts.length === 0) {
    throw refuse(
      at,
      'bounds of a number are followed where there is a whole number on each side within them',
    );
  }
  return parts.join(' | ');
}

function signed(low: number, high: number): string[] {
  const negative = low < 0 ? [`"-" (${naturals(Math.max(1, -high), -low).join(' | ')})`] : [];
  return [...negative, ...(high >= 0 ? naturals(Math.max(0, low), high) : [])];
}

/** Decimal texts of the numbers from low to high, both at least 0: by their number of digits, and each digit by what is left of the bounds. */
function naturals(low: number, high: number): string[] {
  const found: string[] = [];
  const whole: number[] = []; // lengths of which all numbers are within
  for (let digits = 1; digits <= String(high).length; digits++) {
    const [least, most] = [digits === 1 ? 0 : 10 ** (digits - 1), 10 ** digits - 1];
    const [from, to] = [Math.max(low, least), Math.min(high, most)];
    if (from === least && to === most && digits > 1) whole.push(digits);
    else if (from <= to) found.push(between(String(from), String(to)));
  }
  if (whole.length > 0) found.push(`[1-9] [0-9]{${whole[0]! - 1},${whole.at(-1)! - 1}}`);
  return found;
}

/** Texts of as many digits as both bounds have, from one to the other. Branches differ in their first digit. */
function between(low: string, high: string): string {
  const [first, last] = [Number(low[0]), Number(high[0])];
  const rest = low.length - 1;
  const [none, all] = ['0'.repeat(rest), '9'.repeat(rest)];
  const [lowRest, highRest] = [low.slice(1), high.slice(1)];
  const any = (from: number, to: number) => `[${from}-${to}]${rest > 0 ? ` [0-9]{${rest}}` : ''}`;
  if (lowRest === none && highRest === all) return any(first, last);
  if (first === last) return `"${first}" ${between(lowRest, highRest)}`;
  const branches: string[] = [];
  const [begin, end] = [lowRest === none ? first : first + 1, highRest === all ? last : last - 1];
  if (begin > first) branches.push(`"${first}" ${between(lowRest, all)}`);
  if (begin <= end) branches.push(any(begin, end));
  if (end < last) branches.push(`"${last}" ${between(none, highRest)}`);
  return `(${branches.join(' | ')})`;
}
