// The metadata of a GGUF file by name, each value checked for its type.
import { type GgufFile, type GgufList, numbersOf, textsOf } from './header.ts';
import { broken, shown } from './refusals.ts';

/** The longest list that is read: twice the merges of the largest vocabulary there is. A number takes a byte of a file, and many of memory. */
const mostElements = 1 << 20;

/** What is not there is undefined. All throw an OnelaunchError of kind usage for a value of another type, a number that is not finite, or a list that is too long. */
export interface Metadata {
  text(key: string): string | undefined;
  number(key: string): number | undefined;
  flag(key: string): boolean | undefined;
  texts(key: string): readonly string[] | undefined;
  numbers(key: string): readonly number[] | undefined;
}

export function metadataOf({ path, metadata }: Pick<GgufFile, 'path' | 'metadata'>): Metadata {
  const refuse = (key: string, wanted: string): never => {
    const value = metadata.get(key);
    const is = typeof value === 'object' ? `a list of ${value.count}` : shown(value);
    throw broken(path, `has ${is} for ${key}, which must be ${wanted}`);
  };
  const plain =
    <T>(type: string, wanted: string) =>
    (key: string): T | undefined => {
      const value = metadata.get(key);
      return value === undefined || typeof value === type ? (value as T) : refuse(key, wanted);
    };
  const list =
    <T>(wanted: string, read: (value: GgufList, key: string) => readonly T[] | undefined) =>
    (key: string): readonly T[] | undefined => {
      const value = metadata.get(key);
      if (value === undefined) return undefined;
      if (typeof value === 'object' && value.count > mostElements)
        throw broken(path, `has a list of ${value.count} for ${key}, and at most ${mostElements} are read`);
      return (typeof value === 'object' ? read(value, key) : undefined) ?? refuse(key, wanted);
    };
  /** Nothing is computed with NaN or an infinity, and nothing compares with NaN. */
  const refuseInfinite = (key: string, numbers: readonly number[]) => {
    const wrong = numbers.find((one) => !Number.isFinite(one));
    if (wrong !== undefined) throw broken(path, `has ${wrong} for ${key}, which must be finite`);
  };
  const number = plain<number>('number', 'a number');
  const numbers = list('a list of numbers', numbersOf);
  return {
    text: plain<string>('string', 'a text'),
    number(key) {
      const value = number(key);
      if (value !== undefined) refuseInfinite(key, [value]);
      return value;
    },
    flag: plain<boolean>('boolean', 'true or false'),
    texts: list('a list of texts', (value, key) => textsOf(value, path, key)),
    numbers(key) {
      const values = numbers(key);
      refuseInfinite(key, values ?? []);
      return values;
    },
  };
}
