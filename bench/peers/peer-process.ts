// A peer as a process that loads a model once and answers requests as lines of JSON; python/peer.py says what they are.
// It is stopped while it has nothing to answer: threads that spin for their next work would take a core from the peer that is timed.
import { type ChildProcessWithoutNullStreams, spawn } from 'node:child_process';
import { createInterface, type Interface } from 'node:readline';
import { z } from 'zod';
import type { Clock } from '../../lab/together.ts';

const helloSchema = z.union([
  z.object({ version: z.string(), variants: z.array(z.string()).min(1), device: z.string() }),
  z.object({ missing: z.string() }),
]);
const answerSchema = z.union([
  z.object({ seconds: z.number().positive(), ids: z.array(z.int().nonnegative()) }),
  z.object({ error: z.string() }),
]);

interface Asking {
  readonly variant: string;
  readonly prompt: readonly number[];
  /** None: that on the wall. */
  readonly clock?: Clock;
}
export type Request =
  | ({ readonly op: 'decode'; readonly tokens: number } & Asking)
  /** So many sequences at once, each with its prompt: `tokens` of each are timed. */
  | ({ readonly op: 'batch'; readonly tokens: number; readonly sequences: number } & Asking)
  | ({ readonly op: 'prefill' } & Asking);
export type Answer = z.infer<typeof answerSchema>;

/** Loading may compile; a request may compile too. A process that says nothing for so long is ended [ms]. */
const patience = 20 * 60_000;
/** Of what it prints beside its answers: the end tells why it failed. */
const keptCharacters = 4000;

/** A peer that runs, or why it does not. */
export type Started = PeerProcess | { readonly missing: string };

export class PeerProcess {
  readonly version: string;
  readonly variants: readonly string[];
  readonly device: string;
  readonly #lines: Lines;

  private constructor(lines: Lines, hello: { version: string; variants: string[]; device: string }) {
    this.#lines = lines;
    this.version = hello.version;
    this.variants = hello.variants;
    this.device = hello.device;
  }

  /** Starts a command, and waits until it has loaded its model. */
  static async start(command: string, args: readonly string[]): Promise<Started> {
    const lines = new Lines(spawn(command, args, { stdio: ['pipe', 'pipe', 'pipe'] }));
    try {
      const hello = helloSchema.parse(await lines.next());
      if (!('missing' in hello)) return new PeerProcess(lines, hello);
      lines.close();
      return hello;
    } catch (error) {
      lines.close();
      return { missing: whyOf(error) };
    }
  }

  /** One request, one answer. A process that died answers with an error. */
  async ask(request: Request): Promise<Answer> {
    try {
      this.#lines.send(request);
      return answerSchema.parse(await this.#lines.next());
    } catch (error) {
      return { error: whyOf(error) };
    }
  }

  close(): void {
    this.#lines.close();
  }
}

const whyOf = (error: unknown): string =>
  error instanceof z.ZodError ? 'it answered what is no answer' : (error as Error).message;

/** Lines of JSON to a process and from it. */
class Lines {
  readonly #child: ChildProcessWithoutNullStreams;
  readonly #reader: Interface;
  readonly #iterator: AsyncIterator<string>;
  #told = '';
  #ended: string | null = null;

  constructor(child: ChildProcessWithoutNullStreams) {
    this.#child = child;
    child.stderr.setEncoding('utf8').on('data', (text: string) => {
      this.#told = (this.#told + text).slice(-keptCharacters);
    });
    child.on('error', ({ message }) => {
      this.#ended = message;
    });
    const end = () => child.kill('SIGKILL');
    process.once('exit', end);
    child.on('close', () => process.off('exit', end));
    // A process that is gone is told by the answer that does not come.
    child.stdin.on('error', () => {});
    this.#reader = createInterface({ input: child.stdout });
    this.#iterator = this.#reader[Symbol.asyncIterator]();
  }

  send(value: unknown): void {
    this.#child.kill('SIGCONT');
    this.#child.stdin.write(`${JSON.stringify(value)}\n`);
  }

  /** @throws Error where it ended, or took too long */
  async next(): Promise<unknown> {
    let timer: NodeJS.Timeout | undefined;
    const late = new Promise<never>((_, reject) => {
      timer = setTimeout(
        () => reject(new Error(`it said nothing for ${patience / 60_000} minutes`)),
        patience,
      );
    });
    try {
      const line = await Promise.race([this.#iterator.next(), late]);
      if (line.done) throw new Error(this.#why());
      this.#child.kill('SIGSTOP');
      return JSON.parse(line.value) as unknown;
    } finally {
      clearTimeout(timer);
    }
  }

  #why(): string {
    const last = this.#told.trim().split('\n').at(-1)?.slice(0, 300);
    return this.#ended ?? (last ? `it ended: ${last}` : 'it ended without a word');
  }

  close(): void {
    this.#reader.close();
    this.#child.stdin.end();
    this.#child.kill();
    this.#child.kill('SIGCONT');
  }
}
