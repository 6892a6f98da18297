/**
 * Claim: a system tool is waited for as long as was said and hardly longer, whatever it does, and
 * its output and status are told.
 */
import t from 'tap';
import { runTool } from '../../src/gateway/tool.ts';

const shell = (script: string, timeoutMs: number, signal?: AbortSignal) =>
  runTool('sh', ['-c', script], signal === undefined ? { timeoutMs } : { timeoutMs, signal });

/** SIGTERM does nothing to it, as to one that the kernel holds. */
const STAYS = "trap '' TERM; echo begun; exec sleep 5";

t.test('status and output of one that ends', async (t) => {
  const result = await shell('echo out; echo err >&2; exit 3', 5_000);
  t.same(result, { status: 3, stdout: 'out\n', stderr: 'err\n' });
  t.match(await runTool('/nowhere/tool', [], { timeoutMs: 5_000 }), {
    status: 127,
    stderr: /ENOENT/,
  });
});

t.test('one that takes too long is ended', async (t) => {
  t.equal((await shell('exec sleep 60', 100)).status, 124);
});

t.test('one that stays is left behind', async (t) => {
  const begunMs = performance.now();
  t.same(await shell(STAYS, 500), { status: 124, stdout: 'begun\n', stderr: '' });
  t.ok(performance.now() - begunMs < 4_500, 'before its end');
});

t.test('so is one that stays after an abort', async (t) => {
  const abort = new AbortController();
  setTimeout(() => abort.abort(), 300);
  const begunMs = performance.now();
  t.equal((await shell(STAYS, 60_000, abort.signal)).status, 128);
  t.ok(performance.now() - begunMs < 4_500, 'before its end');
});
