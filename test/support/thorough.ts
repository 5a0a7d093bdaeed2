// What tests leave out where they run at each change; `npm run test:thorough` leaves out nothing.

/** Whether nothing is left out. */
export const thorough = process.env['ONELAUNCH_TEST_THOROUGH'] === '1';

/** Each n-th, from the first on; where nothing is left out all. */
export const oneOf = <T>(n: number, all: readonly T[]): T[] => all.filter((_, i) => thorough || i % n === 0);
