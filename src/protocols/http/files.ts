/**
 * Owns: what people give in files: request headers with credentials, and certificates.
 * Runs in: server processes and the CLI, on the JS main thread.
 * Must not: show a value of a header, or keep a file open.
 */
import { X509Certificate } from 'node:crypto';
import { readFile } from 'node:fs/promises';
import { setTimeout as sleep } from 'node:timers/promises';
import { OneAtATime } from '../source/one-at-a-time.ts';
import { SourceError } from '../source/source-error.ts';

/** What this program says itself, or what belongs to one connection (RFC 9110, 7.6.1). */
const OWN_HEADERS = new Set([
  'accept-encoding',
  'connection',
  'content-length',
  'expect',
  'host',
  'if-match',
  'if-modified-since',
  'if-none-match',
  'if-range',
  'if-unmodified-since',
  'keep-alive',
  'proxy-connection',
  'range',
  'te',
  'trailer',
  'transfer-encoding',
  'upgrade',
]);

const MAXIMUM_HEADERS_BYTES = 64 * 1024;
/** Of a file whose file system hangs, ms; whoever waits for it must find out. */
const TIMEOUT_MS = 10_000;

/**
 * The lines `Name: value` of a file as names and values in turn; empty lines and lines that begin
 * with # are left out. Throws UNBD_USAGE with the number of a line that is no header field
 * (RFC 9110, 5.1 and 5.5), and UNBD_NO_PERMISSION or UNBD_USAGE if the file cannot be read.
 */
export async function readHeaderFile(
  path: string,
  timeoutMs = TIMEOUT_MS,
): Promise<readonly string[]> {
  const text = await read(path, 'header file', 'latin1', timeoutMs);
  if (text.length > MAXIMUM_HEADERS_BYTES) {
    throw unusable(`the header file ${path} is over 64 KiB`, 'write lines "Name: value"');
  }
  return text.split('\n').flatMap((line, at) => {
    const clean = line.replace(/\r$/, '');
    if (/^\s*(#|$)/.test(clean)) return [];
    const match = /^([!#$%&'*+.^_`|~0-9A-Za-z-]+):[ \t]*([\t\x20-\x7e\x80-\xff]*)$/.exec(clean);
    const [, name, value] = match ?? [];
    const place = `line ${at + 1} of the header file ${path}`;
    if (name === undefined || value === undefined) {
      throw unusable(`${place} is not a header`, 'write lines "Name: value"');
    }
    if (OWN_HEADERS.has(name.toLowerCase())) {
      throw unusable(`${place} sets ${name}, which ublk-nbd sets itself`, 'leave it out');
    }
    return [name, value.trimEnd()];
  });
}

/**
 * The PEM text of `path`. Throws UNBD_USAGE if it holds no certificate, and UNBD_NO_PERMISSION or
 * UNBD_USAGE if it cannot be read.
 */
export async function readCaFile(path: string): Promise<string> {
  const text = await read(path, 'CA file', 'utf8', TIMEOUT_MS);
  try {
    // Without this, TLS leaves out what it cannot read, and trusts nobody.
    new X509Certificate(text);
  } catch (cause) {
    const hint = 'name a file in PEM form';
    throw unusable(`the CA file ${path} holds no certificate`, hint, cause);
  }
  return text;
}

/** Each that hangs has one of the few threads on which all files are read and names looked up. */
const reads = new OneAtATime<string>();

async function read(
  path: string,
  what: string,
  encoding: 'latin1' | 'utf8',
  timeoutMs: number,
): Promise<string> {
  const stop = new AbortController();
  const late = sleep(timeoutMs, undefined, { signal: stop.signal }).then(() => {
    const text = `the ${what} ${path} gave nothing within ${timeoutMs / 1000} s`;
    throw unusable(text, 'check the file system that it is on');
  });
  try {
    const text = reads.run(`${encoding} ${path}`, () => readFile(path, encoding));
    return await Promise.race([text, late]);
  } catch (cause) {
    if (cause instanceof SourceError) throw cause;
    const code = (cause as NodeJS.ErrnoException).code ?? 'no reason';
    if (code === 'EACCES' || code === 'EPERM') {
      const text = `the ${what} ${path} may not be read`;
      throw new SourceError('UNBD_NO_PERMISSION', text, {
        hint: 'run as root, or change its permissions',
        cause,
      });
    }
    throw unusable(`the ${what} ${path} cannot be read (${code})`, 'check the path', cause);
  } finally {
    stop.abort();
  }
}

function unusable(message: string, hint: string, cause?: unknown): SourceError {
  return new SourceError('UNBD_USAGE', message, {
    hint,
    ...(cause === undefined ? {} : { cause }),
  });
}
