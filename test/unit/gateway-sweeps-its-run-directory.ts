/**
 * Claim: what a spare of a dead controller had to say is told in the log and its file removed; that
 * of a device's server process stays for its end.
 */
import { readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import t from 'tap';
import { Registry } from '../../src/gateway/registry.ts';
import { devicesDir, logDir, prepareRunDir } from '../../src/gateway/run-dir.ts';
import { sweepRunDir, tellLastWordsOfSpares } from '../../src/gateway/sweep-run-dir.ts';
import { optionsFor } from '../support/fake-host.ts';

t.test('only what is of a device stays', async (t) => {
  // The path of a socket is short, and so has to be that of the directory.
  const folder = `/tmp/unbd-sweep-${process.pid}`;
  process.env.UBLK_NBD_RUN_DIR = folder;
  t.teardown(() => rmSync(folder, { recursive: true }));
  prepareRunDir();
  new Registry(devicesDir()).claim({
    version: 1,
    id: 0,
    token: 'of-a-device',
    phase: 'live',
    options: optionsFor(),
    owner: { pid: 12, startTicks: '345', foreground: false },
    connectedAtMs: 1,
    madeNodes: [],
  });
  for (const token of ['of-a-device', 'of-a-spare']) {
    writeFileSync(`${logDir()}/${token}.stderr`, `what ${token} said\n`);
  }
  writeFileSync(`${logDir()}/silent.stderr`, '');
  sweepRunDir();
  t.same(readdirSync(logDir()).sort(), ['of-a-device.stderr', 'of-a-spare.stderr']);
  tellLastWordsOfSpares();
  t.same(readdirSync(logDir()).sort(), ['of-a-device.stderr', 'ublk-nbd.log']);
  const log = readFileSync(`${logDir()}/ublk-nbd.log`, 'utf8');
  t.match(log, /a spare ended: what of-a-spare said\n$/);
});
