/**
 * Claim: events reach every subscriber until it ends; one that does not read misses some, is told
 * how many, and costs no memory.
 * Method: EventHub with listeners of the test's own.
 */
import t from 'tap';
import { boundedListener, EventHub } from '../../src/gateway/events.ts';
import type { DeviceEvent } from '../../src/gateway/messages.ts';

// The log of these events is not what is looked at.
process.env.UBLK_NBD_LOG_FILE = '/dev/null';

t.test('each subscriber gets each event, until it ends', async (t) => {
  const hub = new EventHub();
  const seen: string[] = [];
  const stop = hub.subscribe(({ kind }) => seen.push(`a ${kind}`));
  hub.subscribe(({ device, text }) => seen.push(`b ${device} ${text}`));
  hub.publish('recovering', 3, 'it died');
  stop();
  hub.publish('fatal', 4, 'it is gone');
  t.same(seen, ['a recovering', 'b 3 it died', 'b 4 it is gone']);
});

t.test('who does not read misses events, and the next one says how many', async (t) => {
  let unsentBytes = 0;
  const sent: DeviceEvent[] = [];
  const listener = boundedListener(
    (event) => sent.push(event),
    () => unsentBytes,
  );
  const event = { atMs: 1, device: 0, kind: 'lost', text: '' } as const;
  listener(event);
  unsentBytes = 1 << 20;
  for (let count = 0; count < 7; count += 1) listener(event);
  unsentBytes = 0;
  listener(event);
  listener(event);
  t.same(
    sent.map(({ missed }) => missed),
    [undefined, 7, undefined],
  );
});
