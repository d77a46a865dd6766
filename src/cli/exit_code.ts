// Exit codes that every command has, beside 0 and the 1 that each gives a meaning of its own.

/** The command line or the configuration is not valid. */
export const exitBadUsage = 2;
/** 128 + SIGINT, as shells have it. */
export const exitInterrupted = 130;
