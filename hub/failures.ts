// What can go wrong between this machine and the Hub, in words of the user: one line, a hint, an exit code.
import { OnelaunchError } from '../errors.ts';
import { isOfFiles, writeError } from '../files/write-failure.ts';
import type { HubSettings } from './settings.ts';

/** A failure that may pass by itself: worth another attempt, and what to say when no more are made. */
export class Passing extends Error {
  readonly refusal: OnelaunchError;
  /** The Hub's own wish [ms]; null: none. */
  readonly waitMillis: number | null;

  constructor(refusal: OnelaunchError, waitMillis: number | null = null) {
    super(refusal.message);
    this.refusal = refusal;
    this.waitMillis = waitMillis;
  }
}

/** What is asked for. */
export interface Asked {
  readonly id: string;
  readonly revision: string;
  /** `did you mean 'x'? `, or nothing. */
  readonly didYouMean: string;
}

const keeps = 'What came is kept: the same command goes on from there.';

/** No answer, or one that broke off. */
export function unreachable({ endpoint }: HubSettings, error: unknown): OnelaunchError {
  const cause = error instanceof Error && error.cause instanceof Error ? error.cause : error;
  const { code, message } = cause as NodeJS.ErrnoException;
  const reason = reasons[code ?? ''] ?? (message || code || String(cause));
  const proxy = ['HTTPS_PROXY', 'https_proxy', 'ALL_PROXY', 'all_proxy'].find((name) => process.env[name]);
  const hint = proxy
    ? `Node.js does not go through ${proxy} by itself: NODE_USE_ENV_PROXY=1 makes Node.js 24 do so.`
    : 'Check the network, or name a mirror in HF_ENDPOINT.';
  const text = `${new URL(endpoint).host} cannot be reached: ${reason}`;
  return new OnelaunchError('environment', text, { hint: `${hint} ${keeps}`, cause: error });
}

/** What answers in the place of the Hub. */
export const noHub = ({ endpoint }: HubSettings, why: string): OnelaunchError =>
  new OnelaunchError('failed', `${endpoint} does not answer as a Hub: ${why}`, {
    hint: 'HF_ENDPOINT names the Hub, or a mirror of it.',
  });

const reasons: Readonly<Record<string, string>> = {
  ENOTFOUND: 'no network, or no such name',
  EAI_AGAIN: 'no network, or no such name',
  ECONNREFUSED: 'connection refused',
  ECONNRESET: 'the connection broke off',
  UND_ERR_SOCKET: 'the connection broke off',
  UND_ERR_CONNECT_TIMEOUT: 'no answer',
  ETIMEDOUT: 'no answer',
};

/** Whether a connection that was there broke off: that may pass in seconds. No network, a wrong name or a certificate do not. */
export function brokeOff(error: unknown): boolean {
  const cause = error instanceof Error ? (error.cause as NodeJS.ErrnoException | undefined) : undefined;
  return /^(ECONNRESET|EPIPE|UND_ERR_SOCKET)$/.test(cause?.code ?? '');
}

/** What the Hub's refusal means. Its X-Error-Code is more exact than the status: a model that is not there is 401 without a token. */
export function refused(hub: HubSettings, response: Response, asked: Asked): OnelaunchError | Passing {
  const { id, revision } = asked;
  const { host } = new URL(hub.endpoint);
  const code = response.headers.get('x-error-code');
  const said = response.headers.get('x-error-message') ?? '';
  const page = `${hub.endpoint}/${id}`;
  if (code === 'GatedRepo') {
    const hint = hub.token
      ? `The account of the token has no access yet: ask for it at ${page}`
      : `Accept its terms at ${page}, then set HF_TOKEN to a token of ${hub.endpoint}/settings/tokens`;
    return new OnelaunchError('environment', `access to ${id} is restricted`, { hint });
  }
  if (code === 'RevisionNotFound') {
    const hint = `Its branches and tags: ${page}/tree/main`;
    return new OnelaunchError('usage', `${id} has no revision '${revision}'`, { hint });
  }
  if (/invalid (credentials|.*token)/i.test(said)) {
    const hint = 'Set HF_TOKEN to a valid one, or unset it: most models need none.';
    return new OnelaunchError('environment', `${host} does not know the token in HF_TOKEN`, { hint });
  }
  if (
    code === 'RepoNotFound' ||
    response.status === 401 ||
    (response.status === 404 && code !== 'EntryNotFound')
  ) {
    const text = `there is no model ${id} on ${host}, or it is private`;
    const login = hub.token ? 'A private one needs a token of its owner.' : 'A private one needs HF_TOKEN.';
    return new OnelaunchError('usage', text, { hint: `${asked.didYouMean}${login}` });
  }
  if (response.status === 403) {
    const hint = 'The token may lack the right to read: see its settings.';
    return new OnelaunchError('environment', `${host} refuses ${id}: ${said || 'forbidden'}`, { hint });
  }
  const text = `${host} answers ${response.status}${said ? `: ${said}` : ''}`;
  const error = new OnelaunchError('failed', text, { hint: `Try again later. ${keeps}` });
  if (response.status !== 429 && response.status < 500) return error;
  const seconds = Number(response.headers.get('retry-after'));
  return new Passing(error, seconds > 0 && seconds <= 300 ? seconds * 1000 : null);
}

/** What a failed write means; any other error as it is. @param folder where it was written */
export function notWritten(error: unknown, folder: string): unknown {
  const elsewhere = 'choose another folder: HF_HUB_CACHE, or --dir';
  // Networks have errors of system calls, too.
  if (!isOfFiles(error)) return error;
  return writeError(folder, error, {
    full: `Free some space, or ${elsewhere}. ${keeps}`,
    other: `Make it writable, or ${elsewhere}.`,
  });
}
