/**
 * Owns: every misbehaviour during the handshake that the suite plays, each with the error that its
 * user has to see. The lines are those of the hardening checklist for NBD clients.
 * Runs in: test processes.
 * Must not: be trimmed to what happens to pass.
 */
import { ALL_FLAGS, goReplies, sendGreeting } from './scripted-nbd-backend.ts';
import {
  answers,
  closed,
  type Expected,
  greets,
  type HandshakeFault,
  late,
  refused,
  refuses,
  set,
  violation,
  WORKS,
} from './scripted-nbd-faults.ts';
import { exportFaults, infoFaults } from './scripted-nbd-info-faults.ts';
import { infoExport, MAGIC, OPT, optionReply, REP, u16, u32, u64 } from './scripted-nbd-wire.ts';

const SIZE = 4n << 20n;
const EXPORT = infoExport(SIZE, ALL_FLAGS);
const NEWSTYLE = Buffer.concat([u64(MAGIC.nbd), u64(MAGIC.newstyle)]);
const OLDSTYLE = Buffer.concat([
  u64(MAGIC.nbd),
  u64(MAGIC.oldstyle),
  u64(SIZE),
  u32(ALL_FLAGS),
  Buffer.alloc(124),
]);

const hangsUp = (name: string, bytes: Uint8Array, expected: Expected): HandshakeFault => ({
  name,
  expected,
  play: async (peer) => {
    await peer.write(bytes);
    return undefined;
  },
});

const greetingFaults: readonly HandshakeFault[] = [
  greets('greets-oldstyle', OLDSTYLE, { code: 'UNBD_BACKEND_OLDSTYLE', text: /oldstyle/ }),
  greets('greets-as-ssh', 'SSH-2.0-OpenSSH_9.2\r\n', {
    code: 'UNBD_BACKEND_PROTOCOL',
    text: /no NBD backend.*SSH/,
  }),
  greets('greets-as-http', 'HTTP/1.1 400 Bad Request\r\n\r\n', {
    code: 'UNBD_BACKEND_PROTOCOL',
    text: /no NBD backend.*HTTP/,
  }),
  greets('greets-with-control-characters', '\x1b[2J\x00\x07\xff\xfe', violation(/greets with/)),
  greets(
    'second-magic-is-wrong',
    Buffer.concat([u64(MAGIC.nbd), u64(MAGIC.nbd)]),
    violation(/second word/),
  ),
  hangsUp('closes-before-greeting', Buffer.alloc(0), closed(/its greeting/)),
  hangsUp('closes-in-greeting', NEWSTYLE.subarray(0, 11), closed(/its greeting/)),
  greets('never-greets', '', late(/its greeting/)),
  greets('hangs-in-greeting', NEWSTYLE.subarray(0, 12), late(/its greeting/)),
  greets(
    'greets-then-hangs',
    Buffer.concat([NEWSTYLE, u16(3)]),
    late(/NBD_OPT_(STRUCTURED_REPLY|GO)/),
  ),
  {
    name: 'drips-its-handshake',
    expected: late(/its answer|greeting|flags/),
    play: async (peer) => {
      await peer.drip(Buffer.concat([NEWSTYLE, u16(3), Buffer.alloc(1000)]), 100);
      return undefined;
    },
  },
  {
    name: 'closes-after-greeting',
    expected: closed(/NBD_OPT_(STRUCTURED_REPLY|GO)|first answer/),
    play: async (peer, settings) => {
      await sendGreeting(peer, settings);
      await peer.read(4);
      return undefined;
    },
  },
  set('unknown-handshake-flags', WORKS, { extraHandshakeFlags: 0xfffc }),
  set('newstyle-that-is-not-fixed', WORKS, { fixedNewstyle: false }),
  set('pads-with-124-zeroes', WORKS, { noZeroes: false, knowsGo: false }),
];

const structured = OPT.structuredReply;

