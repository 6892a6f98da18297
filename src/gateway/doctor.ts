/**
 * Owns: `doctor`: what the host offers of what a device needs, as data, each with what mends it.
 * Runs in: the CLI; without root it tells what it could not see.
 * Must not: change anything, or need the controller.
 */
import { accessSync, constants, existsSync, readFileSync, statSync } from 'node:fs';
import { release } from 'node:os';
import { asGatewayError, type ErrorCode } from '../protocols/errors.ts';
import { driverControl } from './control.ts';
import { runsSystemd } from './environment.ts';
import { FEATURE_NAMES } from './features.ts';
import { readMounts } from './mount-table.ts';
import { helperPath, loadAddon } from './native.ts';
import { runDir } from './run-dir.ts';
import { readIfThere } from './sysfs.ts';
import { runTool } from './tool.ts';

export interface Check {
  readonly name: string;
  readonly ok: boolean;
  /** False: a device works without it, but something is missing or slower. */
  readonly required: boolean;
  readonly found: string;
  readonly cure?: string;
  /** What `connect` would fail with; UNBD_NO_DRIVER where that is not said. */
  readonly code?: ErrorCode;
}

const MINIMUM_KERNEL = [6, 12] as const;
const CONTROL_NODE = '/dev/ublk-control';
const REQUIRED_FEATURES = ['CMD_IOCTL_ENCODE', 'USER_COPY', 'USER_RECOVERY_REISSUE'] as const;
const USEFUL_FEATURES = ['SAFE_STOP_DEV', 'NO_AUTO_PART_SCAN', 'UPDATE_SIZE', 'QUIESCE'] as const;
/** capabilities(7) */
const CAP_IPC_LOCK = 14n;
/** What the tag buffers of one device can be. */
const BUFFER_BYTES = 64 * 1024 * 1024;
const TOOL_TIMEOUT_MS = 5_000;

/** All checks in the order in which they are best mended. */
export async function runDoctor(): Promise<readonly Check[]> {
  return [
    kernelVersion(release()),
    permission(process.geteuid?.() ?? -1),
    await driver(),
    controlDevice(),
    ioUring(readOptional('/proc/sys/kernel/io_uring_disabled')),
    addon(),
    helper(),
    ...(await features()),
    lockedMemory(readText('/proc/self/limits'), readText('/proc/self/status')),
    deviceNodes(),
    await lockTool(),
    serviceManager(),
    runFolder(),
  ];
}

function check(name: string, ok: boolean, found: string, cure: string, required = true): Check {
  return { name, ok, required, found, ...(ok ? {} : { cure }) };
}

export function kernelVersion(text: string): Check {
  const [major = 0, minor = 0] = text.split('.').map((part) => Number.parseInt(part, 10));
  const [wantedMajor, wantedMinor] = MINIMUM_KERNEL;
  const ok = major > wantedMajor || (major === wantedMajor && minor >= wantedMinor);
  const cure = `boot Linux ${MINIMUM_KERNEL.join('.')} or newer; on Debian 12 from its backports`;
  return { ...check('kernel', ok, `Linux ${text}`, cure), code: 'UNBD_KERNEL_TOO_OLD' };
}

function permission(uid: number): Check {
  const found = uid === 0 ? 'root' : `user ${uid}`;
  return { ...check('permission', uid === 0, found, 'run with sudo'), code: 'UNBD_NO_PERMISSION' };
}

/** The driver as a module or built in. */
async function driver(): Promise<Check> {
  if (existsSync('/sys/class/ublk-char')) return check('driver', true, 'ublk_drv is loaded', '');
  const { status } = await runTool('modprobe', ['-n', '-q', 'ublk_drv'], {
    timeoutMs: TOOL_TIMEOUT_MS,
  });
  return status === 0
    ? check('driver', false, 'ublk_drv is not loaded', 'run: modprobe ublk_drv')
    : check(
        'driver',
        false,
        'this kernel has no ublk_drv',
        'install the kernel package with all modules (on Ubuntu linux-modules-extra), ' +
          'or boot a kernel with CONFIG_BLK_DEV_UBLK',
      );
}

function controlDevice(): Check {
  const name = 'control device';
  const status = statSync(CONTROL_NODE, { throwIfNoEntry: false });
  if (status?.isCharacterDevice() !== true) {
    const cure = 'load the driver; in a container give it --device /dev/ublk-control';
    return check(name, false, `no ${CONTROL_NODE}`, cure);
  }
  try {
    accessSync(CONTROL_NODE, constants.R_OK | constants.W_OK);
    return check(name, true, CONTROL_NODE, '');
  } catch {
    return check(name, false, `no permission for ${CONTROL_NODE}`, 'run with sudo');
  }
}

