/**
 * Owns: what a backend's refusal means for the person who asked: one code, one cause, one cure for
 * each.
 * Runs in: server processes and the CLI (`info`), on the JS main thread.
 * Must not: talk to the backend.
 */
import { type ErrorCode, GatewayError } from '../errors.ts';
import type { NbdListEntry } from './options.ts';
import type { Refusal } from './replies.ts';
import { quoted } from './text.ts';
import * as wire from './wire.ts';

/** Exports that an error names, at most. */
const NAMED_EXPORTS = 10;

type Meaning = readonly [code: ErrorCode, why: string, cure: string];

const MEANINGS: Readonly<Record<number, Meaning>> = {
  [wire.REP_ERR_POLICY]: [
    'UNBD_EXPORT_REFUSED',
    'its policy forbids it',
    'allow this client in its configuration',
  ],
  [wire.REP_ERR_PLATFORM]: [
    'UNBD_EXPORT_REFUSED',
    'its platform cannot do it',
    'look at the log of the backend',
  ],
  [wire.REP_ERR_TLS_REQD]: [
    'UNBD_BACKEND_TLS_REQUIRED',
    'it demands TLS, which is not supported yet',
    'allow plain connections to it on a trusted network, or use a tunnel',
  ],
  [wire.REP_ERR_SHUTDOWN]: [
    'UNBD_BACKEND_CLOSED',
    'it is shutting down',
    'try again when it is back',
  ],
  [wire.REP_ERR_BLOCK_SIZE_REQD]: [
    'UNBD_EXPORT_REFUSED',
    'it demands that block sizes are negotiated, though they were asked for',
    'this is a fault of the backend: update it',
  ],
  [wire.REP_ERR_EXT_HEADER_REQD]: [
    'UNBD_EXPORT_REFUSED',
    'it demands extended headers, which are not supported',
    'allow clients without them in its configuration',
  ],
  [wire.REP_ERR_TOO_BIG]: [
    'UNBD_EXPORT_REFUSED',
    'it finds the request too big',
    'use a shorter export name',
  ],
};

/** Refusals that no fallback mends: they hold for whatever is asked next. */
export function isFinal(refusal: Refusal): boolean {
  return (
    refusal.refusedWith === wire.REP_ERR_TLS_REQD || refusal.refusedWith === wire.REP_ERR_SHUTDOWN
  );
}

/** The error for a refused export; `exports` is what the backend lists, if it does. */
export function refusalError(
  peer: string,
  exportName: string,
  refusal: Refusal,
  exports: readonly NbdListEntry[] | undefined,
): GatewayError {
  const says = refusal.text === '' ? '' : ` (it says: ${refusal.text})`;
  if (refusal.refusedWith === wire.REP_ERR_UNKNOWN) {
    return unknownExport(peer, exportName, says, exports);
  }
  const [code, why, cure] = MEANINGS[refusal.refusedWith] ?? [
    'UNBD_EXPORT_REFUSED',
    `${wire.replyName(refusal.refusedWith)} to ${wire.optionName(refusal.option)}`,
    'look at the log of the backend',
  ];
  const message = `backend ${peer} refuses ${exportText(exportName, 'the ')}: ${why}${says}`;
  return new GatewayError(code, message, { hint: cure });
}

export function unknownExport(
  peer: string,
  exportName: string,
  says: string,
  exports: readonly NbdListEntry[] | undefined,
): GatewayError {
  const message = `backend ${peer} has no ${exportText(exportName)}${says}`;
  return new GatewayError('UNBD_EXPORT_UNKNOWN', message, { hint: existing(exports) });
}

function exportText(exportName: string, article = ''): string {
  return exportName === '' ? `${article}default export` : `export ${quoted(exportName)}`;
}

function existing(exports: readonly NbdListEntry[] | undefined): string {
  if (exports === undefined) return 'it does not list its exports: look at its configuration';
  if (exports.length === 0) return 'it lists no exports at all';
  const names = exports.slice(0, NAMED_EXPORTS).map(({ name }) => quoted(name));
  const more = exports.length - names.length;
  return `it has ${names.join(', ')}${more > 0 ? ` and ${more} more` : ''}: name one with -N`;
}
