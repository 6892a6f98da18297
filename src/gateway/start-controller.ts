/**
 * Owns: starting the controller in the background, in its own systemd unit where systemd runs.
 * Runs in: the CLI, and server processes whose controller died.
 * Must not: tie the controller to the caller's terminal, session, cgroup or environment, or start
 * two: the controller itself makes sure of that with its lock.
 */
import { spawn } from 'node:child_process';
import { randomUUID } from 'node:crypto';
import { GatewayError } from '../protocols/errors.ts';
import { cleanEnvironment, modulePath, outsideOf, runsSystemd } from './environment.ts';
import { openChildLog } from './log.ts';
import { helperPath } from './native.ts';

const SYSTEMD_RUN_TIMEOUT_MS = 4_000;

/**
 * Starts it; that it worked the caller finds out by connecting. Two at once are harmless: one ends.
 * Resolves when it has ended: with what went wrong, or with undefined when it was one too many or
 * found nothing to do. The end of a systemd unit does not show here.
 */
export async function startController(
  from: 'cli' | 'server-process' = 'cli',
): Promise<GatewayError | undefined> {
  if (!runsSystemd() || !(await startUnit())) return startDetached(from);
  return new Promise(() => undefined);
}

/**
 * Another one each time: a unit whose controller has ended stays loaded, and its name taken, while
 * server processes live in it. That there is one controller is the business of its lock.
 */
function unitName(): string {
  return `ublk-nbd-controller-${randomUUID().slice(0, 8)}`;
}

/** False when systemd-run could not do it. */
function startUnit(): Promise<boolean> {
  const environment = cleanEnvironment();
  delete environment.JOURNAL_STREAM;
  const argv = [
    '--quiet',
    '--collect',
    `--unit=${unitName()}`,
    '--description=ublk-nbd controller',
    // Server processes live in this unit and go on when the controller ends, killed by whatever.
    '--property=KillMode=process',
    '--property=OOMPolicy=continue',
    '--property=SyslogIdentifier=ublk-nbd',
    '--property=WorkingDirectory=/',
    '--property=TasksMax=infinity',
    ...Object.entries(environment).map(([name, value]) => `--setenv=${name}=${value}`),
    process.execPath,
    modulePath('controller-main'),
  ];
  return new Promise((resolve) => {
    const child = spawn('systemd-run', argv, {
      stdio: 'ignore',
      timeout: SYSTEMD_RUN_TIMEOUT_MS,
    });
    child.once('error', () => resolve(false));
    child.once('close', (code) => resolve(code === 0));
  });
}

/** What a server process has of the launcher's making (its mounts among it) is not passed on. */
function startDetached(from: 'cli' | 'server-process'): Promise<GatewayError | undefined> {
  const log = openChildLog();
  const controller = [process.execPath, modulePath('controller-main')];
  const argv = from === 'cli' ? controller : [helperPath(), 'leave', '--', ...controller];
  const child = spawn(argv[0] ?? '', argv.slice(1), {
    cwd: '/',
    detached: true,
    env: { ...cleanEnvironment(), ...(from === 'cli' ? {} : outsideOf(process.env)) },
    stdio: ['ignore', log.stdio, log.stdio],
  });
  child.unref();
  log.close();
  return new Promise((resolve) => {
    child.once('error', (cause) => resolve(notStarted(`cannot be started: ${cause.message}`)));
    child.once('exit', (status, signal) => {
      const wasWell = status === 0;
      resolve(wasWell ? undefined : notStarted(`ended (${signal ?? `status ${status}`})`));
    });
  });
}

function notStarted(how: string): GatewayError {
  return new GatewayError('UNBD_CONTROLLER', `the controller ${how}`, {
    hint: 'see: ublk-nbd logs, or run it in the foreground: ublk-nbd daemon --foreground',
  });
}