const frameFaults: readonly HandshakeFault[] = [
  answers('option-reply-has-wrong-magic', OPT.go, violation(/begins with/), ({ option }) =>
    optionReply(option, REP.ack, '', { magic: MAGIC.newstyle }),
  ),
  answers('option-reply-names-another-option', OPT.go, violation(/names NBD_OPT_LIST/), () =>
    optionReply(OPT.list, REP.ack),
  ),
  answers('option-reply-of-unknown-type', OPT.go, violation(/reply type 0x4d/), ({ option }) =>
    optionReply(option, 77),
  ),
  refuses('ack-says-4-gib', OPT.go, REP.ack, violation(/4294967295/), '', {
    lengthBytes: 0xffffffff,
  }),
  refuses('error-text-says-4-gib', OPT.go, REP.policy, violation(/4294967295/), '', {
    lengthBytes: 0xffffffff,
  }),
  refuses('error-text-of-4097-bytes', OPT.go, REP.policy, violation(/4097/), 'x'.repeat(4097)),
  refuses('info-says-4-gib', OPT.go, REP.info, violation(/4294967295/), '', {
    lengthBytes: 0xffffffff,
  }),
  refuses('info-of-65537-bytes', OPT.go, REP.info, violation(/65537/), 'x'.repeat(65537)),
  refuses('structured-ack-with-data', structured, REP.ack, violation(/NBD_REP_ACK of 1/), 'x'),
  refuses('structured-answered-with-info', structured, REP.info, violation(/NBD_REP_INFO/), 'xx'),
  refuses('structured-refused-as-unknown', structured, REP.unsup, WORKS),
  refuses('structured-refused-by-policy', structured, REP.policy, WORKS, 'not for you'),
  refuses('structured-refused-by-invalid', structured, REP.invalid, WORKS),
  answers('go-ack-with-data', OPT.go, violation(/NBD_REP_ACK of 4/), ({ option }) =>
    Buffer.concat([optionReply(option, REP.info, EXPORT), optionReply(option, REP.ack, 'data')]),
  ),
  answers(
    'closes-in-an-option-reply',
    OPT.go,
    closed(/NBD_OPT_GO/),
    (asked, settings) => goReplies(settings, asked).subarray(0, 27),
    'hangs up',
  ),
  answers(
    'hangs-in-an-option-reply',
    OPT.go,
    late(/NBD_OPT_GO/),
    (asked, settings) => goReplies(settings, asked).subarray(0, 27),
    'waits',
  ),
  answers(
    'closes-instead-of-answering',
    OPT.go,
    closed(/NBD_OPT_GO/),
    () => Buffer.alloc(0),
    'hangs up',
  ),
];

const refusalFaults: readonly HandshakeFault[] = [
  set(
    'export-unknown',
    { code: 'UNBD_EXPORT_UNKNOWN', text: /it has "other"/ },
    { exports: [{ name: 'other' }] },
  ),
  set(
    'export-unknown-and-none-listed',
    { code: 'UNBD_EXPORT_UNKNOWN', text: /no exports/ },
    { exports: [] },
  ),
  set(
    'export-unknown-and-list-refused',
    { code: 'UNBD_EXPORT_UNKNOWN', text: /does not list/ },
    { exports: [], knowsList: false },
  ),
  set(
    'export-unknown-after-fallback',
    { code: 'UNBD_EXPORT_UNKNOWN', text: /it has "other"/ },
    { exports: [{ name: 'other' }], knowsGo: false },
  ),
  refuses(
    'go-refused-by-policy',
    OPT.go,
    REP.policy,
    refused(/policy.*not for you/),
    'not for you',
  ),
  refuses(
    'error-text-with-control-characters',
    OPT.go,
    REP.policy,
    refused(/says: a \[31m b c\)/),
    'a\x1b[31m\nb\0\u202ec',
  ),
  refuses('go-refused-by-platform', OPT.go, REP.platform, refused(/platform/)),
  refuses('go-refused-as-invalid', OPT.go, REP.invalid, refused(/NBD_REP_ERR_INVALID/)),
  refuses('go-refused-as-too-big', OPT.go, REP.tooBig, refused(/too big/)),
  refuses('go-refused-for-block-sizes', OPT.go, REP.blockSizeRequired, refused(/block sizes/)),
  refuses('go-refused-for-extended-headers', OPT.go, REP.extHeaderRequired, refused(/extended/)),
  refuses('go-refused-with-unknown-error', OPT.go, 0x8000abcd, refused(/0x8000abcd/)),
  refuses('go-refused-without-tls', OPT.go, REP.tlsRequired, { code: 'UNBD_BACKEND_TLS_REQUIRED' }),
  refuses('everything-refused-without-tls', structured, REP.tlsRequired, {
    code: 'UNBD_BACKEND_TLS_REQUIRED',
  }),
  refuses('go-refused-in-shutdown', OPT.go, REP.shutdown, closed(/shutting down/)),
  refuses('structured-refused-in-shutdown', structured, REP.shutdown, closed(/shutting down/)),
];

/** By name; every one is played to `connect`. */
export const handshakeFaults: readonly HandshakeFault[] = [
  ...greetingFaults,
  ...frameFaults,
  ...infoFaults,
  ...exportFaults,
  ...refusalFaults,
];
