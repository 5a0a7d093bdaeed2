// A JSON Schema as a grammar in EBNF: texts of it are JSON that the schema accepts. Of what a schema allows some is never made, such as
// properties that it does not name; what cannot be followed is refused by name, so that no text is wrong.

import { acceptedBy, regexOf } from './accepts.ts';
import {
  asSchema,
  bounds,
  checkApart,
  commonTypes,
  type Fields,
  inferred,
  isFields,
  list,
  mostRepeats,
  NothingLeft,
  narrowing,
  pointed,
  propertiesOf,
  range,
  refuse,
  requiredOf,
  typesOf,
  unknownKeyword,
} from './keywords.ts';
import type { BoundedGrammar } from './length-counter.ts';
import { integers, numbers } from './number-grammar.ts';
import { patternBody } from './pattern.ts';
import { repeats } from './repeats.ts';
import { beginApart } from './schema-branches.ts';
import { saysFormat } from './zod-formats.ts';

/** A schema: an object of JSON Schema (draft 2020-12, and of older drafts what is the same there), true, or false. */
export type JsonSchema = boolean | { readonly [keyword: string]: unknown };

const mostRules = 20_000;

const day = '[0-9]{4} "-" ("0" [1-9] | "1" [0-2]) "-" ("0" [1-9] | "1" [0-9] | "2" [0-8])';
const hour = '([0-1] [0-9] | "2" [0-3]) ":" [0-5] [0-9] ":" [0-5] [0-9]';
const zone = '("Z" | [+-] ([0-1] [0-9] | "2" [0-3]) ":" [0-5] [0-9])';
const formats: Readonly<Record<string, string>> = {
  date: day,
  time: `${hour} ${zone}`,
  'date-time': `${day} "T" ${hour} ${zone}`,
  uuid: '[0-9a-f]{8} "-" [0-9a-f]{4} "-" [1-8] [0-9a-f]{3} "-" [89ab] [0-9a-f]{3} "-" [0-9a-f]{12}',
};

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

