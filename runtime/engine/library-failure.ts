// The error for a status of the library.
import {
  type ErrorKind,
  InsufficientMemoryError,
  KernelTimeoutError,
  noThread,
  OnelaunchError,
} from '../../errors.ts';
import { abiStatus } from './bindings.ts';

/** `text` is the library's own. `device` says what a device failure means: at the start, a lack of this machine. */
export function failure(status: number, text: string | null, device: ErrorKind): OnelaunchError {
  const kinds: Readonly<Record<number, ErrorKind>> = {
    [abiStatus.badArgument]: 'usage',
    [abiStatus.busy]: 'usage',
    [abiStatus.capacity]: 'usage',
    [abiStatus.device]: device,
  };
  const message = text === null || text === '' ? `the library failed with status ${status}` : text;
  if (status === abiStatus.outOfMemory) return noMemory(message);
  if (status === abiStatus.internal && message === whyNoThread) return noThread();
  if (message.startsWith('cannot start thread ')) return noThread(undefined, message);
  const stage = status === abiStatus.device ? /^([a-z][a-z0-9_]*): /.exec(message)?.[1] : undefined;
  if (status === abiStatus.device && isLate.test(message)) return late(message, stage);
  const hint = hints[status] === undefined ? {} : { hint: hints[status] };
  return new OnelaunchError(kinds[status] ?? 'failed', message, { ...hint, ...(stage ? { stage } : {}) });
}

/** EAGAIN in the words of C++, of nothing else than a thread: std::system_error of std::thread. */
const whyNoThread = 'Resource temporarily unavailable';

/** What the library says of bytes, read back: it has no other words for them. */
function noMemory(message: string): InsufficientMemoryError {
  const bytesIn = (pattern: RegExp): number | undefined => {
    const [, number, unit] = pattern.exec(message) ?? [];
    return number === undefined ? undefined : Math.round(Number(number) * (unit === 'GiB' ? 2 ** 30 : 1e6));
  };
  return new InsufficientMemoryError(message, {
    neededBytes: bytesIn(/(?:needs|cannot allocate) ([\d.]+) (GiB|MB)\b/),
    freeBytes: bytesIn(/([\d.]+) (GiB) are free/),
    hint: 'try a smaller context; nvidia-smi shows what else is on a GPU',
  });
}

/** In the words of the schemes' hosts, or of CUDA. */
const isLate = /\bwaited (?:too long|more than \d+ s)\b|cudaErrorLaunchTimeout/;

/** How long a block of a stream waits for another where ONELAUNCH_WAIT_MS does not say [ms], as templates/cuda/stream/host/times.h has it. */
const usualWaitMs = 2000;

function late(message: string, named: string | undefined): KernelTimeoutError {
  const stage = / in stage ([a-z][a-z0-9_]*)/.exec(message)?.[1] ?? named;
  const seconds = /more than (\d+) s\b/.exec(message)?.[1];
  const ofStream = Number(process.env['ONELAUNCH_WAIT_MS'] ?? usualWaitMs);
  const timeoutMs =
    seconds !== undefined ? Number(seconds) * 1000 : /too long/.test(message) ? ofStream : undefined;
  return new KernelTimeoutError(message, { stage, timeoutMs });
}

const hints: Readonly<Record<number, string>> = {
  [abiStatus.notFinite]:
    'the weights hold NaN or an infinity, or a number is too large for fp16, which ends at 65504: an activation of fp16 weights, or a scale of a quantised file. ' +
    'Compare the files with those of the model; convert fp16 to bf16; --weights plain makes numbers of codes',
};
