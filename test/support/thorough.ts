// What tests leave out where they run at each change; `npm run test:thorough` leaves out nothing.

/** Whether nothing is left out. */
export const thorough = process.env['ONELAUNCH_TEST_THOROUGH'] === '1';
