// What zod says of a number, a text or a list that is beyond a limit, in words.
import type { z } from 'zod';

/** The issue to tell. Of a whole number beyond what JavaScript counts to zod tells that first, and then its own limit. */
export function firstIssue({ issues }: z.core.$ZodError): z.core.$ZodIssue {
  const [first, second] = issues;
  const isOfSize = first?.code === 'too_big' || first?.code === 'too_small';
  return isOfSize && first.origin === 'int' && second?.path.join() === first.path.join() ? second : first!;
}

const compared: Readonly<Record<string, string>> = {
  '<': 'less than',
  '<=': 'at most',
  '>': 'more than',
  '>=': 'at least',
  exactly: 'exactly',
};

/** The message of an issue of zod: a limit as `expected at most 2048 items`, a class without a name in words, another one as it is. */
export const inWords = (message: string): string =>
  message
    .replace(/, received $/, ', received an instance of a class')
    .replace(
      /^Too (?:big|small): expected \w+ to (?:be|have) (<=?|>=?|exactly )(\S+)( [a-z]+)?$/,
      (_, sign: string, limit: string, unit = '') =>
        `expected ${compared[sign.trim()]} ${limit}${limit === '1' ? unit.replace(/s$/, '') : unit}`,
    );