/** What is made, as a list; an empty one where what stands around it leaves nothing of it. */
function orNothing(make: () => string[]): string[] {
  try {
    return make();
  } catch (error) {
    if (error instanceof NothingLeft) return [];
    throw error;
  }
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
  /** Rules of what is referred to, by its pointer and the types that are left of it. */
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

  const { accepts, fitting } = acceptedBy(schema);

  /** @param open references that were followed to here without a character between
   *  @param within types that what stands around it leaves; null: all */
  const value = (
    given: unknown,
    at: string,
    open: readonly string[],
    within: readonly string[] | null = null,
  ): string => {
    const one = asSchema(given, at);
    if (one === true) return within === null ? 'any' : value({}, at, open, within);
    if (one === false) throw refuse(at, 'false allows no value');
    const unknown = unknownKeyword(one);
    if (unknown !== undefined) throw refuse(at, `the keyword ${unknown} is not supported`);
    const said = commonTypes(typesOf(one, at), within, at);
    if (one['$ref'] !== undefined) return reference(one, at, open, said);
    const from = (['const', 'enum'] as const).find((name) => one[name] !== undefined);
    if (from !== undefined) {
      const all = from === 'const' ? [one['const']] : list(one['enum'], `${at}.enum`);
      const typed = said === null ? one : { ...one, type: said, nullable: false };
      return choice(fitting(all, typed, at, from, within !== null).map(literal));
    }
    const [combined, ...others] = ['anyOf', 'oneOf', 'allOf'].filter((name) => one[name] !== undefined);
    if (combined !== undefined) {
      const beside = narrowing(one, [combined]);
      if (others.length > 0 || beside !== undefined) {
        throw refuse(at, `${combined} beside ${others[0] ?? beside} is not supported`);
      }
      const branches = list(one[combined], `${at}.${combined}`);
      if (branches.length === 0) throw refuse(`${at}.${combined}`, 'it is empty');
      if (combined === 'allOf' && branches.length > 1) throw refuse(at, 'allOf of several is not supported');
      const target = (pointer: string) => pointed(schema, pointer, at);
      if (combined === 'oneOf') checkApart(branches, at, target);
      const before = bounded + referring;
      const made = branches.flatMap((branch, i) => {
        const make = () => [value(branch, `${at}.${combined}[${i}]`, open, said)];
        return combined === 'allOf' || said === null ? make() : orNothing(make);
      });
      if (made.length === 0)
        throw new NothingLeft(`${at}.${combined}`, `none of it is of type ${said!.join(' or ')}`);
      const hasBounds = bounded + referring > before;
      if (hasBounds && !beginApart(branches, target)) isAmbiguous = true;
      return choice(made);
    }
    const types = said ?? inferred(one);
    return types === null ? 'any' : choice(types.map((type) => typed(type, one, at)));
  };

  const typed = (type: string, one: Fields, at: string): string => {
    switch (type) {
      case 'string':
        return text(one, at);
      case 'integer':
      case 'number':
        return number(type, one, at);
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

  const number = (type: 'integer' | 'number', one: Fields, at: string): string => {
    const within = bounds(one, at);
    if (within === null) return type;
    const body = type === 'integer' ? integers(within) : numbers(within);
    if (body !== null) return rule(body);
    const why =
      type === 'integer'
        ? 'no whole number is within its bounds'
        : 'bounds of a number are followed where there is a whole number on each side within them';
    throw refuse(at, why);
  };

  const text = (one: Fields, at: string): string => {
    const { format } = one;
    const [least, most] = range(one, at, 'minLength', 'maxLength');
    if (one['pattern'] !== undefined) {
      if (format !== undefined && !saysFormat(one['pattern'], format))
        throw refuse(at, 'pattern beside format is not supported');
      const place = `${at}.pattern`;
      const writing = { rule, repeated, refuse: (why: string) => refuse(place, why) };
      const body = patternBody(regexOf(one['pattern'], place), { least, most }, writing);
      return rule(String.raw`"\"" (${body}) "\""`);
    }
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
    const properties = propertiesOf(one, at);
    const needed = requiredOf(one, at);
    const unnamed = [...needed].filter((name) => !Object.hasOwn(properties, name));
    const others = one['additionalProperties'] ?? true;
    const names = asSchema(one['propertyNames'] ?? true, `${at}.propertyNames`);
    const said: [string, unknown][] = [
      ...Object.entries(properties),
      ...unnamed.map((name): [string, unknown] => [name, others]),
    ];
    // Where none is said, those are that names can be.
    const listed =
      said.length > 0 || others === false
        ? said
        : namesOf(names).map((name): [string, unknown] => [name, others]);
    const all = listed.filter(([name]) => names === true || accepts(names, name, `${at}.propertyNames`));
    const left = new Set(all.map(([name]) => name));
    const lost = [...needed].find((name) => !left.has(name));
    if (lost !== undefined) {
      const why = `the required property ${JSON.stringify(lost)} is none of them`;
      throw refuse(`${at}.propertyNames`, why);
    }
    if (all.length === 0) {
      if (others === false || listed.length > 0 || names === false) return literal({});
      const name = names === true ? 'string' : value(names, `${at}.propertyNames`, [], ['string']);
      const member = `${name} ": " ${value(others, `${at}.additionalProperties`, [])}`;
      return rule(`"{" (${member} (", " ${member})*)? "}"`);
    }
    const members = all.map(([name, each]) => ({
      body: `${literal(name)} ": " ${value(each, `${at}.properties.${name}`, [])}`,
      needed: needed.has(name),
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

  const reference = (
    one: Fields,
    at: string,
    open: readonly string[],
    within: readonly string[] | null,
  ): string => {
    const pointer = one['$ref'];
    const beside = narrowing(one, ['$ref']);
    if (beside !== undefined) throw refuse(at, `$ref beside ${beside} is not supported`);
    if (typeof pointer !== 'string' || !/^#(\/|$)/.test(pointer)) {
      throw refuse(`${at}.$ref`, `${JSON.stringify(pointer)} is not in this schema`);
    }
    if (open.includes(pointer)) throw refuse(`${at}.$ref`, `${pointer} refers to itself alone`);
    referring++;
    const key = JSON.stringify([pointer, within]);
    const known = referred.get(key);
    if (known !== undefined) return known;
    const name = `${prefix}ref${referring}`;
    // Inside of itself it is known by its name, but only where a character comes first.
    const target = pointed(schema, pointer, at);
    referred.set(key, name);
    checkEnds(target, pointer, [...open, pointer]);
    let body = '""';
    try {
      body = value(target, pointer, [...open, pointer], within);
    } catch (error) {
      referred.delete(key);
      throw error;
    } finally {
      // Rules of parts that are left out may name it, too.
      for (const all of [rules, loose]) all.push(`${name} ::= ${body}`);
    }
    return name;
  };

  /** Pointers from which following references alone comes to an end. */
  const ending = new Set<string>();

  /** That following references alone comes to an end. */
  const checkEnds = (target: unknown, at: string, open: readonly string[]): void => {
    if (!isFields(target)) return;
    const next = target['$ref'];
    if (typeof next === 'string') {
      if (open.includes(next)) throw refuse(`${at}.$ref`, `${next} refers to itself alone`);
      if (/^#(\/|$)/.test(next) && !ending.has(next)) {
        checkEnds(pointed(schema, next, at), next, [...open, next]);
        ending.add(next);
      }
    }
    for (const name of ['anyOf', 'oneOf', 'allOf']) {
      const branches = target[name];
      if (Array.isArray(branches)) for (const branch of branches) checkEnds(branch, `${at}.${name}`, open);
    }
  };

  const root = unlessTooDeep(() => {
    checkEnds(schema, '#', ['#']);
    return value(schema, '#', ['#']);
  });
  return { root, rules, hasBounds: bounded > 0, loose: bounded > 0 && isAmbiguous ? null : loose };
}

/** The names that a schema of names lists, each once. */
const namesOf = (names: boolean | Fields): readonly string[] => {
  const listed = isFields(names) ? [names['const'] ?? names['enum'] ?? []].flat() : [];
  return [...new Set(listed.filter((name) => typeof name === 'string'))];
};

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

/** What is made of a schema, whose references may go on to others for longer than the stack has room. */
function unlessTooDeep<T>(make: () => T): T {
  try {
    return make();
  } catch (error) {
    if (error instanceof RangeError) throw refuse('', 'its references go on to one another too often');
    throw error;
  }
}
