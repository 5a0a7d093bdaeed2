// Who may ask: those with the key, and pages of no other origin.
import { createHash, timingSafeEqual } from 'node:crypto';
import type { MiddlewareHandler } from 'hono';
import { ApiError } from './api-error.ts';

/** Asks for `Authorization: Bearer KEY`. */
export function needKey(key: string): MiddlewareHandler {
  const digest = (text: string) => createHash('sha256').update(text).digest();
  const wanted = digest(key);
  return async (c, next) => {
    const given = /^Bearer +(.+)$/i.exec(c.req.header('authorization') ?? '')?.[1];
    // Digests are compared, so that the time says nothing of the key.
    if (given === undefined || !timingSafeEqual(digest(given), wanted)) {
      const what = given === undefined ? 'no API key given' : 'wrong API key';
      throw new ApiError(401, `${what}: send 'Authorization: Bearer KEY'`, { code: 'invalid_api_key' });
    }
    await next();
  };
}

/** A host that no page of the web can have as its own: an address, or this machine's name for itself. */
const isNoSite = (host: string): boolean => /^(localhost|[\d.]+|\[[\da-f:.]+\])(:\d+)?$/i.test(host);

/** Refuses hosts that have a name. A page of the web can have its own name resolved to this machine, and would then be
 *  of the same origin. */
export const refuseSites: MiddlewareHandler = async (c, next) => {
  const host = c.req.header('host') ?? '';
  if (!isNoSite(host)) {
    throw new ApiError(
      403,
      'without an API key, requests to this machine name localhost or an address as their host',
      {
        code: 'forbidden_host',
      },
    );
  }
  await next();
};
