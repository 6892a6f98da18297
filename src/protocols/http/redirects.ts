/**
 * Owns: where a redirect may lead, and for how long the address that it led to is used.
 * Runs in: any process; pure, but for the clock.
 * Must not: ask for anything, or show a query.
 */
import { SourceError } from '../source/source-error.ts';
import { type Answer, header, wrongAnswer } from './answer.ts';
import { addressText } from './url.ts';

/** A redirect that is followed (RFC 9110, 15.4); all of them mean the same for GET. */
export const REDIRECTS: ReadonlySet<number> = new Set([301, 302, 303, 307, 308]);

/** In one chain. */
export const MAXIMUM_REDIRECTS = 5;

/** Signed addresses live for minutes; what redirects to a mirror may choose another one. */
const RESOLVED_FOR_MS = 60_000;

/**
 * The address that an answer of `from` redirects to. Throws UNBD_BACKEND_PROTOCOL if it names
 * none, and UNBD_EXPORT_REFUSED for one that is not followed.
 */
export function redirectTarget(from: URL, answer: Answer, subject: string): URL {
  const location = header(answer, 'location');
  if (location === undefined) throw wrongAnswer(subject, 'it redirects, and does not say where to');
  let url: URL;
  try {
    url = new URL(location, from);
  } catch {
    throw wrongAnswer(subject, 'it redirects to what is not a web address');
  }
  const refused = (why: string) =>
    new SourceError('UNBD_EXPORT_REFUSED', `${subject} redirects ${why}, which is not followed`, {
      hint: 'name the address that it leads to',
    });
  if (url.protocol !== 'http:' && url.protocol !== 'https:') {
    throw refused('to another protocol than HTTP');
  }
  if (from.protocol === 'https:' && url.protocol === 'http:') {
    throw refused(`from https to ${addressText(url)}`);
  }
  if (url.username !== '' || url.password !== '') {
    throw refused('to an address with a user name or password');
  }
  url.hash = '';
  return url;
}

/** The address that was asked for, and the one that it was last found to redirect to. */
export class Route {
  readonly original: URL;
  readonly #now: () => number;
  #resolved: { readonly url: URL; readonly untilMs: number } | undefined;

  /** `now` is a clock that only goes forward, ms. */
  constructor(original: URL, now: () => number = () => performance.now()) {
    this.original = original;
    this.#now = now;
  }

  /** Where to ask now. */
  current(): URL {
    if (this.#resolved !== undefined && this.#resolved.untilMs <= this.#now()) {
      this.#resolved = undefined;
    }
    return this.#resolved?.url ?? this.original;
  }

  /** The original address was found to lead to `url`. */
  learn(url: URL): void {
    const untilMs = this.#now() + RESOLVED_FOR_MS;
    this.#resolved = url.href === this.original.href ? undefined : { url, untilMs };
  }

  /** `url` is of no use any more; what was learned since stays. */
  forget(url: URL): void {
    if (this.#resolved?.url === url) this.#resolved = undefined;
  }
}
