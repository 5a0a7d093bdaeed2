// Clients that send one request after the other, and what they saw.
import type { Serving } from './serving.ts';
import type { Asked, Streamed } from './stream.ts';

export type Send = (asked: Asked) => Promise<Streamed>;

/** What clients saw for some seconds. */
export interface Visit {
  readonly clients: number;
  readonly replies: number;
  /** Broken off, refused, or without an end. */
  readonly lost: number;
  /** Of another text than the request gets alone. */
  readonly others: number;
  readonly tokensPerSecond: number;
  /** Of the server, for each second. */
  readonly processors: number;
  /** [ms] */
  readonly firstText: Percentiles;
  readonly between: Percentiles;
}

export interface Percentiles {
  readonly p50: number;
  readonly p99: number;
}

function percentiles(values: readonly number[]): Percentiles {
  const sorted = [...values].sort((a, b) => a - b);
  const at = (share: number) =>
    sorted[Math.min(sorted.length - 1, Math.floor(share * sorted.length))] ?? Number.NaN;
  return { p50: at(0.5), p99: at(0.99) };
}

/** So many clients send until there is nothing more: the replies that came whole, and how many were lost. @param next null: no more */
export async function replies(
  clients: number,
  next: () => Asked | null,
  send: Send,
): Promise<{ whole: { asked: Asked; reply: Streamed }[]; lost: number }> {
  const whole: { asked: Asked; reply: Streamed }[] = [];
  let lost = 0;
  const client = async () => {
    for (let asked = next(); asked !== null; asked = next()) {
      const reply = await send(asked).catch(() => null);
      if (reply === null || reply.finish === null) lost++;
      else whole.push({ asked, reply });
    }
  };
  await Promise.all(Array.from({ length: clients }, client));
  return { whole, lost };
}

/** So many clients send these requests, over and over, for so long.
 *  @param alone the text that each request gets when there is no other */
export async function visit(
  server: Pick<Serving, 'processorSeconds'>,
  send: Send,
  alone: ReadonlyMap<Asked, string>,
  {
    clients,
    millis,
    signal,
  }: { readonly clients: number; readonly millis: number; readonly signal: AbortSignal },
): Promise<Visit> {
  signal.throwIfAborted();
  const requests = [...alone.keys()];
  let made = 0;
  const begun = performance.now();
  const computed = server.processorSeconds();
  const isOver = () => performance.now() - begun > millis || signal.aborted;
  const next = () => (isOver() ? null : requests[made++ % requests.length]!);
  const { whole, lost } = await replies(clients, next, send);
  const seconds = (performance.now() - begun) / 1000;
  return {
    clients,
    replies: whole.length + lost,
    lost,
    others: whole.filter(({ asked, reply }) => reply.text !== alone.get(asked)).length,
    tokensPerSecond: whole.reduce((sum, { reply }) => sum + reply.tokens, 0) / seconds,
    processors: (server.processorSeconds() - computed) / seconds,
    firstText: percentiles(
      whole.flatMap(({ reply }) => reply.times.slice(0, 1).map((time) => time - reply.begun)),
    ),
    between: percentiles(
      whole.flatMap(({ reply }) => reply.times.slice(1).map((time, i) => time - reply.times[i]!)),
    ),
  };
}

/** Memory of the server after each tenth of so many requests [bytes]; how many of them were lost. */
export async function watchMemory(
  server: Pick<Serving, 'memory'>,
  send: Send,
  asked: readonly Asked[],
  {
    clients,
    requests,
    signal,
  }: { readonly clients: number; readonly requests: number; readonly signal: AbortSignal },
): Promise<{ memory: { requests: number; bytes: number }[]; failed: number }> {
  const memory: { requests: number; bytes: number }[] = [];
  const step = Math.max(1, Math.floor(requests / 10));
  let begun = 0;
  let failed = 0;
  while (begun < requests) {
    signal.throwIfAborted();
    const goal = Math.min(requests, begun + step);
    const next = () => (begun < goal ? asked[begun++ % asked.length]! : null);
    failed += (await replies(clients, next, send)).lost;
    memory.push({ requests: begun, bytes: server.memory() });
  }
  signal.throwIfAborted();
  return { memory, failed };
}

/** What is to be said of the replies of a run, and what is wrong with them; null: nothing.
 *  @param run replies that failed outside of a visit; on a GPU the order of sums depends on how many replies run, and a near tie with it */
export function judge(
  visits: readonly Pick<Visit, 'lost' | 'others'>[],
  { failed, onGpu }: { readonly failed: number; readonly onGpu: boolean },
): { readonly note: string | null; readonly wrong: string | null } {
  const lost = visits.reduce((sum, one) => sum + one.lost, failed);
  const others = visits.reduce((sum, one) => sum + one.others, 0);
  const differ = `${others} replies are not those of their requests alone`;
  const wrong = [
    ...(lost > 0 ? [`${lost} replies were lost`] : []),
    ...(others > 0 && !onGpu ? [differ] : []),
  ];
  return {
    note: others > 0 && onGpu ? `${differ}: sums of a GPU depend on how many run` : null,
    wrong: wrong.length > 0 ? wrong.join(', and ') : null,
  };
}
