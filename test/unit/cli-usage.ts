/**
 * Claim: every wrong command line ends with status 2 and one line that says what to type instead.
 * Method: the command line in this process; no gateway is there to be called.
 */
import t from 'tap';
import { nearest } from '../../bin/usage.ts';
import { cli } from '../support/cli.ts';

/** [what was typed, what the line says]. */
const WRONG: readonly (readonly [string, string])[] = [
  ['', 'no command is given; see: ublk-nbd --help'],
  ['conect host', "there is no command 'conect'; did you mean connect? see: ublk-nbd --help"],
  ['frobnicate', "there is no command 'frobnicate'; see: ublk-nbd --help"],
  [
    'connect host --quees 3',
    'there is no option --quees; did you mean --queues? see: ublk-nbd connect --help',
  ],
  [
    'connect host --readonly',
    'there is no option --readonly; did you mean --read-only? see: ublk-nbd connect --help',
  ],
  ['connect host -xr', 'there is no option -x; see: ublk-nbd connect --help'],
  ['--debgu list', 'there is no option --debgu; did you mean --debug? see: ublk-nbd --help'],
  ['connect', 'connect needs <target>; see: ublk-nbd connect --help'],
  ['mount host', 'mount needs <target> <directory>; see: ublk-nbd mount --help'],
  [
    'connect host other',
    "'other' is one argument too many for connect; see: ublk-nbd connect --help",
  ],
  ['connect host --queues', 'option --queues needs a value; see: ublk-nbd connect --help'],
  ['connect host --read-only=maybe', 'option --read-only takes no value'],
  ['disconnect', 'disconnect needs either a device or --all; see: ublk-nbd list'],
  ['disconnect 0 --all', 'disconnect needs either a device or --all; see: ublk-nbd list'],
  ['completion fish', "shell 'fish' is not one of: bash, zsh; see: ublk-nbd completion --help"],
  [
    'connect host --block-size 4k',
    "block-size '4k' is not one of: 512, 1024, 2048, 4096; see: ublk-nbd connect --help",
  ],
  [
    'connect host --queues 2 --connections 3',
    'queues 2 and connections 3 differ; every queue has one connection: give one of them',
  ],
];

t.test('a wrong command line is answered by one line', async (t) => {
  for (const [typed, line] of WRONG) {
    const result = await cli(typed === '' ? [] : typed.split(' '));
    t.same(
      result,
      { status: 2, stdout: '', stderr: `ublk-nbd: ${line} [UNBD_USAGE]\n` },
      `ublk-nbd ${typed}`,
    );
  }
});

t.test('numbers have ranges, and what is no whole number is refused', async (t) => {
  const bad = [
    ['queues', '0', 1, 64],
    ['queues', '65', 1, 64],
    ['queues', '1.5', 1, 64],
    ['queues', '-1', 1, 64],
    ['queues', 'many', 1, 64],
    ['queues', '0x10', 1, 64],
    ['queues', '1e1', 1, 64],
    ['queues', ' 1', 1, 64],
    ['queues', '', 1, 64],
    ['depth', '4097', 1, 4096],
    ['connections', '65', 1, 64],
    ['id', '1048576', 0, 1048575],
    ['id', '99999999999999999999', 0, 1048575],
  ] as const;
  for (const [name, value, minimum, maximum] of bad) {
    const { status, stderr } = await cli(['connect', 'host', `--${name}=${value}`]);
    t.equal(status, 2);
    t.match(
      stderr,
      `ublk-nbd: ${name} '${value}' is not`,
      `--${name}=${value} is named in the message`,
    );
    t.match(stderr, `is not a whole number from ${minimum} to ${maximum}; see:`);
    t.equal(stderr.split('\n').length, 2, 'one line');
  }
});

t.test('names that read as a device number or a path are refused', async (t) => {
  for (const name of ['5', 'ublkb5', '../up', 'a/b', '', 'x'.repeat(65), 'a b', '..']) {
    const { status, stderr } = await cli(['connect', 'host', `--name=${name}`]);
    t.equal(status, 2, `--name=${name}`);
    t.match(stderr, /cannot be used; take up to 64 of A-Z a-z 0-9/);
  }
});

t.test('a malformed target is an error of its own code, with the same status', async (t) => {
  const { status, stdout, stderr } = await cli(['info', 'host:99999']);
  t.equal(status, 2);
  t.equal(stdout, '');
  t.match(stderr, /^ublk-nbd: .*host:99999.* \[UNBD_TARGET_MALFORMED\]\n$/);
});

t.test('control characters of an argument do not reach the terminal', async (t) => {
  const { stderr } = await cli(['conn\u001b[31mect\nhost']);
  t.notMatch(stderr, '\u001b');
  t.equal(stderr.split('\n').length, 2, 'one line');
});

t.test('--help and --version print on stdout and succeed', async (t) => {
  const version = await cli(['--version']);
  t.same(version, { status: 0, stdout: 'ublk-nbd 1.2.3\n', stderr: '' });
  const help = await cli(['--help']);
  t.equal(help.status, 0);
  t.match(help.stdout, /Usage: ublk-nbd COMMAND/);
  for (const command of ['connect', 'disconnect', 'list', 'info', 'mount', 'umount', 'doctor']) {
    t.match(help.stdout, `ublk-nbd ${command}`);
    const own = await cli([command, '--help']);
    t.equal(own.status, 0, command);
    t.match(own.stdout, /Examples:\n {2}ublk-nbd /, `${command} --help has an example`);
  }
});

t.test('suggestions are near, or none', async (t) => {
  t.equal(nearest('lits', ['list', 'logs']), 'list');
  t.equal(nearest('dicsonnect', ['connect', 'disconnect']), 'disconnect');
  t.equal(nearest('q', ['queues', 'id']), undefined);
  t.equal(nearest('x'.repeat(100_000), ['queues']), undefined);
});
