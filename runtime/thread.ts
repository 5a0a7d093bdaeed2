// A thread of its own for what would hold up the event loop: its functions are called by name, and what they return or throw comes back.
import { type MessagePort, parentPort, Worker } from 'node:worker_threads';
import { noThread, OnelaunchError } from '../errors.ts';

/** What can be called in a thread, by its name. Arguments and results are copied. */
type Functions = { readonly [name: string]: (...given: never[]) => unknown };
type Call = readonly [call: number, name: string, given: readonly unknown[]];
type Answer = readonly [call: number, value: unknown, failure?: Failure];

/** An error as it is told to another thread, which would get the message alone. */
interface Failure {
  readonly message: string;
  readonly stack: string | undefined;
  /** Of one of ours. */
  readonly told: Pick<OnelaunchError, 'kind' | 'hint' | 'option'> | undefined;
}

interface Waiting {
  resolve(value: unknown): void;
  reject(error: unknown): void;
}

/** Whether Node's permissions allow threads. */
export const mayStartThreads = (): boolean => process.permission?.has('worker') ?? true;

/** While a call waits, the process does not end by itself; while none does, it may. */
export class Thread {
  readonly #worker: Worker | undefined;
  readonly #waiting = new Map<number, Waiting>();
  #calls = 0;
  /** Why it ended. */
  #ended: OnelaunchError | undefined;

  /** @param entry a module that calls `answerCalls`; of a package that was compiled, its .js
   *  @param data what the module finds as its workerData */
  constructor(entry: URL, data: unknown) {
    // Flags of the program are not those of a module, --input-type among them.
    const how = { workerData: data, execArgv: [] };
    try {
      this.#worker = import.meta.url.endsWith('.ts')
        ? new Worker(sourceLoader(entry), { ...how, eval: true })
        : new Worker(new URL(entry.href.replace(/\.ts$/, '.js')), how);
    } catch (cause) {
      this.#end(cause);
      return;
    }
    const worker = this.#worker;
    worker.unref();
    worker.on('message', ([call, value, failure]: Answer) => {
      const waiting = this.#waiting.get(call);
      this.#waiting.delete(call);
      if (this.#waiting.size === 0) worker.unref();
      if (failure === undefined) waiting?.resolve(value);
      else waiting?.reject(errorOf(failure));
    });
    worker.on('error', (cause) => this.#end(cause));
    worker.on('exit', () => this.#end(undefined));
  }

  get hasEnded(): boolean {
    return this.#ended !== undefined;
  }

  /** What the function of this name returns there.
   *  @throws what it throws; OnelaunchError of kind failed where the thread ends */
  call(name: string, ...given: readonly unknown[]): Promise<unknown> {
    if (this.#ended) return Promise.reject(this.#ended);
    return new Promise((resolve, reject) => {
      const call = this.#calls++;
      if (this.#waiting.size === 0) this.#worker?.ref();
      this.#waiting.set(call, { resolve, reject });
      this.#worker?.postMessage([call, name, given] satisfies Call);
    });
  }

  end(): void {
    this.#end(undefined);
    void this.#worker?.terminate();
  }

  #end(cause: unknown): void {
    const why = cause instanceof Error ? cause.message : '';
    this.#ended ??= why.endsWith('EAGAIN')
      ? noThread(cause)
      : new OnelaunchError('failed', `a thread of this process ended${why && `: ${why}`}`, { cause });
    for (const { reject } of this.#waiting.values()) reject(this.#ended);
    this.#waiting.clear();
    this.#worker?.unref();
  }
}

/** A program that runs a module of TypeScript: loaders of this thread are not there in another one. */
function sourceLoader(entry: URL): string {
  const api = import.meta.resolve('tsx/esm/api');
  return `import('${api}').then(({ register }) => { register(); return import('${entry}'); });`;
}

/** Answers the calls of the thread that started this one. */
export function answerCalls(functions: Functions, port: MessagePort = parentPort!): void {
  port.on('message', async ([call, name, given]: Call) => {
    const answer = (...rest: readonly [value: unknown, failure?: Failure]) =>
      port.postMessage([call, ...rest] satisfies Answer);
    try {
      answer(await functions[name]!(...(given as never[])));
    } catch (error) {
      answer(undefined, failureOf(error));
    }
  });
}

function failureOf(error: unknown): Failure {
  if (!(error instanceof Error)) return { message: String(error), stack: undefined, told: undefined };
  const { message, stack } = error;
  if (!(error instanceof OnelaunchError)) return { message, stack, told: undefined };
  const { kind, hint, option } = error;
  return { message, stack, told: { kind, hint, option } };
}

function errorOf({ message, stack, told }: Failure): Error {
  const { kind, hint, option } = told ?? {};
  const error =
    kind === undefined
      ? new Error(message)
      : new OnelaunchError(kind, message, {
          ...(hint !== undefined && { hint }),
          ...(option !== undefined && { option }),
        });
  if (stack !== undefined) error.stack = stack;
  return error;
}