export function ioUring(sysctl: string | undefined): Check {
  const found = sysctl === undefined ? 'on' : `kernel.io_uring_disabled = ${sysctl}`;
  const ok = sysctl === undefined || sysctl === '0' || sysctl === '1';
  return {
    ...check('io_uring', ok, found, 'run: sysctl kernel.io_uring_disabled=0'),
    code: 'UNBD_IO_URING_DISABLED',
  };
}

function addon(): Check {
  try {
    loadAddon();
    return check('addon', true, 'loads', '');
  } catch (thrown) {
    const { message, hint } = asGatewayError(thrown);
    const failed = check('addon', false, message, hint ?? 'run: npm run build');
    return { ...failed, code: 'UNBD_INTERNAL' };
  }
}

function helper(): Check {
  const ok = existsSync(helperPath());
  const found = ok ? helperPath() : 'is not built';
  return { ...check('helper', ok, found, 'run: npm run build'), code: 'UNBD_INTERNAL' };
}

async function features(): Promise<readonly Check[]> {
  let bits: bigint;
  try {
    bits = await driverControl.features();
  } catch (thrown) {
    const { message, hint } = asGatewayError(thrown);
    return [check('driver features', false, message, hint ?? 'see the checks above')];
  }
  const offered: readonly string[] = FEATURE_NAMES.filter(
    (_, bit) => ((bits >> BigInt(bit)) & 1n) === 1n,
  );
  const missing = (names: readonly string[]): string[] =>
    names.filter((name) => !offered.includes(name));
  const lacking = missing(REQUIRED_FEATURES);
  const useful = missing(USEFUL_FEATURES);
  return [
    check(
      'driver features',
      lacking.length === 0,
      lacking.length === 0 ? offered.join(' ') : `without ${lacking.join(' ')}`,
      `boot Linux ${MINIMUM_KERNEL.join('.')} or newer`,
    ),
    check(
      'newer driver features',
      useful.length === 0,
      useful.length === 0 ? 'all' : `without ${useful.join(' ')}`,
      'a newer kernel has them; everything works without',
      false,
    ),
  ];
}

/** CAP_IPC_LOCK, which root has unless a container took it away, makes the limit void. */
export function lockedMemory(limits: string, status: string): Check {
  const [, soft = 'unknown'] = /^Max locked memory\s+(\S+)/m.exec(limits) ?? [];
  const [, capabilities = '0'] = /^CapEff:\s*([0-9a-f]+)/m.exec(status) ?? [];
  const exempt = ((BigInt(`0x${capabilities}`) >> CAP_IPC_LOCK) & 1n) === 1n;
  const bytes = soft === 'unlimited' ? Number.POSITIVE_INFINITY : Number(soft);
  const limit = soft === 'unlimited' ? soft : `${Math.floor(bytes / 2 ** 20)} MiB`;
  const found = exempt ? 'CAP_IPC_LOCK: no limit' : limit;
  const cure = 'raise it: ulimit -l unlimited, or LimitMEMLOCK=infinity in the unit';
  return check('locked memory', exempt || bytes >= BUFFER_BYTES, found, cure, false);
}

function deviceNodes(): Check {
  const type = readMounts().findLast((mount) => mount.directory === '/dev')?.fileSystem;
  const ok = type === 'devtmpfs';
  const found = ok ? 'devtmpfs makes them' : `/dev is ${type ?? 'a plain folder'}`;
  return check('device nodes', ok, found, 'ublk-nbd makes them: give it CAP_MKNOD', false);
}

async function lockTool(): Promise<Check> {
  const { status } = await runTool('flock', ['--version'], { timeoutMs: TOOL_TIMEOUT_MS });
  const found = status === 0 ? 'found' : 'not found';
  return check('flock(1)', status === 0, found, 'install util-linux');
}

function serviceManager(): Check {
  const found = runsSystemd() ? 'systemd' : 'none: the controller is a process of its own';
  return check('service manager', true, found, '');
}

function runFolder(): Check {
  const path = runDir();
  const status = statSync(path, { throwIfNoEntry: false });
  if (status === undefined) return check('run directory', true, `${path} will be made`, '');
  const ok = status.isDirectory() && status.uid === 0 && (status.mode & 0o022) === 0;
  return check('run directory', ok, path, `run: chown root: ${path} && chmod 700 ${path}`);
}

function readText(path: string): string {
  return readFileSync(path, 'utf8');
}

function readOptional(path: string): string | undefined {
  return readIfThere(path)?.trim();
}
