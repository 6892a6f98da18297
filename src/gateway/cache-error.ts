/**
 * Owns: why a folder of the cache on disk cannot be used, from an errno to a line with a cure.
 * Runs in: the server process and the CLI; pure.
 * Must not: decide whether that is the end of a connect.
 */
import { type ErrorCode, GatewayError } from '../protocols/errors.ts';
import { FLOOR_PERCENT } from './cache-room.ts';

type Cure = readonly [code: ErrorCode, why: string, hint: string];

const OTHER_FOLDER = 'name another folder with --cache';

const makeRoom = (path: string): string => `make room: ublk-nbd cache prune --all ${path}`;

function cureOf(errno: string, path: string): Cure {
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
      return ['UNBD_USAGE', 'its file system is full', makeRoom(path)];
    case 'EDQUOT':
      return ['UNBD_USAGE', 'its quota is used up', makeRoom(path)];
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

/** `needs`: bytes that it would have to take, of which it takes `takes` at most. */
export function cacheRoomError(path: string, needs: bigint, takes: bigint): GatewayError {
  const what = `the cache's folder ${path} has no room for the image`;
  const why = `it lacks ${needs} bytes of it, and ${takes} fit before less than`;
  return new GatewayError('UNBD_USAGE', `${what}: ${why} ${FLOOR_PERCENT} % is free`, {
    hint: `${makeRoom(path)}, or ${OTHER_FOLDER}`,
  });
}

/** Where an entry's folder should be is something that somebody else may change. */
export function foreignFolderError(path: string): GatewayError {
  const text = `${path} is not a folder of this user, and so no entry of a cache`;
  return new GatewayError('UNBD_NO_PERMISSION', text, {
    hint: `look at it and remove it, or ${OTHER_FOLDER}`,
  });
}
