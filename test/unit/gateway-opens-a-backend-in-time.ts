/**
 * Claim: a backend that cannot be reached yet is tried again for as long as the user wants, and
 * what another attempt does not mend is told at once.
 */
import t from 'tap';
import { openInTime } from '../../src/gateway/open-in-time.ts';
import { type ErrorCode, GatewayError } from '../../src/protocols/errors.ts';

/** Fails with each of `codes` in turn, then answers. */
function attempts(...codes: readonly ErrorCode[]) {
  let count = 0;
  const connect = async (): Promise<number> => {
    const code = codes[count];
    count += 1;
    if (code !== undefined) throw new GatewayError(code, `failure ${count}`, { hint: 'mend it' });
    return count;
  };
  return { connect, count: () => count };
}

const quiet = (): void => undefined;

t.test('refused, unknown to DNS, silent, closed: tried again', async (t) => {
  const { connect } = attempts(
    'UNBD_BACKEND_UNREACHABLE',
    'UNBD_BACKEND_UNKNOWN_HOST',
    'UNBD_BACKEND_CLOSED',
  );
  const notes: string[] = [];
  t.equal(await openInTime(connect, 60_000, (reason) => notes.push(reason)), 4);
  t.same(notes, ['failure 1', 'failure 2', 'failure 3']);
});

t.test('what the backend itself refuses is told at once', async (t) => {
  for (const code of ['UNBD_EXPORT_UNKNOWN', 'UNBD_BACKEND_PROTOCOL', 'UNBD_USAGE'] as const) {
    const { connect, count } = attempts(code);
    await t.rejects(openInTime(connect, 60_000, quiet), { code, message: 'failure 1' });
    t.equal(count(), 1);
  }
});

t.test('by default there is one attempt', async (t) => {
  const { connect, count } = attempts('UNBD_BACKEND_UNREACHABLE');
  await t.rejects(openInTime(connect, 0, quiet), { message: 'failure 1' });
  t.equal(count(), 1);
});

t.test('when the time is over the last failure is told, with its cure', async (t) => {
  const { connect, count } = attempts(...Array<ErrorCode>(100).fill('UNBD_BACKEND_UNREACHABLE'));
  const startedAtMs = performance.now();
  await t.rejects(openInTime(connect, 300, quiet), {
    code: 'UNBD_BACKEND_UNREACHABLE',
    message: /^failure \d+, tried for 0\.3 s$/,
    hint: 'mend it',
  });
  t.ok(performance.now() - startedAtMs >= 300);
  // How many more depends on the machine.
  t.ok(count() > 1);
});
