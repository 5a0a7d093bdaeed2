// A Hugging Face Hub on this machine, with a second host that it sends on to for large files, and faults on demand.
import { createHash } from 'node:crypto';
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';

/** What goes wrong once, at the next request for the file. */
export type Fault =
  | { readonly kind: 'cut'; readonly after: number }
  | { readonly kind: 'stall'; readonly after: number }
  | { readonly kind: 'status'; readonly status: number; readonly headers?: Readonly<Record<string, string>> }
  /** The whole file, whatever range was asked for. */
  | { readonly kind: 'no ranges' }
  | { readonly kind: 'other bytes' }
  /** What a network with a login page answers. */
  | { readonly kind: 'page'; readonly text: string };

export interface Seen {
  readonly host: 'hub' | 'store';
  readonly path: string;
  readonly range: string | undefined;
  readonly authorization: string | undefined;
}

export interface FakeHub {
  readonly url: string;
  /** All requests, in order. */
  readonly seen: Seen[];
  /** By file name, or 'info' for the list of files; each is used once. */
  readonly faults: Map<string, Fault[]>;
  /** Bytes of file contents that were sent. */
  sentBytes: number;
  close(): Promise<void>;
}

export interface FakeRepo {
  readonly commit: string;
  readonly files: Readonly<Record<string, string | Buffer>>;
  /** Its name on the Hub, where it is asked for by another one. */
  readonly id?: string;
}

export const hashes = (content: Buffer) => ({
  sha256: createHash('sha256').update(content).digest('hex'),
  git: createHash('sha1').update(`blob ${content.length}\0`).update(content).digest('hex'),
});

/** @param repos by ORG/NAME as it is asked for; files that end with .safetensors are in LFS */
export async function fakeHub(repos: Readonly<Record<string, FakeRepo>>): Promise<FakeHub> {
  const seen: Seen[] = [];
  const faults = new Map<string, Fault[]>();
  const hub: FakeHub = { url: '', seen, faults, sentBytes: 0, close: async () => {} };
  const note = (host: Seen['host'], { url, headers }: IncomingMessage) =>
    seen.push({ host, path: url ?? '', range: headers.range, authorization: headers.authorization });

  const send = (request: IncomingMessage, response: ServerResponse, name: string, content: Buffer) => {
    const fault = faults.get(name)?.shift();
    if (fault?.kind === 'status') return end(response, fault.status, fault.headers);
    if (fault?.kind === 'page') return response.end(fault.text);
    const from =
      fault?.kind === 'no ranges' ? 0 : Number(/bytes=(\d+)-/.exec(request.headers.range ?? '')?.[1] ?? 0);
    const rest = content.subarray(from);
    response.statusCode = from > 0 ? 206 : 200;
    response.setHeader('content-length', rest.length);
    const most = fault?.kind === 'cut' || fault?.kind === 'stall' ? fault.after : rest.length;
    const sent = fault?.kind === 'other bytes' ? Buffer.alloc(rest.length, 7) : rest.subarray(0, most);
    hub.sentBytes += sent.length;
    response.write(sent, () => {
      if (fault?.kind === 'cut') response.destroy();
      else if (fault?.kind !== 'stall') response.end();
    });
  };

  const store = await listen((request, response) => {
    note('store', request);
    const [, id, name] = (request.url ?? '').split('/').map(decodeURIComponent);
    send(request, response, name!, Buffer.from(repos[id!]!.files[name!]!));
  });
  const front = await listen((request, response) => {
    note('hub', request);
    const path = decodeURIComponent((request.url ?? '').replace(/\?.*/, ''));
    const info = /^\/api\/models\/(.+)\/revision\/(.+)$/.exec(path);
    const file = /^\/(.+?)\/resolve\/(\w+)\/(.+)$/.exec(path);
    const asked = Object.entries(repos).find(([id, one]) => (one.id ?? id) === file?.[1] || id === info?.[1]);
    if (asked === undefined) return end(response, 401, { 'x-error-code': 'RepoNotFound' });
    const [id, repo] = asked;
    if (info) {
      const fault = faults.get('info')?.shift();
      if (fault?.kind === 'status') return end(response, fault.status, fault.headers);
      if (fault?.kind === 'page') return response.end(fault.text);
      if (info[2] !== 'main' && info[2] !== repo.commit) {
        return end(response, 404, { 'x-error-code': 'RevisionNotFound' });
      }
      return response.end(JSON.stringify(infoOf(repo.id ?? id, repo)));
    }
    const name = file![3]!;
    const content = repo.files[name];
    if (content === undefined) return end(response, 404, { 'x-error-code': 'EntryNotFound' });
    if (!name.endsWith('.safetensors')) return send(request, response, name, Buffer.from(content));
    return end(response, 302, {
      location: `${urlOf(store)}/${encodeURIComponent(id)}/${encodeURIComponent(name)}`,
    });
  });
  return Object.assign(hub, {
    url: urlOf(front),
    close: async () => {
      for (const server of [front, store]) {
        server.closeAllConnections();
        await new Promise((resolve) => server.close(resolve));
      }
    },
  });
}

const infoOf = (id: string, { commit, files }: FakeRepo) => ({
  id,
  sha: commit,
  siblings: Object.entries(files).map(([rfilename, text]) => {
    const content = Buffer.from(text);
    const { sha256, git } = hashes(content);
    const isLarge = rfilename.endsWith('.safetensors');
    const lfs = { sha256, size: content.length, pointerSize: 135 };
    return { rfilename, size: content.length, blobId: git, ...(isLarge && { lfs }) };
  }),
});

function end(response: ServerResponse, status: number, headers: Readonly<Record<string, string>> = {}): void {
  response.writeHead(status, headers).end();
}

async function listen(
  listener: (request: IncomingMessage, response: ServerResponse) => unknown,
): Promise<Server> {
  const server = createServer(listener);
  // A test on a busy machine may think for long between two requests.
  server.keepAliveTimeout = 300_000;
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  return server;
}

const urlOf = (server: Server): string => `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
