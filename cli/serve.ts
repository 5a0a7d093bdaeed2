// gen serve: the model over HTTP, for clients of OpenAI's API.
import { readFileSync } from 'node:fs';
import { basename, join } from 'node:path';
import { setFlagsFromString } from 'node:v8';
import { packageRoot, packageVersion } from '../codegen/build/package-root.ts';
import { OnelaunchError } from '../errors.ts';
import { mostSequences } from '../runtime/engine/limits.ts';
import type { Listening } from '../server/listen.ts';
import { exitCode } from './exit-code.ts';
import { draftedCommand, helpEnd, needModel, type Program } from './flags.ts';
import { printable } from './printable.ts';
import { loadWithProgress } from './reply.ts';
import { counted, type Start, type Ui } from './ui.ts';
import { duration, filled, whole } from './values.ts';

const loopback = ['127.0.0.1', 'localhost', '::1'];
/** After the last reply, for clients to read it [ms]. */
const graceMillis = 5000;
/** V8 looks for garbage when its heap has grown by so much over what lived the last time. Left to itself it waits until there are several times
 *  as much: requests that wait grow old, so what is left of them is found only then. */
const heapGrowingPercent = 100;

export function addServe(program: Program, start: Start): void {
  draftedCommand(program, 'serve')
    .argument('[model]', 'the same as --model')
    .description("serve a model over HTTP, in the shape of OpenAI's API, with a page to talk to it")
    .optionsGroup('Server:')
    .option(
      '--host <address>',
      'where to listen; 0.0.0.0: every network of this machine',
      filled,
      '127.0.0.1',
    )
    .option('--port <n>', 'port; 0: any that is free', whole(0, 65_535), 8000)
    .option(
      '--api-key <key>',
      'what clients must send as Bearer; ONELAUNCH_API_KEY does the same, out of sight of ps (default: none)',
    )
    .option(
      '--served-model-name <name>',
      'the name that requests give (default: the name of the model)',
      filled,
    )
    .option('--cors-origin <origin>', 'a site whose pages may read answers; may be given again', origins)
    .option(
      '--parallel <n>',
      `replies at a time, in shared passes, up to ${mostSequences}; each has a KV cache of its own`,
      whole(1, mostSequences),
      1,
    )
    .option('--embeddings', 'make embeddings, and no replies')
    .option('--queue <n>', 'most requests that wait for their turn', whole(0, 100_000), 64)
    .option('--queue-timeout <time>', 'longest wait, such as 90s or 10m (default: 60s)', limit)
    .option('--reply-timeout <time>', 'longest reply (default: 10m)', limit)
    .option(
      '--drain-timeout <time>',
      'how long SIGTERM waits for replies that were begun (default: 30s)',
      limit,
    )
    .option(
      '--body-limit <KiB>',
      'longest body of a request (default: 64, and 16 bytes for each position of --context)',
      whole(1, 1_048_576),
    )
    .addHelpText(
      'after',
      helpEnd(
        'gen serve qwen3-tiny',
        'gen serve qwen3-tiny --host 0.0.0.0 --port 8080',
        `curl http://127.0.0.1:8000/v1/chat/completions -H 'content-type: application/json' -d '{"model": "qwen3-tiny", "messages": [{"role": "user", "content": "What is a daemon?"}]}'`,
      ),
    )
    .action((word, options) =>
      start(options, async (ui) => {
        const model = needModel(options, 'serve', word);
        const { host, port } = options;
        const apiKey = checkKey(options.apiKey ?? ui.io.env['ONELAUNCH_API_KEY'] ?? null);
        const name = options.servedModelName ?? nameOf(model);
        const [{ createApp }, { listen }, { logNonsense }, { Service }] = await Promise.all([
          import('../server/app.ts'),
          import('../server/listen.ts'),
          import('../server/log.ts'),
          import('../server/service.ts'),
        ]);
        const service = new Service({
          name,
          queue: options.queue,
          queueMillis: options.queueTimeout ?? 60_000,
          replyMillis: options.replyTimeout ?? 600_000,
        });
        const app = createApp(service, {
          version: packageVersion(),
          page: readFileSync(join(packageRoot(), 'server', 'chat.html'), 'utf8'),
          apiKey,
          localOnly: loopback.includes(host),
          corsOrigins: options.corsOrigin ?? [],
          mostBodyBytes: options.bodyLimit === undefined ? null : options.bodyLimit * 2 ** 10,
          log: ui.result,
          report: (error) =>
            ui.io.err(`${printable(String(error instanceof Error ? error.stack : error))}\n`),
        });
        const stop = stopSignal(ui);
        // Whoever collects the log may be started anew, and clients wait for their replies.
        let hasReader = true;
        const releaseReader = ui.io.onReaderLeft(() => {
          if (hasReader) ui.warn('nobody reads the log on stdout any more: the server goes on without it');
          hasReader = false;
        });
        let server: Listening | undefined;
        const onChecked = async () => {
          setFlagsFromString(`--heap-growing-percent=${heapGrowingPercent}`);
          server = await listen(app, host, port, { onNonsense: logNonsense(service, ui.result) });
          ui.note(`${server.url}/health says when ${name} is loaded`);
          if (apiKey === null && !loopback.includes(host)) {
            ui.warn(`whoever reaches ${server.url} can use it: --api-key asks for a key`);
          }
        };
        try {
          const loading = { ...ui, io: { ...ui.io, signal: stop.signal } };
          const llm = await loadWithProgress(loading, model, options, { onChecked });
          try {
            service.ready(llm);
            ui.note(`ready: ${server?.url}/v1 for clients, ${server?.url}/ for people; Ctrl-C ends it`);
            await stop.asked;
            const cut = await drain(ui, service, options.drainTimeout ?? 30_000);
            await server?.close(graceMillis);
            return ui.io.signal.aborted ? ui.io.interruptedCode() : cut > 0 ? exitCode.failed : exitCode.ok;
          } finally {
            await llm.close();
          }
        } catch (error) {
          // SIGTERM while it was loading: nobody was being answered.
          if (stop.signal.aborted && !ui.io.signal.aborted) return exitCode.ok;
          throw error;
        } finally {
          stop.release();
          releaseReader();
          await server?.close(0);
        }
      }),
    );
}

