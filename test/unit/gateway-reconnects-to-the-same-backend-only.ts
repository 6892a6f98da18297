/**
 * Claim: after a loss the queues get new connections only when the backend is the same, everything
 * unflushed was sent again first, and the device has not ended meanwhile.
 */
import t from 'tap';
import {
  type Connection,
  Reconnect,
  type ReconnectLinks,
  type ReconnectNews,
} from '../../src/gateway/reconnect.ts';
import type { BackendInfo } from '../../src/protocols/adapter.ts';
import { backend } from '../support/fake-host.ts';

interface FakeStream {
  readonly number: number;
  closed: boolean;
  close(): void;
}

interface Script {
  readonly infos?: readonly Partial<BackendInfo>[];
  /** Attempts to connect that fail first. */
  readonly failures?: number;
  readonly fingerprint?: string;
  readonly replayFailures?: number;
}

function fake(script: Script = {}) {
  const calls: string[] = [];
  const news: ReconnectNews[] = [];
  const streams: FakeStream[] = [];
  let failures = script.failures ?? 0;
  let replayFailures = script.replayFailures ?? 0;
  let over: (kind: string) => void = () => undefined;
  const ended = new Promise<string>((resolve) => {
    over = resolve;
  });
  const links: ReconnectLinks<FakeStream> = {
    hold: async () => void calls.push('hold'),
    connect: async () => {
      calls.push('connect');
      if (failures-- > 0) throw new Error('connection refused');
      const stream: FakeStream = {
        number: streams.length,
        closed: false,
        close() {
          this.closed = true;
        },
      };
      const info = { ...backend, ...script.infos?.[streams.length] };
      streams.push(stream);
      return { stream, found: { info, structuredReplies: true, transmissionFlags: 0 } };
    },
    fingerprint: async () => script.fingerprint,
    replay: async ({ stream }: Connection<FakeStream>) => {
      calls.push(`replay over ${stream.number}`);
      if (replayFailures-- > 0) throw new Error('lost again');
      return { entries: 3, bytes: 4096n };
    },
    resume: (given) => void calls.push(`resume with ${given.map(({ number }) => number)}`),
    told: (one) => {
      news.push(one);
      if (one.kind === 'connected' || one.kind === 'fatal') over(one.kind);
    },
  };
  const needs = {
    sizeBytes: backend.sizeBytes,
    readOnly: false,
    logicalBlockBytes: 512,
    queues: 2,
  };
  const reconnect = new Reconnect(links, { needs, info: backend, fingerprint: 'aa' });
  return { reconnect, calls, news, streams, ended };
}

t.test('hold, connect, gate, replay, resume, in this order', async (t) => {
  const { reconnect, calls, news, ended } = fake({ fingerprint: 'aa' });
  reconnect.lost('backend-lost', 'the backend closed the connection', 0);
  reconnect.lost('backend-lost', 'the other queue saw it too', 1);
  t.equal(await ended, 'connected');
  t.strictSame(calls, ['hold', 'connect', 'connect', 'replay over 0', 'resume with 0,1']);
  t.match(news, [
    { kind: 'holding', reason: 'the backend closed the connection' },
    { kind: 'connected', replayed: { entries: 3, bytes: 4096n } },
  ]);
});

t.test('it tries again, and leaves no connection behind', async (t) => {
  const { reconnect, calls, streams, ended } = fake({
    failures: 1,
    replayFailures: 1,
    fingerprint: 'aa',
  });
  reconnect.lost('backend-lost', 'gone', 0);
  t.equal(await ended, 'connected');
  t.strictSame(calls.slice(-3), ['connect', 'replay over 2', 'resume with 2,3']);
  t.strictSame(
    streams.map(({ closed }) => closed),
    [true, true, false, false],
  );
});

t.test('another image is FATAL, and nothing is sent to it', async (t) => {
  const cases: readonly (readonly [Script, RegExp])[] = [
    [{ infos: [{ sizeBytes: backend.sizeBytes - 512n }] }, /smaller/],
    [{ infos: [{ readOnly: true }] }, /read-only/],
    [{ fingerprint: 'bb' }, /another content/],
  ];
  for (const [script, reason] of cases) {
    const { reconnect, calls, news, streams, ended } = fake(script);
    reconnect.lost('backend-lost', 'gone', 0);
    t.equal(await ended, 'fatal');
    t.match(news.at(-1), { kind: 'fatal', reason });
    t.notMatch(calls.join(), /replay|resume/);
    await new Promise(setImmediate);
    t.ok(streams.every(({ closed }) => closed));
  }
});

t.test('an unreadable sample is told and does not end the device', async (t) => {
  const { reconnect, news, ended } = fake();
  reconnect.lost('backend-lost', 'gone', 0);
  t.equal(await ended, 'connected');
  t.match(news[1], { kind: 'note', text: /could not be checked/ });
});

t.test('connections that differ among themselves are tried again', async (t) => {
  const grown = { sizeBytes: backend.sizeBytes * 2n };
  const { reconnect, news, ended } = fake({ infos: [{}, grown], fingerprint: 'aa' });
  reconnect.lost('backend-lost', 'gone', 0);
  t.equal(await ended, 'connected');
  t.match(news[1], { kind: 'attempt-failed', reason: /different exports/ });
});

t.test('three violations in a minute are FATAL, spread over hours they are not', async (t) => {
  const often = fake({ fingerprint: 'aa' });
  for (const atMs of [0, 10_000, 20_000]) {
    often.reconnect.lost('protocol-violation', 'a wrong magic', atMs);
  }
  t.equal(await often.ended, 'fatal');
  t.match(often.news.at(-1), { reason: /3 times in 60 s: a wrong magic/ });
  const seldom = fake({ fingerprint: 'aa' });
  for (const atMs of [0, 70_000, 140_000]) {
    seldom.reconnect.lost('protocol-violation', 'a wrong magic', atMs);
  }
  t.equal(await seldom.ended, 'connected');
});

t.test('a device that has ended gets no connection', async (t) => {
  const { reconnect, calls } = fake({ failures: 1 });
  reconnect.lost('backend-lost', 'gone', 0);
  await new Promise(setImmediate);
  reconnect.end();
  await new Promise((resolve) => setTimeout(resolve, 300));
  t.notMatch(calls.join(), /resume/);
  reconnect.lost('backend-lost', 'again', 0);
  t.equal(calls.filter((call) => call === 'hold').length, 1);
});
