/**
 * Goal: a correct backend of any age is understood: what it offers, what it lacks, what it is
 * called; and it is left politely.
 * Method: the real handshake against correct scripted backends with different settings.
 */
import t from 'tap';
import { GatewayError } from '../../src/protocols/errors.ts';
import {
  exportInfo,
  listExports,
  type NegotiateOptions,
  negotiate,
} from '../../src/protocols/nbd/handshake.ts';
import { sameExport } from '../../src/protocols/nbd/same-export.ts';
import { ALL_FLAGS, type BackendSettings, playHandshake } from '../support/scripted-nbd-backend.ts';
import type { HandshakeFault } from '../support/scripted-nbd-faults.ts';
import { type PairOptions, playInMemory } from '../support/scripted-nbd-pair.ts';
import { CMD, FLAG, MAGIC, OPT } from '../support/scripted-nbd-wire.ts';

const TIMEOUT_MS = 20_000;

async function enter(
  settings: Partial<BackendSettings> = {},
  { exportName = 'disk', structuredReplies }: Partial<NegotiateOptions> = {},
) {
  const { stream } = playInMemory(undefined, { settings });
  const options = { exportName, timeoutMs: TIMEOUT_MS, structuredReplies };
  return { stream, found: await negotiate(stream, options) };
}

const STRUCTURED = { structuredReplies: true };

async function refusal(promise: Promise<unknown>): Promise<GatewayError> {
  const error = await promise.then(
    () => undefined,
    (reason) => reason,
  );
  if (error instanceof GatewayError) return error;
  throw new Error('was not refused');
}

t.test('an export is described by its flags and block sizes', async (t) => {
  const { found } = await enter({ blockBytes: [512, 65536, 1 << 20], description: 'a disk' });
  t.same(found, {
    info: {
      sizeBytes: 4n << 20n,
      readOnly: false,
      canFlush: true,
      canFua: true,
      canTrim: true,
      canWriteZeroes: true,
      canFastZero: true,
      canMultiConn: true,
      rotational: false,
      minimumBlockBytes: 512,
      preferredBlockBytes: 65536,
      maximumBlockBytes: 1 << 20,
    },
    structuredReplies: false,
    transmissionFlags: ALL_FLAGS,
    name: 'disk',
    description: 'a disk',
  });
});

t.test('each flag is one ability, and no other', async (t) => {
  const abilities = [
    [FLAG.readOnly, 'readOnly'],
    [FLAG.flush, 'canFlush'],
    [FLAG.fua, 'canFua'],
    [FLAG.rotational, 'rotational'],
    [FLAG.trim, 'canTrim'],
    [FLAG.writeZeroes, 'canWriteZeroes'],
    [FLAG.multiConn, 'canMultiConn'],
  ] as const;
  for (const [flag, ability] of abilities) {
    const { info } = (await enter({ transmissionFlags: FLAG.hasFlags | flag })).found;
    t.same(
      Object.entries(info).filter(([, value]) => value === true),
      [[ability, true]],
    );
  }
  const { info } = (await enter({ transmissionFlags: FLAG.hasFlags | FLAG.fastZero })).found;
  t.equal(info.canFastZero, false, 'FAST_ZERO is nothing without WRITE_ZEROES');
});

t.test('without block sizes the safe ones of the specification hold', async (t) => {
  for (const settings of [{ blockBytes: undefined }, { knowsGo: false }]) {
    const { info } = (await enter(settings)).found;
    t.equal(info.minimumBlockBytes, 512);
    t.equal(info.preferredBlockBytes, 4096);
    t.equal(info.maximumBlockBytes, 32 << 20);
  }
});

t.test('an odd maximum is cut to what splits into aligned pieces', async (t) => {
  const maximum = async (...blockBytes: [number, number, number]) =>
    (await enter({ blockBytes })).found.info.maximumBlockBytes;
  t.equal(await maximum(1, 4096, 99_999), 99_840);
  t.equal(await maximum(4096, 4096, 99_999), 98_304);
  t.equal(await maximum(1, 4096, 0xffffffff), 0xffffffff);
});

t.test('one option is one send', async (t) => {
  t.equal((await enter()).stream.sends, 2, 'client flags, GO');
  t.equal((await enter({}, STRUCTURED)).stream.sends, 3, 'client flags, STRUCTURED_REPLY, GO');
});

t.test('structured replies are for who asks for them and a backend that has them', async (t) => {
  for (const [settings, asked, agreed] of [
    [{}, {}, false],
    [{}, STRUCTURED, true],
    [{ knowsGo: false }, {}, false],
    [{ knowsGo: false }, STRUCTURED, true],
    [{ structuredReplies: false }, STRUCTURED, false],
    [{ fixedNewstyle: false }, STRUCTURED, false],
  ] as const) {
    const { found } = await enter(settings, asked);
    t.equal(found.structuredReplies, agreed, JSON.stringify([settings, asked]));
  }
});

t.test('nothing past the handshake is taken off the stream', async (t) => {
  for (const settings of [{}, { knowsGo: false }, { knowsGo: false, noZeroes: false }]) {
    const { stream } = playInMemory(undefined, {
      settings,
      afterwards: async (peer) => {
        await peer.write(Buffer.alloc(16, 0x4d));
        await peer.drain();
      },
    });
    await negotiate(stream, { exportName: 'disk', timeoutMs: TIMEOUT_MS });
    stream.setDeadline(TIMEOUT_MS);
    t.same(await stream.recv(16), Buffer.alloc(16, 0x4d));
    t.equal(stream.unreadBytes, 0);
  }
});

