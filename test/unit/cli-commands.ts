/**
 * Claim: info, mount, umount, doctor, daemon and completion pass on what was asked and show it.
 * Method: the command line in this process, over a gateway that records its calls.
 */
import { resolve } from 'node:path';
import t from 'tap';
import type { Check } from '../../src/gateway/doctor.ts';
import { GatewayError } from '../../src/protocols/errors.ts';
import { cli, deviceView } from '../support/cli.ts';

const backend = {
  sizeBytes: 18_014_398_509_481_984n,
  readOnly: true,
  canFlush: true,
  canFua: true,
  canTrim: false,
  canWriteZeroes: false,
  canFastZero: false,
  canMultiConn: true,
  rotational: false,
  minimumBlockBytes: 1,
  preferredBlockBytes: 4096,
  maximumBlockBytes: 0xffff_ffff,
};

t.test(
  'info shows what the backend offers, and text of the backend stays in its line',
  async (t) => {
    const info = async () => ({
      target: 'nbd://host:10809/disk',
      exportName: 'disk',
      description: 'two\nlines\u001b[2J',
      structuredReplies: true,
      backend,
      exports: ['', 'disk', 'other'],
    });
    const { status, stdout } = await cli(['info', 'host/disk'], { gateway: { info } });
    t.equal(status, 0);
    t.equal(
      stdout,
      [
        'target            nbd://host:10809/disk',
        'size              18014398509481984 bytes (16P)',
        'mode              read-only',
        'offers            flush, fua, multi-conn, structured-replies',
        'smallest request  1 bytes',
        'best request      4096 bytes',
        'largest request   no limit',
        'export            disk',
        'description       two lines [2J',
        'exports           (default), disk, other',
        '',
      ].join('\n'),
    );
  },
);

t.test('info --json has a key for everything, also for what is not known', async (t) => {
  const info = async () => ({ target: 'memory:1G', backend: { ...backend, sizeBytes: 512n } });
  const { stdout } = await cli(['info', 'memory:1G', '--json'], { gateway: { info } });
  t.strictSame(JSON.parse(stdout), {
    target: 'memory:1G',
    exportName: null,
    description: null,
    ...backend,
    sizeBytes: 512,
    structuredReplies: null,
    exports: null,
  });
});

t.test('info passes the export of -N', async (t) => {
  const asked: unknown[] = [];
  const info = async (target: { text: string }) => {
    asked.push(target.text);
    return { target: target.text, backend };
  };
  await cli(['info', 'host', '-N', 'a b'], { gateway: { info } });
  t.same(asked, ['nbd://host:10809/a%20b']);
});

t.test('mount takes the options of connect and those of mount(8)', async (t) => {
  const calls: unknown[] = [];
  const mount = async (request: unknown) => {
    calls.push(request);
    return deviceView();
  };
  const typed =
    'mount host /mnt --partition 2 -o ro,noatime -r --name data --queues 1 --structured-replies';
  const result = await cli(typed.split(' '), { gateway: { mount } });
  t.same(result, { status: 0, stdout: '/dev/ublkb0\n', stderr: '' });
  t.match(calls, [
    {
      directory: '/mnt',
      partition: 2,
      mountOptions: 'ro,noatime',
      options: { readOnly: true, name: 'data', queues: 1, structuredReplies: true },
    },
  ]);
  const foreground = await cli(['mount', 'host', '/mnt', '--foreground'], { gateway: { mount } });
  t.equal(foreground.status, 2, 'a mount does not stay in the foreground');
});

t.test('umount passes the directory and prints nothing', async (t) => {
  const calls: string[] = [];
  const umount = async (directory: string) => void calls.push(directory);
  const result = await cli(['umount', '/mnt'], { gateway: { umount } });
  t.same(result, { status: 0, stdout: '', stderr: '' });
  t.same(calls, ['/mnt']);
});

