// The objects that options are: zod reads a Map, a Date and other instances of classes as objects without keys.
import { z } from 'zod';
import { isPlain } from './files/json-text.ts';

const noInstance = z.custom<object>(
  (value) => typeof value !== 'object' || value === null || Array.isArray(value) || isPlain(value),
  'expected a plain object, and no instance of a class',
);

/** A strict object of zod that takes plain objects alone. */
export const plainObject = <Shape extends z.ZodRawShape>(shape: Shape) =>
  noInstance.pipe(z.strictObject(shape));

/** The keys of such an object; null: it is another schema. */
export function keysOf(schema: z.ZodType): readonly string[] | null {
  const object = schema instanceof z.ZodPipe ? schema.out : null;
  return object instanceof z.ZodObject ? Object.keys(object.shape) : null;
}
