/**
 * Owns: the credentials that requests are signed with: kept while they are good, fetched again
 * before they expire and when they were refused, by one call at a time.
 * Runs in: server processes and the CLI, on the JS main thread.
 * Must not: know where they come from, or show them.
 */
import { SourceError } from '../source/source-error.ts';

export interface AwsCredentials {
  readonly accessKeyId: string;
  readonly secretAccessKey: string;
  /** Of credentials for a session. */
  readonly sessionToken?: string;
  readonly expiration?: Date;
}

/** Rejects with a SourceError, without a secret. */
export type FetchCredentials = () => Promise<AwsCredentials>;

export interface CredentialsOptions {
  /** Limit of a fetch for those who wait for it, ms. */
  readonly timeoutMs: number;
  /** The time of day, ms since 1970. */
  now?(): number;
}

/** The next ones are fetched so long before they end, but not in the first half of their life. */
const REFRESH_BEFORE_MS = 5 * 60_000;
/** After a fetch ahead of time that failed. */
const NEXT_ATTEMPT_MS = 10_000;

export class CredentialCache {
  readonly #fetch: FetchCredentials;
  readonly #timeoutMs: number;
  readonly #now: () => number;
  #held: AwsCredentials | undefined;
  #refreshAtMs = Number.POSITIVE_INFINITY;
  #fetching: Promise<AwsCredentials> | undefined;

  constructor(fetch: FetchCredentials, { timeoutMs, now = Date.now }: CredentialsOptions) {
    this.#fetch = fetch;
    this.#timeoutMs = timeoutMs;
    this.#now = now;
  }

  /** Good ones; waits for a fetch only where there are none. */
  async current(): Promise<AwsCredentials> {
    const held = this.#held;
    const nowMs = this.#now();
    if (held === undefined || (held.expiration?.getTime() ?? Number.POSITIVE_INFINITY) <= nowMs) {
      return this.#fetched();
    }
    if (nowMs >= this.#refreshAtMs) {
      this.#refreshAtMs = nowMs + NEXT_ATTEMPT_MS;
      // Those that are held are good all the same; why it failed shows when they are no more.
      this.#begin().catch(() => undefined);
    }
    return held;
  }

  /** After `used` were refused: true if there are others now. */
  async renew(used: AwsCredentials): Promise<boolean> {
    if (this.#held !== undefined && !isSame(this.#held, used)) return true;
    return !isSame(await this.#fetched(), used);
  }

  /** A fetch that hangs goes on alone: it is not begun a second time. */
  async #fetched(): Promise<AwsCredentials> {
    let timer: NodeJS.Timeout | undefined;
    const late = new Promise<never>((_, reject) => {
      const text = `the source of the credentials gave none within ${this.#timeoutMs} ms`;
      const error = new SourceError('UNBD_BACKEND_TIMEOUT', text, {
        hint: 'see what its profile names, or choose another with --s3-profile',
      });
      timer = setTimeout(() => reject(error), this.#timeoutMs);
    });
    try {
      return await Promise.race([this.#begin(), late]);
    } finally {
      clearTimeout(timer);
    }
  }

  #begin(): Promise<AwsCredentials> {
    this.#fetching ??= this.#fetch()
      .then((fetched) => {
        this.#keep(fetched);
        return fetched;
      })
      .finally(() => {
        this.#fetching = undefined;
      });
    return this.#fetching;
  }

  #keep(fetched: AwsCredentials): void {
    this.#held = fetched;
    const untilMs = fetched.expiration?.getTime() ?? Number.POSITIVE_INFINITY;
    const lifeMs = untilMs - this.#now();
    this.#refreshAtMs = untilMs - Math.min(REFRESH_BEFORE_MS, lifeMs / 2);
  }
}

function isSame(one: AwsCredentials, other: AwsCredentials): boolean {
  return (
    one.accessKeyId === other.accessKeyId &&
    one.secretAccessKey === other.secretAccessKey &&
    one.sessionToken === other.sessionToken
  );
}
