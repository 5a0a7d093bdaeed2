// With what a command exits.

export const exitCode = { ok: 0, failed: 1, usage: 2, environment: 3 } as const;

/** As shells say of one that a signal ended. */
export const endedBy = { SIGINT: 130, SIGTERM: 143, SIGHUP: 129 } as const;
