// The body of a request: JSON, not too long, of the shape that its route takes.
import type { Context } from 'hono';
import { z } from 'zod';
import { isPlain, nestsDeeper } from '../files/json-text.ts';
import { placeText } from '../runtime/json-file.ts';
import { firstIssue, inWords } from '../runtime/limit-words.ts';
import { ApiError } from './api-error.ts';
import { clientLeft } from './queue.ts';

/** The body as the schema describes it. A key that is null counts as left out, as it does for OpenAI.
 *  @param mostBytes of the body
 *  @throws ApiError 400, 413 or 415 */
export async function readBody<Schema extends z.ZodType>(
  c: Context,
  schema: Schema,
  mostBytes: number,
): Promise<z.infer<Schema>> {
  const type = c.req.header('content-type') ?? '';
  // Without a type, or with that of a form, a page of another origin could send it without asking.
  if (!/^application\/json *(;|$)/i.test(type)) {
    throw new ApiError(415, "the body must be JSON, with the header 'content-type: application/json'");
  }
  const coding = c.req.header('content-encoding') ?? 'identity';
  if (!/^identity$/i.test(coding)) {
    throw new ApiError(415, `the body is in the content-encoding ${coding.slice(0, 60)}: send it as it is`);
  }
  // Node takes off the chunks, and no other coding of the transfer.
  const transfer = c.req.header('transfer-encoding') ?? 'chunked';
  if (!/^chunked$/i.test(transfer)) {
    throw new ApiError(
      415,
      `the body is in the transfer-encoding ${transfer.slice(0, 60)}: only chunked is read`,
    );
  }
  const json = parseJson(await readText(c, mostBytes));
  if (typeof json !== 'object' || json === null || Array.isArray(json)) {
    throw new ApiError(400, 'the body must be a JSON object');
  }
  checkSize(json);
  return checkShape(schema, withoutNulls(json));
}

/** An object without the keys that are null; what is no object as it is. */
const withoutNulls = (value: unknown): unknown =>
  typeof value === 'object' && value !== null && !Array.isArray(value)
    ? Object.fromEntries(Object.entries(value).filter(([, each]) => each !== null))
    : value;

/** An object in a body, of which keys that are null count as left out. */
export const inBody = <Schema extends z.ZodType>(schema: Schema): z.ZodPreprocess<Schema> =>
  z.preprocess(withoutNulls, schema);

/** Any object, as it is: a record of zod leaves a key `__proto__` out without a word. */
export const anyObject = z.custom<Readonly<Record<string, unknown>>>(isPlain, {
  error: ({ input }) => `expected an object${input === undefined ? ', received undefined' : ''}`,
});

async function readText(c: Context, mostBytes: number): Promise<string> {
  const bytes = await readBytes(c, mostBytes).catch((error: unknown) => {
    // Its connection broke off.
    throw error instanceof ApiError ? error : clientLeft();
  });
  try {
    return new TextDecoder('utf-8', { fatal: true }).decode(bytes);
  } catch {
    throw new ApiError(400, 'the body is not text in UTF-8');
  }
}

/** A body whose length is told has no more, which Node sees to: it need not be read as a stream, which takes half a millisecond. */
async function readBytes(c: Context, mostBytes: number): Promise<ArrayBuffer | Uint8Array> {
  const tooLong = () => new ApiError(413, `the body has more than ${mostBytes} bytes`);
  const length = c.req.header('content-length');
  if (Number(length ?? 0) > mostBytes) throw tooLong();
  if (length !== undefined) return await c.req.arrayBuffer();
  const chunks: Uint8Array[] = [];
  let bytes = 0;
  for await (const chunk of c.req.raw.body ?? []) {
    bytes += chunk.length;
    if (bytes > mostBytes) throw tooLong();
    chunks.push(chunk);
  }
  return Buffer.concat(chunks);
}

function parseJson(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch (error) {
    // The message quotes the text: only its place is told on.
    const at = /at position \d+/.exec(String(error))?.[0] ?? 'at its end';
    throw new ApiError(400, `the body is not JSON: an error ${at}`);
  }
}

/** Messages, or items, of a conversation. What a template makes of each takes 0.1 ms of the thread that reads all long texts. */
export const mostMessages = 5000;
/** No request needs more in one object, and looking at hundreds of thousands takes as long as many tokens. */
const mostKeys = 5000;
/** No request nests so deep, and an answer that repeats it could not be written: JSON.stringify has no stack for ten thousand. */
const mostLevels = 1000;

/** @throws ApiError 400 for an object with too many keys, and for what nests too deep */
function checkSize(json: object): void {
  if (nestsDeeper(json, mostLevels, checkKeys)) {
    throw new ApiError(400, `the body nests more than ${mostLevels} levels deep`);
  }
}

function checkKeys(one: object): void {
  const keys = Array.isArray(one) ? 0 : Object.keys(one).length;
  if (keys > mostKeys) {
    throw new ApiError(400, `an object in the body has ${keys} keys: there may be ${mostKeys}`);
  }
}

/** A value as the schema describes it. @throws ApiError 400, which names the parameter */
function checkShape<Schema extends z.ZodType>(schema: Schema, value: unknown): z.infer<Schema> {
  const parsed = schema.safeParse(value);
  if (parsed.success) return parsed.data;
  const issue = firstIssue(parsed.error);
  const { path } = issue;
  if (issue.code === 'unrecognized_keys') {
    const param = pathText([...path, issue.keys[0]!]);
    throw new ApiError(400, `unknown parameter: ${param}`, { param, code: 'unknown_parameter' });
  }
  const param = pathText(path);
  const [inner = issue] = issue.code === 'invalid_key' ? issue.issues : [];
  const why = inWords(inner.message)
    .replace(/^Invalid (input|option): /, '')
    .replace(/^[A-Z]/, (first) => first.toLowerCase());
  const said = why.endsWith(', received undefined')
    ? `${param} is missing: ${why.replace(/, received undefined$/, '')}`
    : `${param}: ${why}`;
  throw new ApiError(400, said, { param });
}

/** Such as messages[0].role. What a client named is shortened. */
export const pathText = (path: readonly PropertyKey[]): string =>
  placeText(path.map((part) => (typeof part === 'number' ? part : String(part).slice(0, 60))));
