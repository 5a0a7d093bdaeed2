// What is told of journals apart from their records, whose reader takes long to load.

/** Goes up when an older reader would misread a journal. */
export const journalFormat = 1;

interface Modelled {
  readonly model: string;
  readonly formats?: Readonly<Record<string, string | undefined>> | undefined;
}

/** The model, and the formats that it was made into: `qwen3-tiny (weights int8)`. */
export function modelText({ model, formats = {} }: Modelled): string {
  const asked = Object.entries(formats).flatMap(([what, format]) => (format ? [`${what} ${format}`] : []));
  return asked.length === 0 ? model : `${model} (${asked.join(', ')})`;
}
