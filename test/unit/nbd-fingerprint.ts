/**
 * Claim: the fingerprint of an export is the same as long as its sampled blocks are, however the
 * backend answers, and another one when one of them differs.
 */
import { strict as assert } from 'node:assert';
import t from 'tap';
import { readFingerprint } from '../../src/protocols/nbd/fingerprint.ts';
import { negotiate } from '../../src/protocols/nbd/handshake.ts';
import { parseTarget } from '../../src/protocols/target.ts';
import { type ScriptedOptions, startScriptedNbd } from '../support/scripted-nbd.ts';
import { dialForTests } from '../support/scripted-nbd-stream.ts';

t.setTimeout(120_000);

async function fingerprintOf(
  options: ScriptedOptions,
  structuredReplies = false,
): Promise<string | undefined> {
  const backend = await startScriptedNbd(options);
  try {
    const target = parseTarget(backend.target);
    assert(target.kind === 'nbd');
    const stream = await dialForTests(target.endpoint);
    const asked = { exportName: '', timeoutMs: 60_000, structuredReplies };
    const found = await negotiate(stream, asked);
    try {
      return await readFingerprint(stream, found, 60_000);
    } finally {
      stream.close();
    }
  } finally {
    await backend.close();
  }
}

t.test('it does not depend on how the backend answers', async (t) => {
  const first = await fingerprintOf({});
  t.match(first, /^[0-9a-f]{64}$/);
  t.equal(await fingerprintOf({}, true), first);
  for (const structured of [false, true]) {
    t.equal(await fingerprintOf({ pieceBytes: 7 }, structured), first);
    const bounded = { blockBytes: [512, 4096, 8192] as const };
    t.match(await fingerprintOf({ settings: bounded }, structured), /^[0-9a-f]{64}$/);
  }
});

t.test('another size is another export', async (t) => {
  const first = await fingerprintOf({});
  t.not(await fingerprintOf({ settings: { sizeBytes: 8n << 20n } }), first);
});

t.test('what a broken backend sends ends it, and an unreadable block makes none', async (t) => {
  const everywhere = { hitFromBytes: 0n, hitToBytes: 1n << 40n };
  const protocol = { code: 'UNBD_BACKEND_PROTOCOL' };
  await t.rejects(fingerprintOf({ ...everywhere, fault: 'reply-with-wrong-magic' }), protocol);
  const chunk = { ...everywhere, fault: 'chunk-with-wrong-magic' };
  await t.rejects(fingerprintOf(chunk, true), protocol);
  const unreadable = { ...everywhere, fault: 'structured-read-fails-with-5' };
  t.equal(await fingerprintOf(unreadable, true), undefined);
  t.equal(await fingerprintOf({ ...everywhere, fault: 'simple-read-fails-with-5' }), undefined);
});
