// The metadata of a GGUF file by name, each value checked for its type.
import { type GgufFile, numbersOf, textsOf } from './header.ts';
import { broken, shown } from './refusals.ts';

/** The longest list that is read: twice the merges of the largest vocabulary there is. A number takes a byte of a file, and many of memory. */
const mostElements = 1 << 20;

/** What is not there is undefined. All throw an OnelaunchError of kind usage for a value of another type, or a list that is too long. */
export interface Metadata {
  text(key: string): string | undefined;
  number(key: string): number | undefined;
  flag(key: string): boolean | undefined;
  texts(key: string): string[] | undefined;
  numbers(key: string): number[] | undefined;
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
    <T>(wanted: string, read: (value: Parameters<typeof numbersOf>[0], key: string) => T[] | undefined) =>
    (key: string): T[] | undefined => {
      const value = metadata.get(key);
      if (value === undefined) return undefined;
      if (typeof value === 'object' && value.count > mostElements)
        throw broken(path, `has a list of ${value.count} for ${key}, and at most ${mostElements} are read`);
      return (typeof value === 'object' ? read(value, key) : undefined) ?? refuse(key, wanted);
    };
  return {
    text: plain<string>('string', 'a text'),
    number: plain<number>('number', 'a number'),
    flag: plain<boolean>('boolean', 'true or false'),
    texts: list('a list of texts', (value, key) => textsOf(value, path, key)),
    numbers: list('a list of numbers', numbersOf),
  };
}
