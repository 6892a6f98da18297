/**
 * Owns: running the command line inside a test, with a gateway that the test scripts.
 * Runs in: unit tests.
 * Must not: start a controller or touch the machine.
 */
import t from 'tap';
import { runCli } from '../../bin/cli.ts';
import type { Context } from '../../bin/command.ts';
import type { Gateway } from '../../bin/gateway.ts';
import type { ConnectOptions, DeviceView } from '../../src/gateway/messages.ts';
import { parseTarget } from '../../src/protocols/target.ts';

// Each parse is some 40 ms of work; an emulated or busy machine takes its time for dozens of them.
t.setTimeout(180_000);

export interface CliResult {
  readonly status: number;
  readonly stdout: string;
  readonly stderr: string;
}

export interface CliSetup {
  readonly gateway?: Partial<Gateway>;
  readonly signal?: AbortSignal;
  readonly debug?: boolean;
  readonly progress?: (text: string | undefined) => void;
}

/** Runs `ublk-nbd ARGV`; a call of the gateway that the test did not expect is UNBD_INTERNAL. */
export async function cli(argv: readonly string[], setup: CliSetup = {}): Promise<CliResult> {
  let stdout = '';
  let stderr = '';
  const gateway = {
    parseTarget: async (text: string, exportName: string | undefined) =>
      parseTarget(text, exportName === undefined ? {} : { exportName }),
    ...setup.gateway,
  } as Gateway;
  const context: Context = {
    gateway,
    print: (text) => {
      stdout += `${text}\n`;
    },
    warn: (text) => {
      stderr += `ublk-nbd: ${text}\n`;
    },
    signal: () => setup.signal ?? new AbortController().signal,
    ...(setup.progress === undefined ? {} : { progress: setup.progress }),
  };
  const options = { version: '1.2.3', columns: 80, debug: setup.debug ?? false };
  const status = await runCli(argv, context, options);
  return { status, stdout, stderr };
}

/** A device as the controller answers it. */
export function deviceView(change: Partial<DeviceView> = {}): DeviceView {
  return {
    id: 0,
    path: '/dev/ublkb0',
    target: 'nbd://backup.example:10809',
    state: 'CONNECTED',
    sizeBytes: 1_610_612_736n,
    readOnly: false,
    queues: 1,
    depth: 64,
    logicalBlockBytes: 512,
    serverPid: 4711,
    connectedAtMs: 1_700_000_000_000,
    ...change,
  };
}

/** Runs `ublk-nbd connect ARGV` over a gateway that keeps what it is asked for. */
export async function connectWith(...argv: string[]) {
  const calls: ConnectOptions[] = [];
  const connect = async (options: ConnectOptions) => {
    calls.push(options);
    return deviceView();
  };
  const result = await cli(['connect', ...argv], { gateway: { connect } });
  return { ...result, options: calls[0], calls: calls.length };
}
