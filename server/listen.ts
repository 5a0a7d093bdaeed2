// The server at its port: limits against what never ends, and an end that waits for those who are being answered.
import { createServer, type ServerResponse } from 'node:http';
import type { AddressInfo, Socket } from 'node:net';
import { getRequestListener } from '@hono/node-server';
import type { Hono } from 'hono';
import { OnelaunchError } from '../errors.ts';
import { ApiError, errorBody } from './api-error.ts';
import type { Env } from './requests.ts';

/** How long a request may take to arrive: its header, and all of it [ms]. */
const headerMillis = 10_000;
const arrivalMillis = 60_000;
/** Longer than balancers keep a connection that nobody uses [ms]: it is theirs to close. */
const idleMillis = 75_000;
/** How long a client may read nothing of an answer that waits for it [ms]. */
const mostUnreadMillis = 60_000;
/** How often a server that ends looks for connections that were read to their end [ms]. */
const lookMillis = 50;
const mostConnections = 1024;
const nonsense = 'the request is no HTTP that can be read';

export interface Listening {
  /** Such as http://127.0.0.1:8000. */
  readonly url: string;
  /** Takes no more connections; those that are open have so long to read what they were answered [ms]. */
  close(graceMillis: number): Promise<void>;
}

export interface ListenOptions {
  /** How long a client may take nothing of what waits for it [ms]. @default a minute */
  readonly unreadMillis?: number;
  /** Told with which status something was answered that no route has seen. */
  readonly onNonsense?: (status: number) => void;
}

/** @throws OnelaunchError of kind usage where the address is taken, or not of this machine */
export async function listen(
  app: Pick<Hono<Env>, 'fetch'>,
  host: string,
  port: number,
  { unreadMillis = mostUnreadMillis, onNonsense = () => {} }: ListenOptions = {},
): Promise<Listening> {
  const listener = getRequestListener(app.fetch, {
    overrideGlobalObjects: false,
    // Of requests of HTTP/1.0, which need not name a host: balancers ask for health so.
    hostname: 'localhost',
    errorHandler: () => {
      onNonsense(400);
      return Response.json(errorBody(new ApiError(400, nonsense)), { status: 400 });
    },
  });
  const limits = {
    headersTimeout: headerMillis,
    requestTimeout: arrivalMillis,
    keepAliveTimeout: idleMillis,
    connectionsCheckingInterval: 5000,
    // Node's own answer would have no body.
    requireHostHeader: false,
  };
  const open = openAnswers();
  const refuse = (response: ServerResponse, status: number, message: string) => {
    onNonsense(status);
    const body = JSON.stringify(errorBody(new ApiError(400, message)));
    const headers = { 'content-type': 'application/json', 'content-length': Buffer.byteLength(body) };
    response.writeHead(status, { ...headers, connection: 'close' }).end(body);
  };
  const server = createServer(limits, (request, response) => {
    open.add(request.socket, response);
    const { httpVersionMinor, headers } = request;
    if (httpVersionMinor > 0 && headers.host === undefined)
      refuse(response, 400, 'the request names no host');
    else void listener(request, response);
  });
  server.on('checkExpectation', (_request, response: ServerResponse) => {
    refuse(response, 417, "the header Expect can be '100-continue', and nothing else");
  });
  server.on('connect', (_request, socket: Socket) => {
    onNonsense(405);
    // The server no longer knows of it.
    socket.on('error', () => {}).setTimeout(lookMillis, () => socket.destroy());
    answerRaw(socket, [405, 'Method Not Allowed', 'this server is no proxy, and does not take CONNECT']);
  });
  server.maxConnections = mostConnections;
  server.on('connection', open.watch);
  server.timeout = unreadMillis;
  server.on('timeout', (socket) => {
    // An answer that is being made keeps its connection, as long as its client takes what there is.
    if (!open.has(socket) || socket.writableLength > 0) socket.destroy();
  });
  server.on('clientError', (error: NodeJS.ErrnoException, socket: Socket) => {
    const status = answerNonsense(error, socket);
    // A request that breaks off in its body has a line of its own.
    if (status !== null && !open.has(socket)) onNonsense(status);
  });
  await new Promise<void>((resolve, reject) => {
    server.once('error', (error: NodeJS.ErrnoException) => reject(refusal(error, host, port)));
    server.listen(port, host, resolve);
  });
  const { address, port: bound, family } = server.address() as AddressInfo;
  return {
    url: `http://${family === 'IPv6' ? `[${address}]` : address}:${bound}`,
    close: async (graceMillis) => {
      const closed = new Promise<void>((resolve) => server.close(() => resolve()));
      server.closeIdleConnections();
      // One whose answer ends only now is kept by its client for the next request.
      const idle = setInterval(() => server.closeIdleConnections(), lookMillis);
      const timer = setTimeout(() => server.closeAllConnections(), graceMillis);
      await closed;
      clearInterval(idle);
      clearTimeout(timer);
    },
  };
}

