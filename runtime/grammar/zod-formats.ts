// What zod writes beside the format of a text: a pattern that says all of it.
import { z } from 'zod';

const schemas = [
  ...[z.email(), z.uuid(), z.uuidv4(), z.uuidv7(), z.ipv4(), z.ipv6(), z.cidrv4(), z.cidrv6()],
  ...[
    z.iso.date(),
    z.iso.time(),
    z.iso.datetime(),
    z.iso.datetime({ offset: true }),
    z.iso.datetime({ local: true }),
  ],
];

let known: ReadonlySet<string> | undefined;

const both = (format: unknown, pattern: unknown): string => JSON.stringify([format, pattern]);

/** Whether zod writes this pattern beside this format. */
export function saysFormat(pattern: unknown, format: unknown): boolean {
  if (known === undefined) {
    known = new Set(
      schemas.map((schema) => {
        const { pattern, format } = z.toJSONSchema(schema);
        return both(format, pattern);
      }),
    );
  }
  return known.has(both(format, pattern));
}
