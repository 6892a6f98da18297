/**
 * Claim: requests to an origin are counted, each attempt and redirect, and their times to the first
 * byte are told within 10 %, whatever they are, in bounded memory.
 * Method: times that are given, and a web server of the test's own that redirects and answers late.
 */
import t from 'tap';
import { Traffic } from '../../src/protocols/source/traffic.ts';
import { httpOrigin, openLazily, readRange, sendRange } from '../support/http-origin.ts';

function isAbout(is: number | undefined, ms: number): boolean {
  return is !== undefined && is >= ms * 0.99 && is <= ms * 1.1;
}

t.test('the median and the 99th percentile are those of the times', async (t) => {
  const traffic = new Traffic();
  t.equal(traffic.firstByteMs(0.5), undefined, 'there is none yet');
  for (let ms = 1; ms <= 1000; ms += 1) traffic.began(ms);
  t.ok(isAbout(traffic.firstByteMs(0.5), 500), String(traffic.firstByteMs(0.5)));
  t.ok(isAbout(traffic.firstByteMs(0.99), 990), String(traffic.firstByteMs(0.99)));
  t.ok(isAbout(traffic.firstByteMs(0.001), 1));
});

t.test('one slow one of a hundred does not move the median, and shows at the end', async (t) => {
  const traffic = new Traffic();
  for (let count = 0; count < 99; count += 1) traffic.began(20);
  traffic.began(3000);
  t.ok(isAbout(traffic.firstByteMs(0.5), 20));
  t.ok(isAbout(traffic.firstByteMs(0.99), 20));
  t.ok(isAbout(traffic.firstByteMs(1), 3000));
});

t.test('times beyond every bound are counted all the same', async (t) => {
  const traffic = new Traffic();
  traffic.began(0);
  t.equal(traffic.firstByteMs(1), 0.1);
  traffic.began(1e12);
  t.ok((traffic.firstByteMs(1) ?? 0) > 1e6);
});

t.test('a redirect is a request, and a body that nobody wants has no first byte', async (t) => {
  const waitMs = 60;
  const origin = await httpOrigin(t, (request, response) => {
    if (request.url === '/image') response.writeHead(302, { Location: '/moved' }).end('elsewhere');
    else setTimeout(() => sendRange(request, response), waitMs);
  });
  const source = await openLazily(t, `${origin.base}/image`);
  t.equal(source.traffic?.requests, 0, 'nothing was asked for');
  t.equal((await readRange(source, 0, 16)).line, '');
  t.equal(source.traffic?.requests, 2);
  t.equal(origin.requests.length, 2);
  const firstMs = source.traffic?.firstByteMs(0.01) ?? 0;
  t.ok(firstMs >= waitMs - 1, `the redirect, which came at once, is not in it: ${firstMs} ms`);
});
