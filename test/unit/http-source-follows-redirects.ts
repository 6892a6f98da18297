/**
 * Claim: redirects are followed as far as is safe, a credential stays with its origin, and an
 * address that was found is used again until it expires.
 * Method: two servers, one that redirects to the other; a clock that the test moves.
 */
import { join } from 'node:path';
import t from 'tap';
import { Route } from '../../src/protocols/http/redirects.ts';
import {
  failure,
  httpOrigin,
  OBJECT,
  open,
  openLazily,
  rawOrigin,
  rawRange,
  readRange,
  sendRange,
} from '../support/http-origin.ts';

const LENGTH = 512;
const SECRET = 'hunter2';

for (const status of [301, 302, 303, 307, 308]) {
  t.test(`${status} is followed, and what it leads to is asked directly then`, async (t) => {
    const mirror = await httpOrigin(t, sendRange);
    const front = await httpOrigin(t, (_request, response) => {
      response.writeHead(status, { Location: `${mirror.base}/b?sig=${SECRET}` }).end('moved');
    });
    const source = await open(t, `${front.base}/a`);
    for (const offset of [0, 512]) {
      const outcome = await readRange(source, offset, LENGTH);
      t.equal(outcome.line, '');
      t.strictSame(outcome.into, OBJECT.slice(offset, offset + LENGTH));
    }
    t.strictSame(
      front.requests.map(({ url }) => url),
      ['/a'],
    );
    t.strictSame(new Set(mirror.requests.map(({ url }) => url)), new Set([`/b?sig=${SECRET}`]));
    t.equal(mirror.requests.length, 3);
  });
}

t.test('a place is told from the address that names it', async (t) => {
  const { base, requests } = await httpOrigin(t, (request, response) => {
    if (request.url === '/dir/a') response.writeHead(302, { Location: '../b?x#part' }).end();
    else sendRange(request, response);
  });
  await open(t, `${base}/dir/a`);
  t.strictSame(
    requests.map(({ url }) => url),
    ['/dir/a', '/b?x'],
  );
});

t.test('credentials go to their own origin alone', async (t) => {
  const folder = t.testdir({ headers: `# mine\nAuthorization: Bearer ${SECRET}\n` });
  const headerFile = `${folder}/headers`;
  const mirror = await httpOrigin(t, (request, response) => {
    if (request.url === '/back') response.writeHead(302, { Location: `${front.base}/c` }).end();
    else sendRange(request, response);
  });
  const front = await httpOrigin(t, (request, response) => {
    if (request.url === '/a') response.writeHead(302, { Location: '/b' }).end();
    else if (request.url === '/b') {
      response.writeHead(302, { Location: `${mirror.base}/back` }).end();
    } else sendRange(request, response);
  });
  await open(t, `${front.base}/a`, { headerFile });
  const sent = (origin: typeof front) =>
    origin.requests.map(({ url, headers }) => `${url} ${headers.authorization ?? 'nothing'}`);
  const bearer = `Bearer ${SECRET}`;
  t.strictSame(sent(front), [`/a ${bearer}`, `/b ${bearer}`, `/c ${bearer}`]);
  t.strictSame(sent(mirror), ['/back nothing']);
});

const LOCATIONS: readonly (readonly [location: string | undefined, line: RegExp])[] = [
  [undefined, /does not say where to.*UNBD_BACKEND_PROTOCOL/],
  ['http://', /not a web address.*UNBD_BACKEND_PROTOCOL/],
  ['file:///etc/passwd', /another protocol.*UNBD_EXPORT_REFUSED/],
  [`http://user:${SECRET}@127.0.0.1/`, /user name or password.*UNBD_EXPORT_REFUSED/],
  [`/loop?sig=${SECRET}`, /redirects more than 5 times.*UNBD_BACKEND_PROTOCOL/],
];

t.test('a redirect that leads nowhere is refused', async (t) => {
  for (const [location, line] of LOCATIONS) {
    const { base, requests } = await httpOrigin(t, (_request, response) => {
      response.writeHead(302, location === undefined ? {} : { Location: location }).end();
    });
    const error = await failure(open(t, `${base}/a?sig=${SECRET}`));
    t.match(error?.line, line, location ?? 'no Location');
    t.notMatch(error?.line, SECRET);
    t.ok(requests.length <= 6);
  }
});

for (const status of [401, 403, 404, 410]) {
  t.test(`an address that answers ${status} is asked for again at once`, async (t) => {
    let key = 1;
    const mirror = await httpOrigin(t, (request, response) => {
      if (request.url === `/b?sig=${key}`) sendRange(request, response);
      else response.writeHead(status).end('expired');
    });
    const front = await httpOrigin(t, (_request, response) => {
      response.writeHead(302, { Location: `${mirror.base}/b?sig=${key}` }).end();
    });
    const source = await open(t, `${front.base}/a`);
    t.equal((await readRange(source, 0, LENGTH)).line, '');
    key = 2;
    const outcome = await readRange(source, 512, LENGTH);
    t.equal(outcome.line, '');
    t.strictSame(outcome.into, OBJECT.slice(512, 1024));
    t.equal(front.requests.length, 2);
    t.strictSame(
      mirror.requests.map(({ url }) => url),
      ['/b?sig=1', '/b?sig=1', '/b?sig=1', '/b?sig=2'],
    );
  });
}

