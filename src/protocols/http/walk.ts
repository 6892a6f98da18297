/**
 * Owns: the way of one request to its answer: redirects, the headers that only the origin of the
 * target may see, and what to ask again when an address or a credential is of yesterday.
 * Runs in: server processes and the CLI, on the JS main thread.
 * Must not: wait and try again (a source that wraps this one does), or show a query or a header.
 */
import type { Place } from '../adapter.ts';
import { SourceError } from '../source/source-error.ts';
import { type Answer, wrongAnswer } from './answer.ts';
import type { Body } from './body.ts';
import { exchange } from './exchange.ts';
import { StatusError } from './failures.ts';
import { readHeaderFile } from './files.ts';
import type { Pools } from './pools.ts';
import { MAXIMUM_REDIRECTS, REDIRECTS, type Route, redirectTarget } from './redirects.ts';
import { addressText } from './url.ts';

/** What a request wants, wherever it is led. */
export interface Wish {
  readonly headers: readonly string[];
  readonly into: Place;
  readonly signal: AbortSignal;
  /** Throws unless the body may be put into `into`; never sees a redirect. */
  judge(answer: Answer, subject: string): void;
  /** What the body is for, where that is not `into`. */
  body?(answer: Answer): Body | undefined;
  landed(bytes: number): void;
}

/** The headers of --header-file, as they were last read. */
export class Credentials {
  readonly #path: string | undefined;
  #headers: readonly string[] = [];

  constructor(path: string | undefined) {
    this.#path = path;
  }

  get headers(): readonly string[] {
    return this.#headers;
  }

  /**
   * Reads the file again; true if there are other headers now than `used`: the same ones would get
   * the same answer.
   */
  async renew(used: readonly string[]): Promise<boolean> {
    if (this.#path === undefined) return false;
    this.#headers = await readHeaderFile(this.#path);
    return JSON.stringify(this.#headers) !== JSON.stringify(used);
  }
}

export class Walker {
  readonly #pools: Pools;
  readonly #route: Route;
  readonly #credentials: Credentials;
  readonly #timeoutMs: number;

  constructor(pools: Pools, route: Route, credentials: Credentials, timeoutMs: number) {
    this.#pools = pools;
    this.#route = route;
    this.#credentials = credentials;
    this.#timeoutMs = timeoutMs;
  }

  /** Resolves with the head of the answer, after all of `into` has landed. */
  async get(wish: Wish): Promise<Answer> {
    const { original } = this.#route;
    let hasLanded = false;
    let isRenewed = false;
    let start = this.#route.current();
    const landed = (bytes: number) => {
      hasLanded = true;
      wish.landed(bytes);
    };
    const body = (answer: Answer): Body | undefined => {
      const wanted = wish.body?.(answer);
      hasLanded ||= wanted !== undefined;
      return wanted;
    };
    for (;;) {
      const credentials = this.#credentials.headers;
      try {
        return await this.#walk(start, credentials, { ...wish, landed, body });
      } catch (error) {
        if (start !== original) {
          if (isCalledOff(error)) throw error;
          // It may have expired, its host may be gone or ill, or have another object: the original
          // address may lead elsewhere by now.
          this.#route.forget(start);
          if (hasLanded || isLate(error)) throw error;
          start = original;
        } else {
          if (!isDenied(error) || isRenewed) throw error;
          isRenewed = true;
          if (!(await this.#credentials.renew(credentials))) throw error;
        }
      }
    }
  }

  async #walk(start: URL, credentials: readonly string[], wish: Wish): Promise<Answer> {
    const { original } = this.#route;
    let url = start;
    for (let redirects = 0; ; redirects += 1) {
      const subject = this.#subject(url);
      const here = url;
      const answer = await exchange(this.#pools, {
        ...wish,
        url,
        headers: [...wish.headers, ...this.#headersFor(url, credentials)],
        subject,
        timeoutMs: this.#timeoutMs,
        judge: (answer) => {
          if (REDIRECTS.has(answer.status)) return 'leave';
          wish.judge(answer, subject);
          if (start === original) this.#route.learn(here);
          return 'take';
        },
      });
      if (!REDIRECTS.has(answer.status)) return answer;
      if (redirects === MAXIMUM_REDIRECTS) {
        throw wrongAnswer(subject, `it redirects more than ${MAXIMUM_REDIRECTS} times`);
      }
      url = redirectTarget(url, answer, subject);
    }
  }

  /**
   * A credential goes to the scheme, host and port that it was given for, and nowhere else: whoever
   * is redirected to may be anybody (RFC 9110, 15.4).
   */
  #headersFor(url: URL, credentials: readonly string[]): readonly string[] {
    const own = url.origin === this.#route.original.origin ? credentials : [];
    const hasAgent = own.some((name, at) => at % 2 === 0 && /^user-agent$/i.test(name));
    return hasAgent ? own : ['User-Agent', 'ublk-nbd', ...own];
  }

  #subject(url: URL): string {
    const asked = addressText(this.#route.original);
    const isSame = url.href === this.#route.original.href;
    return isSame ? asked : `${asked} (redirected to ${addressText(url)})`;
  }
}

function isCalledOff(error: unknown): boolean {
  return error instanceof SourceError && error.code === 'UNBD_INTERRUPTED';
}

/** The time of this read is spent; the next one begins at the original address. */
function isLate(error: unknown): boolean {
  return error instanceof SourceError && error.code === 'UNBD_BACKEND_TIMEOUT';
}

function isDenied(error: unknown): boolean {
  return error instanceof StatusError && (error.status === 401 || error.status === 403);
}
