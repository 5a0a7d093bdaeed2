// A line for each request, when its answer has been made: numbers and names, nothing of what was said.
import type { MiddlewareHandler } from 'hono';
import type { Entry, Env } from './requests.ts';
import type { Service } from './service.ts';

/** Asked every few seconds, and no requests of users. */
const unlogged: readonly string[] = ['/health', '/metrics'];

export const logRequests =
  (service: Service, log: (line: object) => void): MiddlewareHandler<Env> =>
  async (c, next) => {
    await next();
    const entry = c.get('entry');
    const { method, path } = c.req;
    const write = () => {
      const status = entry.status ?? c.res.status;
      if (status >= 400) service.metrics.failed(status);
      if (!unlogged.includes(path)) log(lineOf(service.name, entry, method, path, status));
    };
    if (entry.end === undefined) write();
    else void entry.end.then(write);
  };

/** A line for what is answered before any route: it has no path or id that could be read. */
export const logNonsense =
  ({ name, metrics }: Service, log: (line: object) => void) =>
  (status: number): void => {
    metrics.failed(status);
    log({ time: new Date().toISOString(), status, model: name });
  };

function lineOf(model: string, entry: Entry, method: string, path: string, status: number) {
  const { id, arrived, code, reply, embedded } = entry;
  return {
    time: new Date().toISOString(),
    ...{ id, method, path: path.slice(0, 100), status, model },
    ...(code && { code }),
    ...(reply && {
      ...{ prompt: reply.prompt, cached: reply.cached, completion: reply.completion, finish: reply.finish },
      queuedMs: round(reply.queuedMs),
      firstTokenMs: reply.firstTokenMs === null ? null : round(reply.firstTokenMs),
    }),
    ...(embedded && { prompt: embedded.prompt, queuedMs: round(embedded.queuedMs) }),
    totalMs: round(performance.now() - arrived),
  };
}

const round = (millis: number): number => Math.round(millis * 10) / 10;
