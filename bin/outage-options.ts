/**
 * Owns: the options that say what happens while a backend is away or may have lost something.
 * Runs in: the CLI.
 * Must not: know which of them a target can honour.
 */
import type { ConnectOptions } from '../src/gateway/messages.ts';
import { usageError } from './command.ts';

const MAXIMUM_SECONDS = 86_400;

export const outageOptions = {
  'reconnect-delay': {
    type: 'string',
    requiresArg: true,
    describe: 'Seconds that requests wait for a lost backend, or inf; 0: they fail at once [30]',
  },
  'request-timeout': {
    type: 'string',
    requiresArg: true,
    describe: 'Seconds after which an unanswered request loses the connection [none]',
  },
  'open-timeout': {
    type: 'string',
    requiresArg: true,
    describe: 'Seconds that a backend which cannot be reached yet is tried again [0]',
  },
  'handshake-timeout': {
    type: 'string',
    requiresArg: true,
    describe: 'Seconds that one dial and one handshake may take [10]',
  },
  unflushed: {
    choices: ['replay', 'fail-flush', 'trust'],
    requiresArg: true,
    describe:
      'Writes that a lost backend may have forgotten: sent again, told, or trusted [replay]',
  },
  durability: {
    choices: ['flush', 'fua'],
    requiresArg: true,
    describe: 'Writes are durable after a flush, or each at once [flush]',
  },
  'resend-writes': {
    choices: ['yes', 'no'],
    requiresArg: true,
    describe: 'Send writes again whose fate is unknown; no: they end with an error [yes]',
  },
  resize: {
    type: 'boolean',
    describe: 'Grow the device when its export has grown by the time of a reconnect',
  },
  'on-crash': {
    choices: ['recover', 'fail'],
    requiresArg: true,
    describe: 'When the server process dies: another takes over, or I/O fails [recover]',
  },
} as const;

export const drainOption = {
  'drain-timeout': {
    type: 'string',
    requiresArg: true,
    describe: 'Seconds that a disconnect waits for a backend that takes nothing [30]',
  },
} as const;

/** Undefined where none was asked for; throws UNBD_USAGE. */
export function drainTimeoutMs(args: {
  readonly 'drain-timeout': string | undefined;
}): number | undefined {
  return milliseconds('drain-timeout', args['drain-timeout'], 0);
}

export interface OutageArguments {
  readonly 'reconnect-delay': string | undefined;
  readonly 'request-timeout': string | undefined;
  readonly 'open-timeout': string | undefined;
  readonly 'handshake-timeout': string | undefined;
  readonly unflushed: 'replay' | 'fail-flush' | 'trust' | undefined;
  readonly durability: 'flush' | 'fua' | undefined;
  readonly 'resend-writes': 'yes' | 'no' | undefined;
  readonly resize: boolean | undefined;
  readonly 'on-crash': 'recover' | 'fail' | undefined;
}

type OutageConnectOptions = Pick<
  ConnectOptions,
  | 'openTimeoutMs'
  | 'reconnectDelayMs'
  | 'requestTimeoutMs'
  | 'unflushed'
  | 'durability'
  | 'resendWrites'
  | 'onCrash'
  | 'resize'
>;

/** What was asked for; throws UNBD_USAGE. */
export function outageConnectOptions(args: OutageArguments): OutageConnectOptions {
  const delay = args['reconnect-delay'];
  const delayMs = delay === 'inf' ? -1 : milliseconds('reconnect-delay', delay, 0);
  const requestMs = milliseconds('request-timeout', args['request-timeout'], 0.1);
  const onCrash = args['on-crash'];
  const openMs = milliseconds('open-timeout', args['open-timeout'], 0);
  return {
    ...(openMs === undefined ? {} : { openTimeoutMs: openMs }),
    ...(delayMs === undefined ? {} : { reconnectDelayMs: delayMs }),
    ...(requestMs === undefined ? {} : { requestTimeoutMs: requestMs }),
    ...(args.unflushed === undefined ? {} : { unflushed: args.unflushed }),
    ...(args.durability === undefined ? {} : { durability: args.durability }),
    ...(args['resend-writes'] === 'no' ? { resendWrites: false } : {}),
    ...(onCrash === undefined ? {} : { onCrash }),
    ...(args.resize === true ? { resize: true } : {}),
  };
}

/** Limit of one dial and of one handshake, ms; undefined where none was asked for. */
export function handshakeTimeoutMs(args: OutageArguments): number | undefined {
  return milliseconds('handshake-timeout', args['handshake-timeout'], 0.1);
}

function milliseconds(
  name: string,
  text: string | undefined,
  leastSeconds: number,
): number | undefined {
  if (text === undefined) return undefined;
  const seconds = /^\d{1,6}(\.\d{1,3})?$/.test(text) ? Number(text) : Number.NaN;
  if (seconds >= leastSeconds && seconds <= MAXIMUM_SECONDS) return Math.round(seconds * 1000);
  const forever = name === 'reconnect-delay' ? ', or inf' : '';
  throw usageError(
    `--${name} ${text} is no time`,
    `give seconds from ${leastSeconds} to ${MAXIMUM_SECONDS}${forever}`,
  );
}
