/**
 * Owns: the five kinds of backend that a filesystem is tried on, each with an empty disk.
 * Runs in: device test processes.
 * Must not: read a backend's bytes with ublk-nbd's help.
 */
import {
  type Backend,
  startNbdkit,
  startNbdServer,
  startQemuNbd,
  type Transport,
} from './backends.ts';
import { must } from './process.ts';
import type { Scope } from './scope.ts';

export type BackendKind =
  | 'nbdkit-memory'
  | 'nbdkit-file'
  | 'qemu-raw'
  | 'qemu-qcow2'
  | 'nbd-server';

export const BACKEND_KINDS: readonly BackendKind[] = [
  'nbdkit-memory',
  'nbdkit-file',
  'qemu-raw',
  'qemu-qcow2',
  'nbd-server',
];

export interface DiskBackend extends Backend {
  /** A raw file with the backend's bytes, got without ublk-nbd. Ends the backend. */
  rawBytes(): Promise<string>;
}

/** An empty disk of `sizeBytes` behind a backend of this kind. */
export async function startDisk(
  scope: Scope,
  kind: BackendKind,
  transport: Transport,
  sizeBytes: number,
): Promise<DiskBackend> {
  const image = scope.path(`${kind}.img`);
  const raw = scope.path(`${kind}.raw`);
  if (kind === 'nbdkit-memory') {
    const backend = await startNbdkit(scope, ['memory', String(sizeBytes)], transport);
    // Its bytes are nowhere but in it: another NBD client fetches them.
    const rawBytes = async (): Promise<string> => {
      await must(['qemu-img', 'convert', '-f', 'raw', '-O', 'raw', backend.uri, raw]);
      await backend.stop();
      return raw;
    };
    return { ...backend, rawBytes };
  }
  const format = kind === 'qemu-qcow2' ? 'qcow2' : 'raw';
  await must(['qemu-img', 'create', '-q', '-f', format, image, String(sizeBytes)]);
  const backend = await startOn(scope, kind, image, transport);
  const rawBytes = async (): Promise<string> => {
    await backend.stop();
    if (format === 'raw') return image;
    await must(['qemu-img', 'convert', '-f', 'qcow2', '-O', 'raw', image, raw]);
    return raw;
  };
  return { ...backend, rawBytes };
}

function startOn(
  scope: Scope,
  kind: Exclude<BackendKind, 'nbdkit-memory'>,
  image: string,
  transport: Transport,
): Promise<Backend> {
  if (kind === 'nbdkit-file') return startNbdkit(scope, ['file', image], transport);
  if (kind === 'nbd-server') return startNbdServer(scope, image, transport);
  return startQemuNbd(scope, image, kind === 'qemu-raw' ? 'raw' : 'qcow2', transport);
}
