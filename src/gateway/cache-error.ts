/**
 * Owns: why a folder of the cache on disk cannot be used, from an errno to a line with a cure.
 * Runs in: the server process and the CLI; pure.
 * Must not: decide whether that is the end of a connect.
 */
import { type ErrorCode, GatewayError } from '../protocols/errors.ts';

type Cure = readonly [code: ErrorCode, why: string, hint: string];

const OTHER_FOLDER = 'name another folder with --cache';

function cureOf(errno: string, path: string): Cure {
  const makeRoom = `make room: ublk-nbd cache prune --all ${path}`;
  switch (errno) {
    case 'ENOENT':
      return ['UNBD_USAGE', 'the folder that it is to be made in is missing', 'make that first'];
    case 'ENOTDIR':
      return ['UNBD_USAGE', 'it is no folder', OTHER_FOLDER];
    case 'EACCES':
    case 'EPERM':
      return ['UNBD_NO_PERMISSION', 'this user may not', `run with sudo, or ${OTHER_FOLDER}`];
    case 'EROFS':
      return ['UNBD_USAGE', 'its file system is read-only', OTHER_FOLDER];
    case 'ENOSPC':
      return ['UNBD_USAGE', 'its file system is full', makeRoom];
    case 'EDQUOT':
      return ['UNBD_USAGE', 'its quota is used up', makeRoom];
    default:
      return ['UNBD_USAGE', errno, OTHER_FOLDER];
  }
}

/** The name of an errno, or what else there is to say. */
export function errnoOf(error: unknown): string {
  if (!(error instanceof Error)) return String(error);
  return (error as NodeJS.ErrnoException).code ?? error.message;
}

export function cacheFolderError(path: string, cause: unknown): GatewayError {
  if (cause instanceof GatewayError) return cause;
  const errno = errnoOf(cause);
  const [code, why, hint] = cureOf(errno, path);
  return new GatewayError(code, `the cache's folder ${path} cannot be used: ${why}`, {
    hint,
    cause,
  });
}

/** Where an entry's folder should be is something that somebody else may change. */
export function foreignFolderError(path: string): GatewayError {
  const text = `${path} is not a folder of this user, and so no entry of a cache`;
  return new GatewayError('UNBD_NO_PERMISSION', text, {
    hint: `look at it and remove it, or ${OTHER_FOLDER}`,
  });
}
