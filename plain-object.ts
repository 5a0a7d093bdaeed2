// The objects that options are: zod reads a Map, a Date and other instances of classes as objects without keys.
import { z } from 'zod';
import { isPlain } from './json-text.ts';

/** A strict object of zod that takes plain objects alone. What is derived from it, as by extend(), takes others again: derive the shape. */
export function plainObject<Shape extends z.ZodRawShape>(
  shape: Shape,
): ReturnType<typeof z.strictObject<Shape>> {
  const object = z.strictObject(shape);
  const { run } = object._zod;
  object._zod.run = (payload, context) => {
    const { value } = payload;
    if (typeof value !== 'object' || value === null || Array.isArray(value) || isPlain(value))
      return run(payload, context);
    const message = 'expected a plain object, and no instance of a class';
    payload.issues.push({ code: 'custom', message, input: value, inst: object, path: [], continue: false });
    return payload;
  };
  return object;
}
