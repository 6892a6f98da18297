/**
 * Claim: a system tool is waited for as long as was said and hardly longer, whatever it does, and
 * its output and status are told.
 */
import t from 'tap';
import { runTool } from '../../src/gateway/tool.ts';

const shell = (script: string, timeoutMs: number, signal?: AbortSignal) =>
  runTool('sh', ['-c', script], signal === undefined ? { timeoutMs } : { timeoutMs, signal });

/** SIGTERM does nothing to it, as to one that the kernel holds. It tells its pid. */
const STAYS = "trap '' TERM; echo $$; exec sleep 100";
/** Before its end, and after what a machine may stand still for. */
const LIMIT_MS = 90_000;

/** What was left behind for the test's sake. */
function end(stdout: string): void {
  if (/^\d+\n$/.test(stdout)) process.kill(Number(stdout), 'SIGKILL');
}

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
  const result = await shell(STAYS, 2_000);
  end(result.stdout);
  t.match(result, { status: 124, stdout: /^\d+\n$/, stderr: /^$/ });
  t.ok(performance.now() - begunMs < LIMIT_MS, 'before its end');
});

t.test('so is one that stays after an abort', async (t) => {
  const abort = new AbortController();
  setTimeout(() => abort.abort(), 1_000);
  const begunMs = performance.now();
  const { status, stdout } = await shell(STAYS, 200_000, abort.signal);
  end(stdout);
  t.equal(status, 128);
  t.ok(performance.now() - begunMs < LIMIT_MS, 'before its end');
});
