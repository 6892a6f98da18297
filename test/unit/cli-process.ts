/**
 * Claim: the program itself is well-behaved: streams, signals, statuses, completion in a real bash.
 * Method: compiles the program into a folder of its own and runs it as a process.
 */
import { spawn, spawnSync } from 'node:child_process';
import { openSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import { cli } from '../support/cli.ts';
import { packageFolder } from '../support/package-folder.ts';
import { compileProgram } from '../support/sources.ts';

const program = [compileProgram(packageFolder, t.testdir())];
const { version } = JSON.parse(readFileSync(join(packageFolder, 'package.json'), 'utf8'));

function run(argv: readonly string[], environment: Readonly<Record<string, string>> = {}) {
  const env = { ...process.env, ...environment };
  const result = spawnSync(process.execPath, [...program, ...argv], { encoding: 'utf8', env });
  return { status: result.status, stdout: result.stdout, stderr: result.stderr };
}

t.test('--version prints the version of the package', async (t) => {
  t.same(run(['--version']), { status: 0, stdout: `ublk-nbd ${version}\n`, stderr: '' });
});

t.test('an error is on stderr, in one line, without a stack', async (t) => {
  const { status, stdout, stderr } = run(['info', 'nbd+ftp://host'], { UBLK_NBD_DEBUG: '0' });
  t.equal(status, 2);
  t.equal(stdout, '');
  t.match(stderr, /^ublk-nbd: [^\n]+ \[UNBD_TARGET_MALFORMED\]\n$/);
});

t.test('UBLK_NBD_DEBUG adds the stack', async (t) => {
  const { stderr } = run(['info', 'nbd+ftp://host'], { UBLK_NBD_DEBUG: '1' });
  t.match(
    stderr,
    /^ublk-nbd: [^\n]+ \[UNBD_TARGET_MALFORMED\]\nublk-nbd: GatewayError: .*\n {4}at /,
  );
});

t.test('a reader that closes the pipe is no error', async (t) => {
  const child = spawn(process.execPath, [...program, '--help'], {
    env: process.env,
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  child.stdout.destroy();
  let stderr = '';
  child.stderr.on('data', (chunk: Buffer) => {
    stderr += chunk;
  });
  const status = await new Promise((resolve) => child.on('close', resolve));
  t.equal(stderr, '');
  t.equal(status, 0);
});

t.test('output that cannot be written is an error', async (t) => {
  const full = openSync('/dev/full', 'w');
  const { status, stderr } = spawnSync(process.execPath, [...program, '--help'], {
    encoding: 'utf8',
    env: process.env,
    stdio: ['ignore', full, 'pipe'],
  });
  t.equal(status, 70);
  t.match(stderr, /^ublk-nbd: cannot write to stdout: .*ENOSPC[^\n]* \[UNBD_INTERNAL\]\n$/);
});

t.test('bash accepts its completion script and gets words by it', async (t) => {
  const { stdout: script } = await cli(['completion', 'bash']);
  const command = [process.execPath, ...program].map((word) => `'${word}'`).join(' ');
  const complete = (...words: string[]) => {
    const quoted = words.map((word) => `'${word}'`).join(' ');
    const result = spawnSync(
      'bash',
      [
        '-euc',
        `
      ublk-nbd() { ${command} "$@"; }
      ${script}
      COMP_WORDS=(ublk-nbd ${quoted}); COMP_CWORD=${words.length}
      _ublk_nbd
      printf '%s\\n' "\${COMPREPLY[@]}"`,
      ],
      // With a socket as its stdin bash takes itself for a remote shell, and reads its rc files.
      { encoding: 'utf8', env: process.env, stdio: ['ignore', 'pipe', 'pipe'] },
    );
    t.equal(result.stderr, '');
    return result.stdout.trim().split('\n');
  };
  t.strictSame(complete('connect', 'host', '--q'), ['--queues']);
  t.strictSame(complete('completion', 'z'), ['zsh']);
});

t.test('zsh gets its own script', async (t) => {
  const { stdout } = await cli(['completion', 'zsh']);
  t.match(stdout, /^#compdef ublk-nbd\n/);
  const words = run(['--get-yargs-completions', 'ublk-nbd', 'dis'], { SHELL: 'zsh' });
  t.equal(words.stdout, 'disconnect:Flush a device to its backend and remove it\n');
});
