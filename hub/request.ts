// Requests to the Hub: with a token for the Hub alone, ended when nothing comes, made again when that may help.
import { setTimeout as sleep } from 'node:timers/promises';
import { type Asked, brokeOff, noHub, Passing, refused, unreachable } from './failures.ts';
import type { HubSettings } from './settings.ts';

export interface Hub extends HubSettings {
  readonly signal: AbortSignal;
  /** Waits between attempts [ms]; after the last one the failure is told. @default 1 s, 2 s, ... 16 s */
  readonly waits?: readonly number[];
  /** A connection over which nothing came for so long [ms] is given up. @default 30 s */
  readonly stallMillis?: number;
  /** Before a wait. */
  readonly onWait?: (why: string, millis: number) => void;
}

const usualWaits = [1000, 2000, 4000, 8000, 16_000];

/** Makes attempts until one succeeds. One that got on, and says so, has all waits before it again.
 *  @param isPatient also waits for a network that is not there: what has begun to come is worth it */
export async function persistently<Result>(
  hub: Hub,
  attempt: (gotOn: () => void) => Promise<Result>,
  { isPatient }: { readonly isPatient: boolean },
): Promise<Result> {
  const waits = hub.waits ?? usualWaits;
  for (let failures = 0; ; failures++) {
    try {
      return await attempt(() => {
        failures = 0;
      });
    } catch (error) {
      hub.signal.throwIfAborted();
      const passing = error instanceof Passing ? error : null;
      if (passing === null) throw error;
      const mayPass = isPatient || passing.refusal.kind === 'failed' || brokeOff(passing.refusal.cause);
      if (failures >= waits.length || !mayPass) throw passing.refusal;
      const millis = passing.waitMillis ?? waits[failures]!;
      hub.onWait?.(passing.message, millis);
      await sleep(millis, undefined, { signal: hub.signal });
    }
  }
}

/** A good answer. Its body is to be read with `chunksOf`. @throws Passing, or OnelaunchError for a refusal */
export async function request(
  hub: Hub,
  path: string,
  asked: Asked,
  headers: Readonly<Record<string, string>> = {},
): Promise<{ readonly response: Response; readonly chunks: AsyncIterable<Uint8Array> }> {
  const stall = new AbortController();
  const timer = setTimeout(() => stall.abort(new Error('no answer')), hub.stallMillis ?? 30_000);
  try {
    // fetch takes Authorization off where the Hub sends on to another host. A compressed body could not be gone on with.
    const response = await fetch(hub.endpoint + path, {
      headers: {
        'accept-encoding': 'identity',
        ...(hub.token && { authorization: `Bearer ${hub.token}` }),
        ...headers,
      },
      signal: AbortSignal.any([hub.signal, stall.signal]),
    });
    if (!response.ok) {
      await response.body?.cancel();
      throw refused(hub, response, asked);
    }
    return { response, chunks: chunksOf(hub, response, timer) };
  } catch (error) {
    clearTimeout(timer);
    throw broken(hub, error);
  }
}

async function* chunksOf(hub: Hub, response: Response, timer: NodeJS.Timeout): AsyncGenerator<Uint8Array> {
  try {
    if (response.body === null) return;
    for await (const chunk of response.body) {
      timer.refresh();
      yield chunk;
    }
  } catch (error) {
    throw broken(hub, error);
  } finally {
    clearTimeout(timer);
  }
}

/** The text of a small answer. */
export function readText(hub: Hub, path: string, asked: Asked, mostBytes: number): Promise<string> {
  const read = async () => {
    const { chunks } = await request(hub, path, asked);
    const parts: Uint8Array[] = [];
    let bytes = 0;
    for await (const chunk of chunks) {
      bytes += chunk.length;
      if (bytes > mostBytes) throw noHub(hub, `${path} has more than ${mostBytes} bytes`);
      parts.push(chunk);
    }
    return Buffer.concat(parts).toString('utf8');
  };
  return persistently(hub, read, { isPatient: false });
}

/** An answer that did not come, or broke off, may come the next time. */
function broken(hub: Hub, error: unknown): unknown {
  if (hub.signal.aborted) return hub.signal.reason;
  const isOfNetwork = error instanceof TypeError || (error instanceof Error && error.message === 'no answer');
  return isOfNetwork ? new Passing(unreachable(hub, error)) : error;
}
