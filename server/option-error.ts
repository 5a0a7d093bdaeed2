// What the library says of its options, as a request is told it: by the names of its parameters.
import { ContextOverflowError, OnelaunchError } from '../errors.ts';
import { ApiError } from './api-error.ts';
import { pathText } from './body.ts';

/** An option or a parameter, and a place in it. */
export type OptionPath = readonly (string | number)[];

/** The error of a request for one of the library; another error as it is.
 *  @param paramOf the parameter that an option comes from; `prompt` is what did not fit */
export function inParams(error: unknown, paramOf: (option: OptionPath) => OptionPath): unknown {
  if (error instanceof ContextOverflowError) {
    const param = pathText(paramOf(['prompt']));
    return new ApiError(400, error.message, { param, code: 'context_length_exceeded' });
  }
  if (!(error instanceof OnelaunchError) || error.kind !== 'usage' || error.option === undefined)
    return error;
  const { message, option } = error;
  return new ApiError(400, renamed(message, option, paramOf), { param: pathText(paramOf(option)) });
}

/** A message that begins with an option, or a part of its path, with the parameter in its place. */
function renamed(message: string, option: OptionPath, paramOf: (option: OptionPath) => OptionPath): string {
  const said = message.replace(/^options\./, '');
  for (let length = option.length; length > 0; length--) {
    const path = option.slice(0, length);
    const name = path.join('.');
    const behind = said.slice(name.length);
    if (said.startsWith(name) && !/^[\w.]/.test(behind)) return pathText(paramOf(path)) + behind;
  }
  return message;
}
