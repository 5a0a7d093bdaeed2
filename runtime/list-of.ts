// Lists of strangers: of hundreds of thousands of wrong elements zod makes as many issues, which takes seconds, and one is told.
import { z } from 'zod';

/** Elements that are looked at together. */
const together = 500;

/** A list of what a schema describes. The first wrong element is told, and those next to it. What it accepts is handed on as it came: the schema
 *  changes nothing. */
export function listOf<Schema extends z.ZodType>(
  schema: Schema,
  ...expected: readonly [] | readonly [string]
): z.ZodArray<Schema> {
  const some = z.array(schema);
  const list = z.array(z.unknown(), ...expected).check(({ value, issues }) => {
    for (let from = 0; from < value.length; from += together) {
      const found = some._zod.run(
        { value: value.slice(from, from + together), issues: [] },
        { async: false },
      );
      const wrong = (found as z.core.ParsePayload).issues;
      if (wrong.length === 0) continue;
      for (const issue of wrong) {
        const [at, ...rest] = issue.path!;
        issues.push({ ...issue, path: [from + Number(at), ...rest] });
      }
      return;
    }
  });
  return list as unknown as z.ZodArray<Schema>;
}
