/**
 * Owns: the file systems as whoever launched this server process sees them.
 * Runs in: the server process, on the JS main thread.
 * Must not: keep the mount namespace outside open: this process would be the last user of its
 * mounts, among them those on its own disk.
 */
import { readdir, stat } from 'node:fs/promises';
import { placeOutside } from './environment.ts';

/**
 * What goes before an absolute path without symbolic links. A server process has the mounts of the
 * moment when it was launched, which may be long ago for a spare; others follow theirs. Empty where
 * it has no other mounts, and where nobody is left outside.
 */
export async function rootOutside(env = process.env): Promise<string> {
  const wanted = placeOutside(env);
  if (wanted === '' || (await placeOf('self')) === wanted) return '';
  const candidates = [String(process.ppid), ...(await readdir('/proc').catch(() => []))];
  for (const pid of candidates) {
    if (/^\d+$/.test(pid) && (await placeOf(pid)) === wanted) return `/proc/${pid}/root`;
  }
  return '';
}

/** Mount namespace and root folder, as native/helper/launch.cc writes them; empty: none. */
async function placeOf(pid: string): Promise<string> {
  try {
    const paths = [`/proc/${pid}/ns/mnt`, `/proc/${pid}/root/`];
    const looks = await Promise.all(paths.map((path) => stat(path, { bigint: true })));
    return looks.map(({ dev, ino }) => `${dev}:${ino} `).join('');
  } catch {
    return '';
  }
}
