// Whether alternatives of a schema can be told apart by their first words, before a text of them has begun.

type Fields = { readonly [keyword: string]: unknown };

/** How a value begins; `any`: as it likes. An object that must have a property before all others begins with its name, and what it must be. */
interface Beginning {
  readonly type: string;
  readonly first?: { readonly name: string; readonly value: unknown };
}

/** Deeper ones count as not told apart. */
const mostDepth = 50;

/** Whether no two of the branches begin alike: their values are of different types, or objects whose first properties have different names, or
 *  are different constants.
 *  @param pointed what a pointer refers to */
export function beginApart(branches: readonly unknown[], pointed: (pointer: string) => unknown): boolean {
  const all = branches.map((branch) => beginningsOf(branch, pointed, 0));
  return all.every((some, i) =>
    some.every((one) =>
      all
        .slice(i + 1)
        .flat()
        .every((other) => differ(one, other)),
    ),
  );
}

function differ(one: Beginning, other: Beginning): boolean {
  if (one.type === 'any' || other.type === 'any') return false;
  if (one.type !== other.type) return true;
  if (one.first === undefined || other.first === undefined) return false;
  if (one.first.name !== other.first.name) return true;
  const [value, its] = [one.first.value, other.first.value];
  return value !== undefined && its !== undefined && JSON.stringify(value) !== JSON.stringify(its);
}

/** Each way once for each of its branches. */
function beginningsOf(given: unknown, pointed: (pointer: string) => unknown, depth: number): Beginning[] {
  if (!isFields(given) || depth > mostDepth) return [{ type: 'any' }];
  const { $ref: pointer, const: one, enum: some } = given;
  if (typeof pointer === 'string') return beginningsOf(pointed(pointer), pointed, depth + 1);
  // Constants have no texts with bounds: two of a branch may begin alike.
  if (one !== undefined) return [{ type: typeOf(one) }];
  if (Array.isArray(some)) return [...new Set(some.map(typeOf))].map((type) => ({ type }));
  for (const name of ['anyOf', 'oneOf', 'allOf']) {
    const branches = given[name];
    if (Array.isArray(branches)) {
      return branches.flatMap((branch) => beginningsOf(branch, pointed, depth + 1));
    }
  }
  const types = [given['type'] ?? 'any'].flat().map((type) => (type === 'integer' ? 'number' : String(type)));
  const first = firstOf(given);
  return [...new Set(types)].map((type) => ({ type, ...(type === 'object' && first && { first }) }));
}

function firstOf({ properties, required }: Fields): Beginning['first'] {
  const [first] = isFields(properties) ? Object.entries(properties) : [];
  if (first === undefined || !Array.isArray(required) || !required.includes(first[0])) return undefined;
  const [name, schema] = first;
  return { name, value: isFields(schema) ? schema['const'] : undefined };
}

const isFields = (value: unknown): value is Fields =>
  typeof value === 'object' && value !== null && !Array.isArray(value);

const typeOf = (value: unknown): string =>
  value === null ? 'null' : Array.isArray(value) ? 'array' : typeof value;