/** The answers of each connection that have not ended, told when their client leaves. Node tells that an answer alone which is being sent, not those that wait
 *  behind it on the same connection, and tells it of a client that closes its half only once both halves are closed: behind the next questions of others. */
function openAnswers() {
  const answers = new WeakMap<Socket, Set<ServerResponse>>();
  const of = (socket: Socket) => answers.get(socket) ?? new Set();
  return {
    watch: (socket: Socket) => {
      answers.set(socket, new Set());
      const gone = () => {
        for (const answer of of(socket)) answer.emit('close');
      };
      socket.once('end', gone).once('close', gone);
    },
    add: (socket: Socket, answer: ServerResponse) => {
      of(socket).add(answer);
      answer.once('close', () => of(socket).delete(answer));
    },
    has: (socket: Socket) => of(socket).size > 0,
  };
}

/** Answers what is no HTTP, or does not arrive in time. @returns with which status; null: there is nobody to answer */
function answerNonsense(error: NodeJS.ErrnoException, socket: Socket): number | null {
  const hasBegun = (socket as { _httpMessage?: ServerResponse })._httpMessage?.headersSent;
  // Browsers connect ahead, and may then ask nothing.
  if (error.code === 'ECONNRESET' || !socket.writable || hasBegun || socket.bytesRead === 0) {
    socket.destroy();
    return null;
  }
  const answer =
    error.code === 'ERR_HTTP_REQUEST_TIMEOUT'
      ? ([408, 'Request Timeout', 'the request did not arrive in time'] as const)
      : error.code === 'HPE_HEADER_OVERFLOW'
        ? ([431, 'Request Header Fields Too Large', 'the header is too long'] as const)
        : ([400, 'Bad Request', nonsense] as const);
  answerRaw(socket, answer);
  return answer[0];
}

function answerRaw(
  socket: Socket,
  [status, name, message]: readonly [status: number, name: string, message: string],
): void {
  const body = JSON.stringify(errorBody(new ApiError(400, message)));
  socket.end(
    `HTTP/1.1 ${status} ${name}\r\ncontent-type: application/json\r\ncontent-length: ${Buffer.byteLength(body)}\r\nconnection: close\r\n\r\n${body}`,
  );
}

function refusal({ code, message }: NodeJS.ErrnoException, host: string, port: number): OnelaunchError {
  const place = `${host}:${port}`;
  if (code === 'EADDRINUSE') {
    return new OnelaunchError('usage', `${place} is in use already`, {
      hint: '--port 0 takes any that is free',
    });
  }
  if (code === 'EACCES') {
    return new OnelaunchError('usage', `${place} may not be listened at`, {
      hint: 'take a port from 1024 on',
    });
  }
  if (code === 'EADDRNOTAVAIL' || code === 'ENOTFOUND' || code === 'EAI_AGAIN') {
    return new OnelaunchError('usage', `${host} is no address of this machine`, {
      hint: '--host 127.0.0.1 is this machine alone, --host 0.0.0.0 every network that it is in',
    });
  }
  return new OnelaunchError('environment', `cannot listen at ${place}: ${message}`);
}
