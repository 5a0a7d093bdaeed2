// The error for a status of the library.
import { type ErrorKind, OnelaunchError } from '../../errors.ts';
import { abiStatus } from './bindings.ts';

/** `text` is the library's own. `device` says what a device failure means: at the start, a lack of this machine. */
export function failure(status: number, text: string | null, device: ErrorKind): OnelaunchError {
  const kinds: Readonly<Record<number, ErrorKind>> = {
    [abiStatus.badArgument]: 'usage',
    [abiStatus.busy]: 'usage',
    [abiStatus.capacity]: 'usage',
    [abiStatus.outOfMemory]: 'environment',
    [abiStatus.device]: device,
  };
  const message = text === null || text === '' ? `the library failed with status ${status}` : text;
  const stage = status === abiStatus.device ? /^([a-z][a-z0-9_]*): /.exec(message)?.[1] : undefined;
  const hint = hints[status] === undefined ? {} : { hint: hints[status] };
  return new OnelaunchError(kinds[status] ?? 'failed', message, { ...hint, ...(stage ? { stage } : {}) });
}

const hints: Readonly<Record<number, string>> = {
  [abiStatus.outOfMemory]: 'try a smaller context',
  [abiStatus.notFinite]:
    'the weights hold NaN or an infinity, or an activation is too large for the format of the weights (fp16 ends at 65504): ' +
    'compare the files with those of the model, or convert it to bf16',
};
