// The times of a launch that the environment may set, checked: the library, which reads them, takes what is no number for 0.
import { OnelaunchError } from '../../errors.ts';

const variables = [
  ['ONELAUNCH_WAIT_MS', /^[1-9]\d{0,8}$/, 'a whole number of milliseconds from 1', '2000'],
  ['ONELAUNCH_POLL_CYCLES', /^\d{1,9}(,\d{1,9})*$/, 'whole numbers of cycles between commas', '1200,0,900'],
] as const;

/** @throws OnelaunchError usage for a variable of a stream that is none of its values */
export function checkTimes(env: Readonly<Record<string, string | undefined>>): void {
  for (const [name, shape, legal, example] of variables) {
    const text = env[name];
    if (text === undefined || shape.test(text)) continue;
    throw new OnelaunchError('usage', `${name} is '${text}', must be ${legal}`, {
      hint: `for example: ${name}=${example}, or unset it`,
    });
  }
}
