// One request of the API: its id, the facts that the log gets, and who hears that its client left.
import { randomBytes } from 'node:crypto';
import type { Context } from 'hono';
import type { ReplyFacts } from './service.ts';

/** A line of the log as it is written down. Nothing of it is text of a prompt or a reply. */
export interface Entry {
  readonly id: string;
  readonly arrived: number;
  reply?: ReplyFacts;
  /** Of embeddings: tokens of all texts. */
  embedded?: Pick<ReplyFacts, 'prompt' | 'queuedMs'>;
  /** Of a stream that failed after its beginning, whose status was told already. */
  status?: number;
  code?: string | null;
  /** Resolves when the answer has been made, where that is later than its headers. */
  end?: Promise<void>;
}

/** What handlers find in their context. */
export interface Env {
  /** Node's own request, where one came through a socket. */
  Bindings: { incoming?: { readonly httpVersion: string } };
  Variables: { entry: Entry };
}
export type ApiContext = Context<Env>;

/** The client's own id, if it is a plain one, else a new one. */
export const requestId = (given: string | undefined): string =>
  given !== undefined && /^[\w.-]{1,64}$/.test(given) ? given : randomBytes(12).toString('hex');
