// Whether alternatives of a schema can be told apart by their first words, before a text of them has begun.

type Fields = { readonly [keyword: string]: unknown };

/** How a value begins; `any`: as it likes. An object that must have a property before all others begins with its name, and what it must be, as
 *  JSON. */
interface Beginning {
  readonly type: string;
  readonly name?: string;
  readonly value?: string;
}

/** Deeper ones count as not told apart. */
const mostDepth = 50;

/** Whether no two of the branches begin alike: their values are of different types, or objects whose first properties have different names, or
 *  are different constants.
 *  @param pointed what a pointer refers to */
export function beginApart(branches: readonly unknown[], pointed: (pointer: string) => unknown): boolean {
  const known = new Map<object, readonly Beginning[]>();
  /** How the branches before begin: their types, names and values, and those of which nothing more is known. */
  const begun = new Set<string>();
  return branches.every((branch) => {
    const beginnings = beginningsOf(branch, { pointed, known }, 0);
    if (beginnings.some((one) => isBegun(one, begun))) return false;
    for (const one of beginnings) for (const key of keysOf(one)) begun.add(key);
    return true;
  });
}

const keyOf = (...parts: readonly (string | false | undefined)[]): string => JSON.stringify(parts);

/** What others are looked up by that begin as this one: from the whole to all that is known of it, and what ends there. */
function keysOf({ type, name, value }: Beginning): readonly string[] {
  const whole = [type, name, value].filter((part) => part !== undefined);
  return [...whole.map((_, i) => keyOf(...whole.slice(0, i + 1))), keyOf(...whole, false), keyOf()];
}

function isBegun(one: Beginning, begun: ReadonlySet<string>): boolean {
  const whole = [one.type, one.name, one.value].filter((part) => part !== undefined);
  if (one.type === 'any') return begun.has(keyOf());
  if (begun.has(keyOf('any'))) return true;
  return begun.has(keyOf(...whole)) || whole.some((_, i) => begun.has(keyOf(...whole.slice(0, i), false)));
}

interface Following {
  readonly pointed: (pointer: string) => unknown;
  /** Of what was followed before. */
  readonly known: Map<object, readonly Beginning[]>;
}

/** Each way once. */
function beginningsOf(given: unknown, how: Following, depth: number): readonly Beginning[] {
  if (!isFields(given) || depth > mostDepth) return [{ type: 'any' }];
  const before = how.known.get(given);
  if (before !== undefined) return before;
  const all = new Map(waysOf(given, how, depth).map((one) => [keyOf(one.type, one.name, one.value), one]));
  const made = [...all.values()];
  how.known.set(given, made);
  return made;
}

function waysOf(given: Fields, how: Following, depth: number): readonly Beginning[] {
  const { $ref: pointer, const: one, enum: some } = given;
  if (typeof pointer === 'string') return beginningsOf(how.pointed(pointer), how, depth + 1);
  // Constants have no texts with bounds: two of a branch may begin alike.
  if (one !== undefined) return [{ type: typeOf(one) }];
  if (Array.isArray(some)) return some.map((value) => ({ type: typeOf(value) }));
  for (const name of ['anyOf', 'oneOf', 'allOf']) {
    const branches = given[name];
    if (Array.isArray(branches)) return branches.flatMap((branch) => beginningsOf(branch, how, depth + 1));
  }
  const named = [given['type'] ?? 'any'].flat();
  const isNullable = given['type'] !== undefined && given['nullable'] === true && !named.includes('null');
  const types = [...named, ...(isNullable ? ['null'] : [])].map((type) =>
    type === 'integer' ? 'number' : String(type),
  );
  return types.map((type) => ({ type, ...(type === 'object' && firstOf(given)) }));
}

function firstOf({ properties, required }: Fields): Omit<Beginning, 'type'> {
  const [first] = isFields(properties) ? Object.entries(properties) : [];
  if (first === undefined || !Array.isArray(required) || !required.includes(first[0])) return {};
  const [name, schema] = first;
  const value =
    isFields(schema) && schema['const'] !== undefined ? JSON.stringify(schema['const']) : undefined;
  return { name, ...(value !== undefined && { value }) };
}

const isFields = (value: unknown): value is Fields =>
  typeof value === 'object' && value !== null && !Array.isArray(value);

const typeOf = (value: unknown): string =>
  value === null ? 'null' : Array.isArray(value) ? 'array' : typeof value;
