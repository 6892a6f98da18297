/**
 * Owns: a real S3 service, Ceph's radosgw over a cluster of one monitor and one store in memory,
 * and putting objects into it.
 * Runs in: device test processes, as root; the services are programs of their own beside them.
 * Must not: keep anything on disk, or leave a program of the cluster behind.
 */
import assert from 'node:assert/strict';
import { randomUUID } from 'node:crypto';
import { mkdirSync, writeFileSync } from 'node:fs';
import { get } from 'node:http';
import { connect as connectSocket } from 'node:net';
import { dirname } from 'node:path';
import { freePort, unpackedProgram, untilItServes } from './backends.ts';
import { must, type Running, start } from './process.ts';
import type { Scope } from './scope.ts';
import { escapeAll, type Keys, signedHeaders } from './sigv4.ts';

export interface Radosgw {
  readonly endpoint: string;
  readonly keys: Keys;
  readonly running: Running;
  makeBucket(name: string, isVersioned?: boolean): Promise<void>;
  /** The version's ID; `null` in a bucket that keeps none. */
  put(bucket: string, key: string, bytes: Uint8Array, acl?: 'public-read'): Promise<string>;
  url(bucket: string, key: string): URL;
}

const KEYS: Keys = { id: 'AKRADOSGW', secret: 'radosgw/secret+key' };
const STORE_BYTES = 1024 * 1024 * 1024;

/**
 * Its monitor is quick (the paxos lines), and so are small answers (tcp_nodelay). The store has a
 * place of its own, since a machine without a name gives it none.
 */
function configuration(folder: string, fsid: string, monitor: number, port: number): string {
  // The libraries that Ceph loads by name are beside its starters' programs.
  const libraries = `${dirname(dirname(unpackedProgram('radosgw')))}/servers/usr/lib`;
  const triplet = process.arch === 'arm64' ? 'aarch64-linux-gnu' : 'x86_64-linux-gnu';
  return `[global]
fsid=${fsid}
mon_host=[v2:127.0.0.1:${monitor}]
mon_initial_members=a
osd_pool_default_size=1
osd_pool_default_min_size=1
osd_pool_default_pg_num=4
osd_pool_default_pgp_num=4
osd_pool_default_pg_autoscale_mode=off
osd_crush_chooseleaf_type=0
mon_allow_pool_size_one=true
mon_max_pg_per_osd=2000
mon_data_avail_crit=1
paxos_propose_interval=0.05
paxos_min_wait=0.01
mon_osd_initial_require_min_compat_client=luminous
rgw_enable_usage_log=false
rgw_run_sync_thread=false
osd_class_dir=${libraries}/${triplet}/rados-classes
erasure_code_dir=${libraries}/${triplet}/ceph/erasure-code
plugin_dir=${libraries}/${triplet}/ceph
run_dir=${folder}
admin_socket=${folder}/$name.asok
log_file=${folder}/$name.log
keyring=${folder}/keyring
[mon.a]
mon_data=${folder}/mon
[osd.0]
public_addr=127.0.0.1
crush_location=root=default host=a
osd_objectstore=memstore
memstore_device_bytes=${STORE_BYTES}
osd_data=${folder}/osd
[client.rgw.a]
rgw_data=${folder}/rgw
rgw_frontends=beast endpoint=127.0.0.1:${port} tcp_nodelay=1
`;
}

