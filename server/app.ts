// The routes of the server.
import { Hono, type MiddlewareHandler } from 'hono';
import { cors } from 'hono/cors';
import type { z } from 'zod';
import { answerReply } from './answer.ts';
import { ApiError, errorBody, toApiError } from './api-error.ts';
import { readBody } from './body.ts';
import { chatShape, readChat } from './chat.ts';
import { completionShape, readCompletion } from './completions.ts';
import { embed, embeddingShape } from './embeddings.ts';
import { needKey, refuseSites } from './guard.ts';
import { logRequests } from './log.ts';
import { type ApiContext, type Entry, type Env, requestId } from './requests.ts';
import { readResponse, responseShape } from './responses.ts';
import type { Service } from './service.ts';
import { detokenize, detokenizeShape, tokenize, tokenizeShape } from './tokens.ts';

export interface AppOptions {
  /** Of this package, for /version. */
  readonly version: string;
  /** HTML of the page at /. */
  readonly page: string;
  /** Null: nobody is asked for one. */
  readonly apiKey: string | null;
  /** Hosts with a name are refused. */
  readonly localOnly: boolean;
  /** Origins whose pages may read answers. */
  readonly corsOrigins: readonly string[];
  /** Null: what a prompt of the model's context can take. */
  readonly mostBodyBytes: number | null;
  /** Takes each line of the log. */
  readonly log: (line: object) => void;
  /** Takes what is a mistake of ours. */
  readonly report: (error: unknown) => void;
}

/** Endpoints of OpenAI that are not here, and why. */
const absent: Readonly<Record<string, string>> = {
  '/v1/responses/*': 'nothing is stored',
  '/v1/conversations/*': 'nothing is stored',
  '/v1/moderations': 'a model of its own would be needed',
  '/v1/audio/*': 'models that run here read and write text',
  '/v1/images/*': 'models that run here read and write text',
  '/v1/files/*': 'nothing is stored',
  '/v1/batches/*': 'nothing is stored',
};

export function createApp(service: Service, options: AppOptions): Hono<Env> {
  const { mostBodyBytes, report } = options;
  const app = new Hono<Env>();
  const fail = (c: ApiContext, thrown: unknown) => {
    const error = toApiError(thrown, report);
    c.get('entry').code = error.code;
    if (error.status === 503) c.header('retry-after', '1');
    if (error.status === 401) c.header('www-authenticate', 'Bearer');
    return c.json(errorBody(error), error.status as 400);
  };
  app.onError((error, c) => fail(c, error));
  app.use(begin, logRequests(service, options.log), async (c, next) => {
    await next();
    // Clients of a server that ends are to connect to another one.
    if (service.state === 'draining') c.header('connection', 'close');
  });
  if (options.corsOrigins.length > 0) app.use(cors({ origin: [...options.corsOrigins], exposeHeaders }));

  app.get('/', (c) => {
    c.header('content-security-policy', pagePolicy);
    return c.html(options.page);
  });
  app.get('/health', (c) => c.json({ status: service.state }, service.state === 'ready' ? 200 : 503));
  if (options.apiKey !== null) app.use(needKey(options.apiKey));
  else if (options.localOnly) app.use(refuseSites);
  app.get('/version', (c) => c.json({ version: options.version }));
  app.get('/metrics', async (c) =>
    c.text(await service.metrics.registry.metrics(), 200, {
      'content-type': service.metrics.registry.contentType,
    }),
  );

  const listed = () => ({
    ...{ id: service.name, object: 'model', created: service.created, owned_by: 'onelaunch' },
    max_model_len: service.model().context,
  });
  app.get('/v1/models', (c) => c.json({ object: 'list', data: [listed()] }));
  app.get('/v1/models/:id{.+}', (c) => {
    checkName(service, c.req.param('id'));
    return c.json(listed());
  });

  /** The body, of a request that names this model or none. */
  const body = async <Schema extends z.ZodType<{ model?: string | undefined }>>(
    c: ApiContext,
    schema: Schema,
  ) => {
    const { context } = service.model();
    const given = await readBody(c, schema, mostBodyBytes ?? fixedBytes + tokenBytes * context);
    if (given.model !== undefined) checkName(service, given.model);
    return given;
  };
  app.post('/v1/chat/completions', async (c) =>
    answerReply(c, service, report, readChat(await body(c, chatShape))),
  );
  app.post('/v1/completions', async (c) =>
    answerReply(c, service, report, readCompletion(await body(c, completionShape))),
  );
  app.post('/v1/responses', async (c) =>
    answerReply(c, service, report, readResponse(await body(c, responseShape))),
  );
  app.post('/v1/embeddings', async (c) =>
    c.json(await embed(c.get('entry'), service, await body(c, embeddingShape), c.req.raw.signal)),
  );
  app.post('/tokenize', async (c) => c.json(await tokenize(service.model(), await body(c, tokenizeShape))));
  app.post('/detokenize', async (c) =>
    c.json(await detokenize(service.model(), await body(c, detokenizeShape))),
  );

  for (const [path, why] of Object.entries(absent)) {
    app.all(path, (c) => {
      throw new ApiError(404, `${c.req.path} is not served here: ${why}`, { code: 'unsupported_endpoint' });
    });
  }
  const routes = app.routes.filter(({ method }) => method !== 'ALL');
  for (const path of new Set(routes.map((route) => route.path))) {
    const methods = routes.filter((route) => route.path === path).map(({ method }) => method);
    // Whoever is told to GET may ask for the head alone.
    const allowed = methods.flatMap((method) => (method === 'GET' ? [method, 'HEAD'] : [method]));
    app.all(path, (c) => {
      c.header('allow', allowed.join(', '));
      throw new ApiError(405, `${c.req.path} does not take ${c.req.method}`, { code: 'method_not_allowed' });
    });
  }
  app.notFound((c) => fail(c, new ApiError(404, 'there is no such path here', { code: 'unknown_path' })));
  return app;
}

/** What pages of other origins may read beside the body: clients in them name a request, and wait, as those elsewhere do. */
const exposeHeaders = ['x-request-id', 'retry-after'];

/** A body holds a prompt of so many bytes a token at most, and so many more. Reading a longer one as tokens would take seconds
 *  in which nobody else is answered, only to find that it does not fit. */
const tokenBytes = 16;
const fixedBytes = 2 ** 16;

/** Scripts and styles of the page stand in it; it loads nothing, and talks to this server alone. */
const pagePolicy =
  "default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; img-src data:; connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

const begin: MiddlewareHandler<Env> = async (c, next) => {
  const entry: Entry = { id: requestId(c.req.header('x-request-id')), arrived: performance.now() };
  c.set('entry', entry);
  c.header('x-request-id', entry.id);
  c.header('x-content-type-options', 'nosniff');
  await next();
};

function checkName(service: Service, name: string): void {
  if (name === service.name) return;
  const message = `the model ${JSON.stringify(name.slice(0, 100))} is not here: there is ${JSON.stringify(service.name)}`;
  throw new ApiError(404, message, { param: 'model', code: 'model_not_found' });
}