t.test('what the original address answers anew is final', async (t) => {
  let isGone = false;
  const mirror = await httpOrigin(t, (request, response) => {
    if (isGone) response.writeHead(404).end();
    else sendRange(request, response);
  });
  const front = await httpOrigin(t, (_request, response) => {
    response.writeHead(302, { Location: `${mirror.base}/b?sig=${SECRET}` }).end();
  });
  const source = await open(t, `${front.base}/a`);
  isGone = true;
  const { line } = await readRange(source, 0, LENGTH);
  t.match(line, `${front.base}/a (redirected to ${mirror.base}/b) answers 404`);
  t.notMatch(line, SECRET);
  t.equal(front.requests.length, 2);
  t.equal(mirror.requests.length, 3);
});

t.test('a mirror that is gone is left at once', async (t) => {
  let isBroken = false;
  const broken = await rawOrigin(t, (socket, head) => {
    if (isBroken) socket.resetAndDestroy();
    else socket.write(rawRange(head));
  });
  const good = await httpOrigin(t, sendRange);
  const front = await httpOrigin(t, (_request, response) => {
    response.writeHead(307, { Location: `${isBroken ? good.base : broken}/b` }).end();
  });
  const source = await open(t, `${front.base}/a`);
  isBroken = true;
  const outcome = await readRange(source, 0, LENGTH);
  t.equal(outcome.line, '');
  t.strictSame(outcome.into, OBJECT.slice(0, LENGTH));
  t.equal(front.requests.length, 2);
});

t.test('a mirror that ends in the middle of a body is left by the next read', async (t) => {
  let isBroken = false;
  const mirror = await rawOrigin(t, (socket, head) => {
    if (!isBroken) socket.write(rawRange(head));
    else
      socket.write(rawRange(head).subarray(0, -100), () => setTimeout(() => socket.destroy(), 99));
  });
  const front = await httpOrigin(t, (_request, response) => {
    response.writeHead(307, { Location: `${mirror}/b` }).end();
  });
  const source = await open(t, `${front.base}/a`);
  isBroken = true;
  const outcome = await readRange(source, 0, LENGTH);
  t.match(outcome.line, /UNBD_BACKEND_CLOSED/);
  t.equal(outcome.landedBytes, LENGTH - 100, 'what landed stays');
  t.equal(front.requests.length, 1);
  isBroken = false;
  t.equal((await readRange(source, 0, LENGTH)).line, '');
  t.equal(front.requests.length, 2);
});

t.test('a lazy source finds its mirror too', async (t) => {
  const mirror = await httpOrigin(t, sendRange);
  const front = await httpOrigin(t, (_request, response) => {
    response.writeHead(307, { Location: `${mirror.base}/b` }).end();
  });
  const source = await openLazily(t, `${front.base}/a`);
  t.equal((await readRange(source, 0, LENGTH)).line, '');
  t.equal((await readRange(source, 0, LENGTH)).line, '');
  t.equal(front.requests.length, 1);
});

t.test('an address that was found is used for 60 s', async (t) => {
  let nowMs = 1000;
  const original = new URL('https://origin.example/a');
  const found = new URL('https://mirror.example/a');
  const route = new Route(original, () => nowMs);
  t.equal(route.current(), original);
  route.learn(found);
  nowMs += 59_999;
  t.equal(route.current(), found);
  nowMs += 1;
  t.equal(route.current(), original);
  route.learn(found);
  route.forget(new URL(found));
  t.equal(route.current(), found, 'what was learned since stays');
  route.forget(found);
  t.equal(route.current(), original);
  route.learn(found);
  route.learn(new URL(original));
  t.equal(route.current(), original, 'no redirect any more');
});

t.test('a header file carries a bearer token, and a user name and a password', async (t) => {
  const basic = Buffer.from('user:p\u00e4ss+/=word').toString('base64');
  for (const credential of ['Bearer eyJh.eyJz-_.~+/=', `Basic ${basic}`]) {
    const folder = t.testdir({ headers: `Authorization: ${credential}\n` });
    const { base } = await httpOrigin(t, (request, response) => {
      if (request.headers.authorization === credential) sendRange(request, response);
      else response.writeHead(401).end();
    });
    await open(t, `${base}/image`, { headerFile: join(folder, 'headers') });
    t.match((await failure(open(t, `${base}/image`)))?.line, /UNBD_EXPORT_REFUSED/);
  }
});
