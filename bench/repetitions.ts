/**
 * Owns: the order of the runs of a bench that repeats them.
 * Runs in: the bench's process on the host.
 * Must not: know what is measured.
 */

/** Every repetition in the opposite order of the one before it, so that a drift shows as spread. */
export function repeated<Run>(once: (repetition: number) => Run[], repetitions: number): Run[] {
  const runs: Run[] = [];
  for (let repetition = 1; repetition <= repetitions; repetition++) {
    const these = once(repetition);
    runs.push(...(repetition % 2 === 1 ? these : these.reverse()));
  }
  return runs;
}
