// Whether a value is one that a schema accepts: constants and enumerations are held to the keywords that stand beside them.
import { isDeepStrictEqual } from 'node:util';
import { TimeLimit, withinTime } from '../time-limit.ts';
import {
  asSchema,
  type Fields,
  isFields,
  isOfType,
  list,
  NothingLeft,
  numberAt,
  pointed,
  propertiesOf,
  range,
  refuse,
  requiredOf,
  typesOf,
  unknownKeyword,
} from './keywords.ts';

/** Schemas that values are held to, of a whole schema: references may fork. */
const mostHeld = 200_000;

/** Patterns that values are held to may take so long in all [ms]: those of strangers may never end. */
const mostMatching = 1000;

export function regexOf(pattern: unknown, at: string): RegExp {
  if (typeof pattern !== 'string') throw refuse(at, 'it is no text');
  for (const flags of ['u', '']) {
    try {
      return new RegExp(pattern, flags);
    } catch {
      // Escapes of other languages are none of this one with Unicode.
    }
  }
  throw refuse(at, 'it is no regular expression');
}

/** Holds values to parts of a schema. What it is asked throws an OnelaunchError of kind usage, with the place of a keyword that cannot be followed. */
export function acceptedBy(schema: unknown) {
  let held = 0;

  const accepts = (given: unknown, value: unknown, at: string): boolean => {
    const one = asSchema(given, at);
    if (typeof one === 'boolean') return one;
    if (++held > mostHeld)
      throw refuse(at, `its constants would have to be compared with more than ${mostHeld} schemas`);
    const unknown = unknownKeyword(one);
    if (unknown !== undefined) throw refuse(at, `the keyword ${unknown} is not supported`);
    return (Object.keys(tests) as (keyof typeof tests)[]).every(
      (keyword) => one[keyword] === undefined || tests[keyword](value, one, at),
    );
  };
  const among = (value: unknown, one: Fields, at: string, keyword: string): boolean[] =>
    list(one[keyword], `${at}.${keyword}`).map((each, i) => accepts(each, value, `${at}.${keyword}[${i}]`));

  let millis = mostMatching;
  const matches = (pattern: unknown, value: string, at: string): boolean => {
    const tooLong = () => refuse(at, 'it takes too long to compare names or constants with it');
    const regex = regexOf(pattern, at);
    if (millis <= 0) throw tooLong();
    const begun = performance.now();
    try {
      return withinTime(millis, () => regex.test(value));
    } catch (error) {
      throw error instanceof TimeLimit ? tooLong() : error;
    } finally {
      millis -= performance.now() - begun;
    }
  };

  const ofNumbers =
    (keyword: string, fits: (value: number, bound: number) => boolean) =>
    (value: unknown, one: Fields, at: string): boolean => {
      const bound = numberAt(one, keyword, at)!;
      return typeof value !== 'number' || fits(value, bound);
    };
  const lengthOf = {
    Length: (value: unknown) => (typeof value === 'string' ? [...value].length : null),
    Items: (value: unknown) => (Array.isArray(value) ? value.length : null),
  };
  const ofLengths =
    (kind: keyof typeof lengthOf) =>
    (value: unknown, one: Fields, at: string): boolean => {
      const [least, most] = range(one, at, `min${kind}`, `max${kind}`);
      const length = lengthOf[kind](value);
      return length === null || (length >= least && (most === null || length <= most));
    };

  /** By keyword, whether it accepts a value. */
  const tests = {
    type: (value: unknown, one: Fields, at: string) =>
      typesOf(one, at)!.some((type) => isOfType(value, type)),
    const: (value: unknown, one: Fields) => isDeepStrictEqual(value, one['const']),
    enum: (value: unknown, one: Fields, at: string) =>
      list(one['enum'], `${at}.enum`).some((each) => isDeepStrictEqual(value, each)),
    $ref: (value: unknown, one: Fields, at: string) => {
      const pointer = String(one['$ref']);
      return accepts(pointed(schema, pointer, at), value, pointer);
    },
    anyOf: (value: unknown, one: Fields, at: string) => among(value, one, at, 'anyOf').includes(true),
    allOf: (value: unknown, one: Fields, at: string) => !among(value, one, at, 'allOf').includes(false),
    oneOf: (value: unknown, one: Fields, at: string) =>
      among(value, one, at, 'oneOf').filter((fits) => fits).length === 1,
    minimum: ofNumbers('minimum', (value, bound) => value >= bound),
    maximum: ofNumbers('maximum', (value, bound) => value <= bound),
    exclusiveMinimum: ofNumbers('exclusiveMinimum', (value, bound) => value > bound),
    exclusiveMaximum: ofNumbers('exclusiveMaximum', (value, bound) => value < bound),
    minLength: ofLengths('Length'),
    maxLength: ofLengths('Length'),
    // Of values that are all named it says no more.
    format: () => true,
    pattern: (value: unknown, one: Fields, at: string) =>
      typeof value !== 'string' || matches(one['pattern'], value, `${at}.pattern`),
    propertyNames: (value: unknown, one: Fields, at: string) =>
      !isFields(value) ||
      Object.keys(value).every((name) => accepts(one['propertyNames'], name, `${at}.propertyNames`)),
    minItems: ofLengths('Items'),
    maxItems: ofLengths('Items'),
    prefixItems: (value: unknown, one: Fields, at: string) =>
      list(one['prefixItems'], `${at}.prefixItems`).every(
        (each, i) =>
          !Array.isArray(value) || i >= value.length || accepts(each, value[i], `${at}.prefixItems[${i}]`),
      ),
    items: (value: unknown, one: Fields, at: string) =>
      !Array.isArray(value) ||
      value
        .slice([one['prefixItems'] ?? []].flat().length)
        .every((each) => accepts(one['items'], each, `${at}.items`)),
    required: (value: unknown, one: Fields, at: string) =>
      [...requiredOf(one, at)].every((name) => !isFields(value) || Object.hasOwn(value, name)),
    properties: (value: unknown, one: Fields, at: string) =>
      !isFields(value) ||
      Object.entries(propertiesOf(one, at)).every(
        ([name, each]) =>
          !Object.hasOwn(value, name) || accepts(each, value[name], `${at}.properties.${name}`),
      ),
    additionalProperties: (value: unknown, one: Fields, at: string) => {
      const named = propertiesOf(one, at);
      return (
        !isFields(value) ||
        Object.entries(value).every(
          ([name, each]) =>
            Object.hasOwn(named, name) ||
            accepts(one['additionalProperties'], each, `${at}.additionalProperties`),
        )
      );
    },
  };

  return {
    accepts,
    /** Of these values those that all keywords of a schema accept. Where there is none, it is refused with the keywords that refuse.
     *  @param from the keyword that has them
     *  @param isWithin one has types of what stands around it, too */
    fitting: (
      values: readonly unknown[],
      one: Fields,
      at: string,
      from: 'const' | 'enum',
      isWithin: boolean,
    ): unknown[] => {
      const refusing = new Set<string>();
      const fits = values.filter((value) =>
        Object.keys(one).every((keyword) => {
          if (keyword === from || one[keyword] === undefined || !Object.hasOwn(tests, keyword)) return true;
          const isRight = tests[keyword as keyof typeof tests](value, one, at);
          if (!isRight) refusing.add(keyword);
          return isRight;
        }),
      );
      if (fits.length > 0) return fits;
      if (refusing.size === 0) throw refuse(`${at}.${from}`, 'it is empty');
      const why = `it has no value that ${[...refusing].join(' and ')} beside it allows`;
      throw isWithin ? new NothingLeft(`${at}.${from}`, why) : refuse(`${at}.${from}`, why);
    },
  };
}
