/**
 * Owns: misbehaviour in the answer to NBD_OPT_LIST, which `info` and the error for an unknown
 * export ask for.
 * Runs in: test processes.
 * Must not: hold what `connect` to a known export would see.
 */
import { playHandshake } from './scripted-nbd-backend.ts';
import type { HandshakeFault } from './scripted-nbd-faults.ts';
import { listEntry, OPT, optionReply, REP, u32 } from './scripted-nbd-wire.ts';

const SERVER = (data: Uint8Array) => optionReply(OPT.list, REP.server, data);
const ACK = optionReply(OPT.list, REP.ack);

function lists(name: string, text: RegExp | undefined, ...replies: readonly Buffer[]) {
  const fault: HandshakeFault = {
    name,
    expected: text === undefined ? { code: 'works' } : { code: 'UNBD_BACKEND_PROTOCOL', text },
    play: (peer, settings) =>
      playHandshake(peer, settings, async ({ option }) => {
        if (option !== OPT.list) return undefined;
        await peer.write(...replies);
        return 'answered';
      }),
  };
  return fault;
}

const many = (count: number, entry: Buffer) => Array.from({ length: count }, () => entry);

/** By name; every one is played to `info`. */
export const listFaults: readonly HandshakeFault[] = [
  lists('list-entry-of-3-bytes', /NBD_REP_SERVER of 3/, SERVER(Buffer.alloc(3)), ACK),
  lists('list-name-longer-than-its-reply', /name of 9 bytes/, SERVER(u32(9)), ACK),
  lists('list-name-of-4-gib', /4294967295/, SERVER(u32(0xffffffff)), ACK),
  lists('list-name-of-4097-bytes', /4097/, SERVER(listEntry('n'.repeat(4097))), ACK),
  lists(
    'list-description-too-long',
    /name of 1 bytes/,
    SERVER(listEntry('n', 'd'.repeat(4097))),
    ACK,
  ),
  lists('list-entry-of-64-kib', /65540 bytes/, SERVER(listEntry('n'.repeat(65536))), ACK),
  lists('list-of-10001-exports', /10000 exports/, ...many(10_001, SERVER(listEntry('n'))), ACK),
  lists(
    'list-of-2-mib',
    /1048576 bytes/,
    ...many(300, SERVER(listEntry('n'.repeat(4000), 'd'.repeat(4000)))),
  ),
  lists('list-answered-with-info', /NBD_REP_INFO/, optionReply(OPT.list, REP.info, 'xx')),
  lists('list-ack-with-data', /NBD_REP_ACK of 1/, optionReply(OPT.list, REP.ack, 'x')),
  lists('list-of-10000-exports', undefined, ...many(10_000, SERVER(listEntry('n'))), ACK),
];
