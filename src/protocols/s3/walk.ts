/**
 * Owns: the way of one request for an object in S3 to its answer: its signature, made anew for each
 * attempt, and what one more attempt mends: the region, the clock, the credentials, a redirect.
 * Runs in: server processes and the CLI, on the JS main thread.
 * Must not: wait and try again (a source that wraps this one does), mend one thing twice in a
 * request, or show a header.
 */
import { type Answer, header, wrongAnswer } from '../http/answer.ts';
import { exchange } from '../http/exchange.ts';
import { gone } from '../http/judge.ts';
import type { Pools } from '../http/pools.ts';
import { REDIRECTS, redirectTarget } from '../http/redirects.ts';
import type { Carrier } from '../http/source.ts';
import { addressText } from '../http/url.ts';
import type { Wish } from '../http/walk.ts';
import { SourceError } from '../source/source-error.ts';
import type { AwsCredentials, CredentialCache } from './credentials.ts';
import { mayLeadTo, objectUrl, type PlaceOptions } from './endpoint.ts';
import { isOfCredentials, isOfRegion, type Refusal, refusalError, refusalOf } from './refusal.ts';
import type { Signer } from './sign.ts';
import type { S3Target } from './uri.ts';

/** Answers that the verdict on a range knows: what else comes is a refusal, and has a body. */
const JUDGED: ReadonlySet<number> = new Set([200, 206, 412, 416]);

/** What one more attempt may mend; each once in a request. */
type Cure = 'region' | 'clock' | 'credentials' | 'redirect';

export interface S3WalkOptions {
  readonly pools: Pools;
  readonly target: S3Target;
  readonly place: PlaceOptions;
  readonly region: string;
  /** Undefined: requests are not signed. */
  readonly credentials: CredentialCache | undefined;
  readonly signer: Signer;
  readonly timeoutMs: number;
}

export class S3Walker implements Carrier {
  readonly #options: S3WalkOptions;
  #region: string;
  #versionId: string | undefined;
  #isPinned = false;

  constructor(options: S3WalkOptions) {
    this.#options = options;
    this.#region = options.region;
    this.#versionId = options.target.versionId;
  }

  /** All further requests are for this version. */
  pin(versionId: string): void {
    this.#versionId = versionId;
    this.#isPinned = true;
  }

  async get(wish: Wish): Promise<Answer> {
    const mended = new Set<Cure>();
    let elsewhere: URL | undefined;
    for (;;) {
      const { target, place, credentials } = this.#options;
      const url = elsewhere ?? objectUrl(target, place, this.#region, this.#versionId);
      const used = await credentials?.current();
      const region = this.#region;
      const answer = await this.#ask(wish, url, used, region);
      if (answer.body === undefined) return answer;
      const refusal = refusalOf(answer);
      const cure = this.#cureOf(answer, refusal, used);
      if (cure === undefined || mended.has(cure)) throw this.#error(answer, refusal);
      mended.add(cure);
      if (cure === 'redirect') elsewhere = this.#redirect(url, answer);
      else if (!(await this.#mend(cure, answer, refusal, used, region))) {
        throw this.#error(answer, refusal);
      }
    }
  }

  async #ask(
    wish: Wish,
    url: URL,
    used: AwsCredentials | undefined,
    region: string,
  ): Promise<Answer> {
    const { pools, signer, timeoutMs, target } = this.#options;
    const subject = target.text;
    const signed = await this.#headers(wish, url, used, region, signer);
    return exchange(pools, {
      ...wish,
      url,
      headers: ['User-Agent', 'ublk-nbd', ...signed],
      subject,
      timeoutMs,
      judge: (answer) => {
        if (!JUDGED.has(answer.status)) return 'hear';
        wish.judge(answer, subject);
        this.#checkVersion(answer);
        return 'take';
      },
    });
  }

  /** Accept-Encoding is not signed: what stands in between may change it. */
  async #headers(
    wish: Wish,
    url: URL,
    used: AwsCredentials | undefined,
    region: string,
    signer: Signer,
  ): Promise<readonly string[]> {
    if (used === undefined) return wish.headers;
    const coding: string[] = [];
    const own: string[] = [];
    for (let at = 0; at + 1 < wish.headers.length; at += 2) {
      const pair = wish.headers.slice(at, at + 2);
      (/^accept-encoding$/i.test(pair[0] ?? '') ? coding : own).push(...pair);
    }
    return [...coding, ...(await signer.sign(url, own, used, region))];
  }

  #cureOf(answer: Answer, refusal: Refusal, used: AwsCredentials | undefined): Cure | undefined {
    if (isOfRegion(answer, refusal)) return 'region';
    if (REDIRECTS.has(answer.status)) return 'redirect';
    if (used === undefined) return undefined;
    if (refusal.code === 'RequestTimeTooSkewed') return 'clock';
    return isOfCredentials(answer, refusal) ? 'credentials' : undefined;
  }

  /** False: the next attempt would be the same. */
  async #mend(
    cure: Exclude<Cure, 'redirect'>,
    answer: Answer,
    { region }: Refusal,
    used: AwsCredentials | undefined,
    asked: string,
  ): Promise<boolean> {
    const { credentials, signer } = this.#options;
    if (cure === 'region') {
      // Another read may have found it meanwhile.
      if (this.#region !== asked) return true;
      if (region === undefined || region === asked) return false;
      this.#region = region;
      return true;
    }
    if (cure === 'clock') return signer.learnTime(header(answer, 'date'));
    return used !== undefined && (await credentials?.renew(used)) === true;
  }

  #redirect(from: URL, answer: Answer): URL {
    const { target, place } = this.#options;
    const to = redirectTarget(from, answer, target.text);
    if (mayLeadTo(from, to, place.endpoint)) return to;
    const text = `${target.text} redirects to ${addressText(to)}, which is not followed`;
    throw new SourceError('UNBD_EXPORT_REFUSED', text, {
      hint: 'name the endpoint with --s3-endpoint',
    });
  }

  /** A version never changes, so that another one in its place is a wrong answer. */
  #checkVersion(answer: Answer): void {
    const told = header(answer, 'x-amz-version-id');
    const { text } = this.#options.target;
    if (this.#versionId === undefined || told === undefined || told === this.#versionId) return;
    throw wrongAnswer(text, 'it sends another version than the one asked for');
  }

  #error(answer: Answer, refusal: Refusal): SourceError {
    const { target } = this.#options;
    return this.#isPinned && refusal.code === 'NoSuchVersion'
      ? gone(target.text, 'its version was deleted, and there is nothing else')
      : refusalError(answer, refusal, target.text);
  }
}
