// Headless Chromium over its debugging pipe: pages, at a width and in a colour scheme, looked at without a library.
import { type ChildProcess, spawn, spawnSync } from 'node:child_process';
import { mkdtempSync } from 'node:fs';
import { rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { Duplex } from 'node:stream';
import { pathToFileURL } from 'node:url';
import { until, within } from './within.ts';

const names = ['chromium', 'chromium-browser', 'google-chrome', 'chrome-headless-shell'];

/** The first browser that is here, or null. */
export const findBrowser = (): string | null =>
  names.find((name) => spawnSync(name, ['--version'], { timeout: 20_000 }).status === 0) ?? null;

type Params = Readonly<Record<string, unknown>>;
interface Message {
  readonly id?: number;
  readonly method?: string;
  readonly result?: Params;
  readonly error?: { readonly message: string };
  readonly params?: Params;
}

interface Waiting {
  readonly resolve: (result: Params) => void;
  readonly reject: (error: Error) => void;
}

/** How a page is looked at. */
export interface Look {
  readonly width: number;
  readonly scheme: 'light' | 'dark';
  readonly scripts: boolean;
  /** What of the page is in the picture; all of it where this is left out. */
  readonly clip?: { readonly x: number; readonly y: number; readonly width: number; readonly height: number };
}

export interface Seen {
  /** Width that the content takes, where it is more than the window's. */
  readonly contentWidth: number;
  /** What console, page and network complained of. */
  readonly complaints: readonly string[];
  readonly png: Buffer;
}

export interface Page {
  /** The value of an expression. */
  run(expression: string): Promise<unknown>;
  /** Resolves when a condition of the page is so. @throws Error with what the page shows, when it does not come */
  until(condition: string): Promise<void>;
  seen(): Promise<Seen>;
  close(): Promise<void>;
}

/** A desk and a phone, light and dark. */
export const looks = [1400, 390].flatMap((width) =>
  (['light', 'dark'] as const).map((scheme) => ({ width, scheme })),
);

export class Browser {
  readonly #process: ChildProcess;
  readonly #profile = mkdtempSync(join(tmpdir(), 'browser-'));
  readonly #waiting = new Map<number, Waiting>();
  #complaints: string[] = [];
  #loaded: () => void = () => {};
  #session: string | undefined;
  #id = 0;
  #rest = '';

  constructor(path: string) {
    const args = [
      '--headless',
      '--no-sandbox',
      '--disable-gpu',
      '--hide-scrollbars',
      '--remote-debugging-pipe',
    ];
    this.#process = spawn(path, [...args, `--user-data-dir=${this.#profile}`, 'about:blank'], {
      stdio: ['ignore', 'ignore', 'ignore', 'pipe', 'pipe'],
    });
    (this.#process.stdio[4] as Duplex).on('data', (data: Buffer) => this.#read(data.toString('utf8')));
    this.#process.on('exit', () => {
      for (const { reject } of this.#waiting.values()) reject(new Error('the browser ended'));
    });
  }

  async look(file: string, look: Look): Promise<Seen> {
    const page = await this.open(pathToFileURL(file).href, look);
    const seen = await page.seen();
    await page.close();
    return seen;
  }

  /** A page that stays open; one at a time. */
  async open(url: string, { width, scheme, scripts, clip }: Look): Promise<Page> {
    const { targetId } = await this.#send('Target.createTarget', { url: 'about:blank' });
    const { sessionId } = await this.#send('Target.attachToTarget', { targetId, flatten: true });
    this.#session = sessionId as string;
    this.#complaints = [];
    for (const domain of ['Page', 'Runtime', 'Log', 'Network']) await this.#send(`${domain}.enable`);
    await this.#send('Emulation.setDeviceMetricsOverride', {
      ...{ width, height: 900, deviceScaleFactor: 1, mobile: width < 700 },
    });
    const features = [{ name: 'prefers-color-scheme', value: scheme }];
    await this.#send('Emulation.setEmulatedMedia', { features });
    await this.#send('Emulation.setScriptExecutionDisabled', { value: !scripts });
    const loaded = new Promise<void>((resolve) => {
      this.#loaded = resolve;
    });
    await this.#send('Page.navigate', { url });
    await within(loaded, () => `the page at ${url}`);
    const run = async (expression: string) => {
      const { result, exceptionDetails } = await this.#send('Runtime.evaluate', {
        ...{ expression, awaitPromise: true, returnByValue: true },
      });
      if (exceptionDetails) throw new Error(`${expression}: ${JSON.stringify(exceptionDetails)}`);
      return (result as { value?: unknown }).value;
    };
    return {
      run,
      until: async (condition) => {
        let text: unknown = '';
        const isSo = async () => {
          const [so, shown] = (await run(`[Boolean(${condition}), document.body.innerText]`)) as [
            boolean,
            string,
          ];
          text = shown;
          return so;
        };
        await until(isSo, () => `${condition}; the page shows:\n${text}`);
      },
      seen: async () => {
        const { cssContentSize } = await this.#send('Page.getLayoutMetrics');
        const { data } = await this.#send('Page.captureScreenshot', {
          captureBeyondViewport: true,
          ...(clip && { clip: { ...clip, scale: 1 } }),
        });
        return {
          contentWidth: (cssContentSize as { width: number }).width,
          complaints: this.#complaints,
          png: Buffer.from(data as string, 'base64'),
        };
      },
      close: async () => {
        await this.#send('Target.closeTarget', { targetId });
        this.#session = undefined;
      },
    };
  }

  async close(): Promise<void> {
    const ended = new Promise<void>((resolve) => this.#process.once('exit', () => resolve()));
    this.#process.kill();
    await within(ended, () => 'the end of the browser');
    // Its helpers write for a moment longer; what they leave behind is no fault of a page.
    await rm(this.#profile, { recursive: true, force: true, maxRetries: 20, retryDelay: 100 }).catch(
      () => {},
    );
  }

  #send(method: string, params: Params = {}): Promise<Params> {
    const id = ++this.#id;
    const sessionId = method.startsWith('Target.') ? undefined : this.#session;
    (this.#process.stdio[3] as Duplex).write(`${JSON.stringify({ id, method, params, sessionId })}\0`);
    const answer = new Promise<Params>((resolve, reject) => this.#waiting.set(id, { resolve, reject }));
    return within(answer, () => `the browser's answer to ${method} ${JSON.stringify(params)}`);
  }

  #read(text: string): void {
    const parts = (this.#rest + text).split('\0');
    this.#rest = parts.pop()!;
    for (const part of parts) this.#take(JSON.parse(part) as Message);
  }

  #take({ id, method, result, error, params }: Message): void {
    if (id !== undefined) {
      const waiting = this.#waiting.get(id);
      this.#waiting.delete(id);
      if (error) waiting?.reject(new Error(error.message));
      else waiting?.resolve(result ?? {});
    } else if (method === 'Page.loadEventFired') this.#loaded();
    else if (
      method === 'Log.entryAdded' ||
      method === 'Runtime.exceptionThrown' ||
      method === 'Network.loadingFailed'
    ) {
      this.#complaints.push(`${method}: ${JSON.stringify(params)}`);
    }
  }
}