t.test('old backends are entered by name', async (t) => {
  for (const settings of [
    { knowsGo: false },
    { knowsGo: false, knowsList: false },
    { knowsGo: false, noZeroes: false },
    { fixedNewstyle: false },
    { fixedNewstyle: false, noZeroes: false },
  ]) {
    t.equal((await enter(settings)).found.info.sizeBytes, 4n << 20n);
  }
});

t.test('an unknown export is answered with up to ten that there are', async (t) => {
  const exports = Array.from({ length: 12 }, (_, n) => ({ name: `disk${n}` }));
  for (const settings of [{ exports }, { exports, knowsGo: false }]) {
    const error = await refusal(enter(settings, { exportName: 'missing' }));
    t.equal(error.code, 'UNBD_EXPORT_UNKNOWN');
    t.match(error.line, /backend test:1 has no export "missing"/);
    t.match(error.line, /it has "disk0", .*"disk9" and 2 more: name one with -N/);
  }
  t.match((await refusal(enter({ exports }, { exportName: '' }))).line, /has no default export/);
  const hidden = await refusal(enter({ exports, fixedNewstyle: false }, { exportName: 'missing' }));
  t.match(hidden.line, /has no export "missing".*does not list its exports/);
});

/** A correct backend that writes down how the client left. */
function farewells(): { readonly fault: HandshakeFault; readonly seen: string[] } {
  const seen: string[] = [];
  const fault: HandshakeFault = {
    name: 'a correct backend',
    expected: { code: 'works' },
    play: (peer, settings) =>
      playHandshake(peer, settings, async ({ option }) => {
        if (option === OPT.abort) seen.push('abort');
        return undefined;
      }),
  };
  return { fault, seen };
}

function leaving(seen: string[]): PairOptions['afterwards'] {
  return async (peer) => {
    const request = await peer.read(28);
    const isDisconnect =
      request.readUInt32BE(0) === MAGIC.request && request.readUInt16BE(6) === CMD.disc;
    seen.push(isDisconnect ? 'disc' : 'something else');
  };
}

async function farewell(
  settings: Partial<BackendSettings>,
  use: (stream: Parameters<typeof negotiate>[0]) => Promise<unknown>,
): Promise<readonly string[]> {
  const { fault, seen } = farewells();
  const afterwards = leaving(seen);
  const { stream, script } = playInMemory(fault, { settings, ...(afterwards && { afterwards }) });
  await use(stream).catch(() => undefined);
  await script;
  return seen;
}

t.test('a backend that is not wanted is left politely', async (t) => {
  const connect = (exportName: string) => (stream: Parameters<typeof negotiate>[0]) =>
    negotiate(stream, { exportName, timeoutMs: TIMEOUT_MS });
  const inform = (stream: Parameters<typeof negotiate>[0]) =>
    exportInfo(stream, { exportName: 'disk', timeoutMs: TIMEOUT_MS });
  t.same(await farewell({}, connect('missing')), ['abort']);
  t.same(await farewell({ sizeBytes: 0n }, connect('disk')), ['disc']);
  t.same(await farewell({}, inform), ['abort']);
  t.same(await farewell({ knowsInfo: false }, inform), ['disc']);
  t.same(await farewell({ knowsInfo: false, knowsGo: false }, inform), ['disc']);
  t.same(await farewell({ fixedNewstyle: false }, inform), ['disc']);
  t.same(await farewell({}, (stream) => listExports(stream)), ['abort']);
});

t.test('info tells the export and its neighbours', async (t) => {
  const ask = (settings: Partial<BackendSettings>) =>
    exportInfo(playInMemory(undefined, { settings }).stream, { exportName: 'disk' });
  const neighbours = [{ name: '' }, { name: 'disk', description: 'the disk' }];
  const modern = await ask({});
  t.same(modern.exports, neighbours);
  t.equal(modern.info.sizeBytes, 4n << 20n);
  t.equal(modern.structuredReplies, true);
  t.equal((await ask({ structuredReplies: false })).structuredReplies, false);
  t.same((await ask({ knowsInfo: false })).exports, neighbours);
  t.notOk('exports' in (await ask({ knowsList: false })));
  t.notOk('exports' in (await ask({ fixedNewstyle: false })));
  const refused = await refusal(ask({ exports: [{ name: 'other' }] }));
  t.match(refused.line, /has no export "disk".*it has "other"/);
});

t.test('a list is given, or its refusal explained', async (t) => {
  const list = (settings: Partial<BackendSettings>) =>
    listExports(playInMemory(undefined, { settings }).stream);
  t.same(await list({ exports: [{ name: 'a' }] }), [{ name: 'a' }]);
  t.same(await list({ exports: [] }), []);
  t.match((await refusal(list({ knowsList: false }))).line, /test:1 does not list its exports/);
  t.match((await refusal(list({ fixedNewstyle: false }))).line, /does not list its exports/);
});

t.test('a further connection that reaches another export is noticed', async (t) => {
  const { found } = await enter({}, STRUCTURED);
  const compare = async (settings: Partial<BackendSettings>) =>
    sameExport(found, (await enter(settings, STRUCTURED)).found);
  t.equal(await compare({}), undefined);
  t.equal(await compare({ sizeBytes: 8n << 20n }), 'its size was 4194304 and is now 8388608');
  t.match(await compare({ transmissionFlags: ALL_FLAGS | FLAG.readOnly }), /read-only flag was/);
  t.match(await compare({ transmissionFlags: ALL_FLAGS & ~FLAG.flush }), /FLUSH support/);
  t.match(await compare({ blockBytes: [512, 4096, 1 << 20] }), /minimum block size was 1 /);
  t.match(await compare({ structuredReplies: false }), /structured reply support/);
});