export async function startRadosgw(scope: Scope): Promise<Radosgw> {
  const folder = scope.path('ceph');
  for (const name of ['mon', 'osd', 'rgw']) mkdirSync(`${folder}/${name}`, { recursive: true });
  const [monitor, port] = [await freePort(), await freePort()];
  const fsid = randomUUID();
  const config = `${folder}/ceph.conf`;
  writeFileSync(config, configuration(folder, fsid, monitor, port));
  const keyring = `${folder}/keyring`;
  await makeKeyring(keyring);
  const ceph = (name: string, ...words: readonly string[]) => [
    ...[unpackedProgram(name), '-c', config],
    ...words,
  ];
  await must(ceph('ceph-mon', '-i', 'a', '--mkfs', '--fsid', fsid, '--keyring', keyring));
  const mon = serve(scope, ceph('ceph-mon', '-i', 'a', '-f'));
  await untilItServes(mon, 'the monitor listens', () => listens(monitor));
  const osdId = randomUUID();
  await must(ceph('ceph', 'osd', 'new', osdId));
  await must(ceph('ceph-osd', '-i', '0', '--mkfs', '--osd-uuid', osdId));
  serve(scope, ceph('ceph-osd', '-i', '0', '-f'));
  const user = [
    '--uid=t',
    '--display-name=t',
    '--access-key',
    KEYS.id,
    '--secret-key',
    KEYS.secret,
  ];
  await must(ceph('radosgw-admin', '-n', 'client.rgw.a', 'user', 'create', ...user));
  const running = serve(scope, ceph('radosgw', '-n', 'client.rgw.a', '-f'));
  await untilItServes(running, 'radosgw answers', () => answers(port));
  return radosgw(running, `http://127.0.0.1:${port}`);
}

/** Nothing of it is worth an orderly end. */
function serve(scope: Scope, argv: readonly string[]): Running {
  const running = start(scope, argv);
  scope.defer(async () => {
    running.kill('SIGKILL');
    await running.exited;
  });
  return running;
}

async function makeKeyring(path: string): Promise<void> {
  const all = ['mon', 'osd', 'mgr', 'mds'].flatMap((service) => ['--cap', service, 'allow *']);
  for (const [name, ...caps] of [
    ['mon.', '--cap', 'mon', 'allow *'],
    ['client.admin', ...all],
    ['osd.0', '--cap', 'mon', 'allow profile osd', '--cap', 'osd', 'allow *'],
    ['client.rgw.a', '--cap', 'mon', 'allow rw', '--cap', 'osd', 'allow rwx'],
  ] as const) {
    const create = name === 'mon.' ? ['-C'] : [];
    const words = [...create, path, '--gen-key', '-n', name, ...caps];
    await must([unpackedProgram('ceph-authtool'), ...words]);
  }
}

function listens(port: number): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = connectSocket({ host: '127.0.0.1', port });
    const end = (isThere: boolean) => () => {
      socket.destroy();
      resolve(isThere);
    };
    socket.once('connect', end(true));
    socket.once('error', end(false));
  });
}

function answers(port: number): Promise<boolean> {
  return new Promise((resolve) => {
    const request = get({ host: '127.0.0.1', port, path: '/', agent: false }, (answer) => {
      answer.resume();
      resolve(true);
    });
    request.once('error', () => resolve(false));
  });
}

function radosgw(running: Running, endpoint: string): Radosgw {
  const send = async (path: string, body: Uint8Array, more: Record<string, string> = {}) => {
    const url = new URL(`${endpoint}/${path}`);
    const headers = signedHeaders('PUT', url, KEYS, more);
    const answer = await fetch(url, { method: 'PUT', headers, body });
    assert.equal(answer.status, 200, `PUT ${path}: ${await answer.text()}`);
    return answer.headers.get('x-amz-version-id') ?? 'null';
  };
  const place = (bucket: string, key: string) =>
    `${bucket}/${key.split('/').map(escapeAll).join('/')}`;
  return {
    ...{ endpoint, keys: KEYS, running },
    makeBucket: async (name, isVersioned = false) => {
      await send(name, Buffer.alloc(0));
      if (!isVersioned) return;
      const status = '<Status>Enabled</Status>';
      const xmlns = 'http://s3.amazonaws.com/doc/2006-03-01/';
      const xml = `<VersioningConfiguration xmlns="${xmlns}">${status}</VersioningConfiguration>`;
      await send(`${name}?versioning=`, Buffer.from(xml));
    },
    put: (bucket, key, bytes, acl) =>
      send(place(bucket, key), bytes, acl === undefined ? {} : { 'x-amz-acl': acl }),
    url: (bucket, key) => new URL(`${endpoint}/${place(bucket, key)}`),
  };
}
