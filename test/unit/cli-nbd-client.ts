/**
 * Claim: what users of nbd-client type by habit is answered with the command that does it here.
 * Method: the command line in this process; nothing of it is run.
 */
import t from 'tap';
import { cli } from '../support/cli.ts';

/** [typed, the command of the answer]. */
const HABITS: readonly (readonly [string, string])[] = [
  ['connect host 10809', 'ublk-nbd connect host:10809'],
  ['connect host 10809 /dev/nbd0', 'ublk-nbd connect host:10809 --id 0'],
  ['connect host /dev/nbd3', 'ublk-nbd connect host --id 3'],
  ['connect ::1 10810', 'ublk-nbd connect [::1]:10810'],
  ['connect host 10809 -N disk', 'ublk-nbd connect host:10809 --export disk'],
  ['host 10809 /dev/nbd0', 'ublk-nbd connect host:10809 --id 0'],
  ['host /dev/nbd0 -name disk', 'ublk-nbd connect host --export disk --id 0'],
  ['-unix /run/nbd.sock /dev/nbd1', "ublk-nbd connect 'nbd+unix:///?socket=/run/nbd.sock' --id 1"],
  ['list host', 'ublk-nbd info host'],
  ['list host 10810', 'ublk-nbd info host:10810'],
  ['-l host', 'ublk-nbd info host'],
  ['-l host 10810', 'ublk-nbd info host:10810'],
  ['--list ::1', 'ublk-nbd info [::1]'],
  ['-d /dev/nbd0', 'ublk-nbd disconnect /dev/ublkb0'],
  ['disconnect /dev/nbd7', 'ublk-nbd disconnect /dev/ublkb7'],
  ['-d', 'ublk-nbd disconnect DEV'],
  ['-c /dev/nbd0', 'ublk-nbd list'],
];

t.test('a line for nbd-client is answered with the command of ours', async (t) => {
  for (const [typed, command] of HABITS) {
    const { status, stdout, stderr } = await cli(typed.split(' '));
    t.equal(status, 2, typed);
    t.equal(stdout, '');
    t.ok(
      stderr.startsWith(`ublk-nbd: this is how nbd-client is called; type: ${command}`),
      `${typed} -> ${stderr}`,
    );
    t.match(stderr, /^[^\n]* \[UNBD_USAGE\]\n$/);
  }
});

t.test('an argument with blanks is quoted in the answer', async (t) => {
  const { stderr } = await cli(['connect', 'host', '10809', '-N', "it's here"]);
  t.match(stderr, "--export 'it'\\''s here'");
});

t.test('lines for ours are not taken for nbd-client', async (t) => {
  const list = async () => [];
  t.equal((await cli(['list'], { gateway: { list } })).status, 0);
  t.equal((await cli(['list', '-v'], { gateway: { list } })).status, 0);
  const forced: unknown[] = [];
  const disconnect = async (device: string, { force }: { force: boolean }) =>
    void forced.push([device, force]);
  t.equal((await cli(['disconnect', '5'], { gateway: { disconnect } })).status, 0);
  t.same(forced, [['5', false]]);
  const logs = async function* () {};
  t.equal((await cli(['logs', '5'], { gateway: { logs } })).status, 0);
  const { stderr } = await cli(['connect', '--queues', '2']);
  t.match(stderr, 'connect needs <target>');
});