t.test('doctor shows every check, and fails for a required one only', async (t) => {
  const good: Check = { name: 'kernel', ok: true, required: true, found: 'Linux 6.12' };
  const note: Check = { name: 'nodes', ok: false, required: false, found: 'none', cure: 'mknod' };
  const bad: Check = {
    name: 'driver',
    ok: false,
    required: true,
    found: 'not loaded',
    cure: 'run: modprobe ublk_drv',
  };
  const fine = await cli(['doctor'], { gateway: { doctor: async () => [good, note] } });
  t.same(fine, {
    status: 0,
    stdout: 'ok    kernel: Linux 6.12\nnote  nodes: none; mknod\n',
    stderr: '',
  });
  const failed = await cli(['doctor'], { gateway: { doctor: async () => [good, bad] } });
  t.equal(failed.status, 4);
  t.match(failed.stdout, 'FAIL  driver: not loaded; run: modprobe ublk_drv\n');
  t.match(failed.stderr, /^ublk-nbd: this machine cannot serve devices: driver; .*\n$/);
  const user: Check = { ...bad, name: 'permission', code: 'UNBD_NO_PERMISSION' };
  const refused = await cli(['doctor'], { gateway: { doctor: async () => [user, bad] } });
  t.equal(refused.status, 3, 'the first that fails decides');
  const json = await cli(['doctor', '--json'], { gateway: { doctor: async () => [good, bad] } });
  t.equal(json.status, 4);
  t.strictSame(JSON.parse(json.stdout), [{ ...good, cure: null }, bad]);
});

t.test('daemon knows where the log goes, also from another folder', async (t) => {
  const calls: unknown[] = [];
  const daemon = async (options: unknown, signal: AbortSignal) => {
    t.ok(signal instanceof AbortSignal);
    calls.push(options);
  };
  await cli(['daemon'], { gateway: { daemon } });
  await cli(['daemon', '--foreground', '--log-file', 'my.log'], { gateway: { daemon } });
  await cli(['daemon', '--log-file', '-'], { gateway: { daemon } });
  t.strictSame(calls, [
    { foreground: false },
    { foreground: true, logFile: resolve('my.log') },
    { foreground: false, logFile: '-' },
  ]);
});

t.test('a shell is offered commands, options and devices', async (t) => {
  const devices = [deviceView({ name: 'data' }), deviceView({ id: 12, path: '/dev/ublkb12' })];
  const gateway = { listRunning: async () => devices };
  const words = async (...typed: string[]) => {
    const result = await cli(['--get-yargs-completions', 'ublk-nbd', ...typed], { gateway });
    t.equal(result.status, 0);
    t.equal(result.stderr, '');
    return result.stdout === '' ? [] : result.stdout.trimEnd().split('\n');
  };
  t.strictSame(await words('d'), ['disconnect', 'doctor', 'daemon']);
  t.strictSame(await words('connect', 'host', '--read'), ['--read-only']);
  t.strictSame(await words('connect', 'host', '--data-path', ''), ['copy', 'user-copy']);
  t.strictSame(await words('disconnect', ''), ['ublkb0', 'data', 'ublkb12']);
  t.strictSame(await words('logs', 'ublkb1'), ['ublkb12']);
  t.strictSame(await words('disconnect', '/dev/'), ['/dev/ublkb0', '/dev/ublkb12']);
  t.strictSame(await words('disconnect', '--force', 'da'), ['data']);
  t.strictSame(await words('disconnect', 'data', ''), [], 'one device is enough');
  t.ok((await words('disconnect', '--')).includes('--force'));
});

t.test('completion is silent where devices cannot be listed', async (t) => {
  const listRunning = async () => {
    throw new GatewayError('UNBD_NO_PERMISSION', 'root only');
  };
  const typed = ['--get-yargs-completions', 'ublk-nbd', 'disconnect', ''];
  const result = await cli(typed, { gateway: { listRunning } });
  t.same(result, { status: 0, stdout: '', stderr: '' });
});
