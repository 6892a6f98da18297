/**
 * Owns: how much is tested in this run.
 * Runs in: device test processes.
 * Must not: decide what that means for a test; each says so itself.
 */
import { readFileSync } from 'node:fs';

const amount = process.env.UBLK_NBD_TEST_AMOUNT;

/** True in `npm run test:full`: all combinations, the long times. */
export const isFull = amount === 'full';

/** True where these are still too many: the virtual machines of `npm test`. */
export const isLeast = amount === 'least';

/** True where just the claims are played that the least amount leaves out. */
export const isRest = amount === 'rest';

/** True on an emulated processor: one of each kind where there are many alike. */
export const isBrief = amount === 'brief' || isLeast || isRest;

/** True where time means nothing: promises in seconds are of a real processor and kernel. */
export const isSlow = isBrief || readFileSync('/proc/cpuinfo', 'utf8').includes('QEMU TCG');
