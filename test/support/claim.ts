/**
 * Owns: what every device test has around it: a scope, a limit of time, the check that nothing is
 * left.
 * Runs in: device test processes under a kernel with the ublk driver. node:test, not tap: tap's
 * own start costs more than most tests where the processor is emulated.
 * Must not: skip: a claim that cannot be tested here is a failure.
 */
import { spawnSync } from 'node:child_process';
import test, { before } from 'node:test';
import { isFull, isLeast, isRest } from './amount.ts';
import { assertNothingLeft } from './leftovers.ts';
import { Scope } from './scope.ts';

/** Emulated processors are slow, long runs are long; a claim that needs more says so. */
const TIMEOUT_MS = isFull ? 1_800_000 : 300_000;

before(() => {
  // Where the kernel has the driver built in, there is no module to load.
  spawnSync('modprobe', ['-q', 'ublk_drv']);
});

interface ClaimOptions {
  readonly timeoutMs?: number;
}

/** A test whose name is what it claims. Afterwards everything that it made has to be gone. */
export function claim(
  name: string,
  body: (scope: Scope) => Promise<void>,
  options: ClaimOptions = {},
): void {
  if (!isRest) play(name, body, options);
}

/** Another form of what a neighbour claims: the least amount makes do with the neighbour. */
export function claimToo(...words: Parameters<typeof play>): void {
  if (!isLeast) play(...words);
}

function play(name: string, body: (scope: Scope) => Promise<void>, options: ClaimOptions = {}) {
  test(name, { timeout: options.timeoutMs ?? TIMEOUT_MS }, async () => {
    const scope = new Scope();
    const errors: unknown[] = [];
    for (const step of [() => told(body, scope), () => scope.close(), assertNothingLeft]) {
      try {
        await step();
      } catch (error) {
        errors.push(error);
      }
    }
    if (errors.length === 1) throw errors[0];
    if (errors.length > 1) throw new Error(errors.map(String).join('\nand then: '));
  });
}

/** The body; where it fails, what its programs said before they ended. */
async function told(body: (scope: Scope) => Promise<void>, scope: Scope): Promise<void> {
  try {
    await body(scope);
  } catch (error) {
    for (const line of scope.testimony()) process.stdout.write(`# ended: ${line}\n`);
    throw error;
  }
}

/** A number that a run prints and that decides nothing: emulated machines are slow. */
export function tellFigure(text: string): void {
  process.stdout.write(`# figure: ${text}\n`);
}
