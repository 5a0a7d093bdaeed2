// A value that somebody gave, as an error says it: a program without types gives anything.

import { isPlain } from '../../files/json-text.ts';

/** @returns text of 60 characters at most, words in single quotes */
export function shown(value: unknown): string {
  return (written(value) ?? typeof value).replaceAll('"', "'").slice(0, 60);
}

/** As JSON has it, but for what JSON has not, or has as `null` or `{}`; undefined for what cannot be written down. */
function written(value: unknown): string | undefined {
  if (value === undefined || typeof value === 'bigint' || typeof value === 'number') return plain(value);
  try {
    if (isInstance(value)) return `new ${value.constructor.name}()`;
    return JSON.stringify(value, (_, inner: unknown) =>
      typeof inner === 'bigint' || (typeof inner === 'number' && !Number.isFinite(inner))
        ? plain(inner)
        : inner,
    );
  } catch {
    return undefined;
  }
}

const isInstance = (value: unknown): value is object =>
  typeof value === 'object' && value !== null && !Array.isArray(value) && !isPlain(value);

const plain = (value: unknown): string => (typeof value === 'bigint' ? `${value}n` : String(value));