/** A timer takes no more than 24 days [ms]: as good as none. */
const limit = (text: string): number => Math.min(duration(text), 2 ** 31 - 1);

/** Given several times, there are several. */
function origins(text: string, before?: readonly string[]): readonly string[] {
  const origin = URL.canParse(text) ? new URL(text).origin : '';
  if (origin === text && origin !== '') return [...(before ?? []), text];
  throw new OnelaunchError('usage', `--cors-origin is '${text}', must be the origin of a site`, {
    // A file has none of its own.
    hint: `for example: --cors-origin ${origin.includes('://') ? origin : 'https://example.com'}`,
  });
}

/** @throws OnelaunchError for a key that no client can send as Bearer */
function checkKey(key: string | null): string | null {
  if (key === null || /^[!-~]+$/.test(key)) return key;
  const what = key === '' ? 'is empty' : 'has other characters than visible ones of ASCII';
  throw new OnelaunchError('usage', `the API key ${what}`, {
    hint: 'leave --api-key and ONELAUNCH_API_KEY out to ask for none',
  });
}

/** Of a folder or a file its own name; ORG/NAME as it is. */
const nameOf = (model: string): string =>
  /^[\w.-]+\/[\w.-]+$/.test(model) && !/^\.\.?\/|\.gguf$/.test(model) ? model : basename(model);

/** SIGTERM or Ctrl-C; after one of them, the next one ends the process at once. */
function stopSignal({ io }: Ui) {
  const stop = new AbortController();
  const leave = () => {
    if (stop.signal.aborted) process.exit(io.interruptedCode());
    stop.abort(new DOMException('interrupted', 'AbortError'));
  };
  const asked = new Promise<void>((resolve) => stop.signal.addEventListener('abort', () => resolve()));
  // Ctrl-C may have come while the command was loaded.
  if (io.signal.aborted) leave();
  io.signal.addEventListener('abort', leave);
  const releaseTerminate = io.onTerminate(leave);
  return {
    signal: stop.signal,
    /** Resolves when the server is to end. */
    asked,
    release: () => {
      io.signal.removeEventListener('abort', leave);
      releaseTerminate();
    },
  };
}

/** Waits for the replies that were asked for, and says how many were cut. */
async function drain(
  ui: Ui,
  service: import('../server/service.ts').Service,
  millis: number,
): Promise<number> {
  const { running, waiting } = service.queue;
  if (running + waiting > 0) {
    const first = counted(running + waiting, 'request');
    ui.note(`ending: the answer to ${first} comes first; another signal ends at once`);
  }
  let cut = 0;
  const timer = setTimeout(() => {
    cut = service.cut();
  }, millis);
  await service.drain();
  clearTimeout(timer);
  if (cut > 0) ui.warn(`cut after ${millis / 1000} s: ${counted(cut, 'request')}`);
  return cut;
}
