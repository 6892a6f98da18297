/**
 * Claim: a device promises what its backend can do and no more, within the driver's limits.
 * Method: planDevice over backends that differ in one thing; the driver's constants are copies
 * here.
 */
import t from 'tap';
import type { ConnectOptions } from '../../src/gateway/messages.ts';
import { type DevicePlan, planDevice, wantedQueues } from '../../src/gateway/params.ts';
import type { BackendInfo } from '../../src/protocols/adapter.ts';
import { backend as smallBackend } from '../support/fake-host.ts';

/** linux/ublk_cmd.h */
const UBLK_ATTR_READ_ONLY = 1;
const UBLK_ATTR_ROTATIONAL = 2;
const UBLK_ATTR_VOLATILE_CACHE = 4;
const UBLK_ATTR_FUA = 8;
const UBLK_F_USER_COPY = 0x80n;
const UBLK_F_NO_AUTO_PART_SCAN = 0x40000n;
const ALL_FEATURES = 0xfffffn;
/** USER_RECOVERY and USER_RECOVERY_REISSUE; with them, where offered, UPDATE_SIZE and QUIESCE. */
const OLD_RECOVERY = 0x18n;
const RECOVERY = OLD_RECOVERY | 0x400n | 0x1000n;

const KIB = 1024;
const MIB = 1024 * KIB;

const backend: BackendInfo = { ...smallBackend, sizeBytes: 1n << 30n };

const options: ConnectOptions = {
  target: {
    kind: 'nbd',
    endpoint: { kind: 'tcp', host: 'h', port: 10809 },
    exportName: '',
    text: 'nbd://h',
  },
  readOnly: false,
  partitionScan: true,
  dataPath: 'copy',
  handshakeTimeoutMs: 10_000,
};

interface Case {
  readonly backend?: Partial<BackendInfo>;
  readonly options?: Partial<ConnectOptions>;
  readonly connections?: number;
  readonly features?: bigint;
}

function plan(given: Case = {}): DevicePlan {
  return planDevice({
    options: { ...options, ...given.options },
    backend: { ...backend, ...given.backend },
    connections: given.connections,
    features: given.features ?? ALL_FEATURES,
    processors: 8,
  });
}

t.test('a device that is to grow is refused where the kernel cannot', async (t) => {
  const features = ALL_FEATURES & ~0x400n;
  t.throws(() => plan({ options: { resize: true }, features }), { code: 'UNBD_USAGE' });
  t.ok((plan({ options: { resize: true } }).flags & 0x400n) !== 0n);
});

t.test('attributes say what the backend can do', async (t) => {
  const attrs = (given: Partial<BackendInfo>, readOnly = false) =>
    plan({ backend: given, options: { readOnly } }).params.attrs;
  t.equal(attrs({}), UBLK_ATTR_VOLATILE_CACHE | UBLK_ATTR_FUA);
  t.equal(attrs({ canFua: false }), UBLK_ATTR_VOLATILE_CACHE, 'the block layer flushes instead');
  t.equal(attrs({ canFlush: false }), 0, 'FUA alone means nothing to the driver');
  t.equal(attrs({ readOnly: true }), UBLK_ATTR_READ_ONLY);
  t.equal(attrs({}, true), UBLK_ATTR_READ_ONLY, '--read-only');
  t.equal(
    attrs({ rotational: true, canFlush: false }),
    UBLK_ATTR_ROTATIONAL,
    'and nothing beside it',
  );
});

t.test('discard and write zeroes are offered each for itself, never read-only', async (t) => {
  const discard = (given: Partial<BackendInfo>) => plan({ backend: given }).params.discard;
  t.match(discard({}), { granularityBytes: 512 });
  t.equal(discard({ canTrim: false })?.maxDiscardSectors, 0);
  t.ok((discard({ canTrim: false })?.maxWriteZeroesSectors ?? 0) > 0);
  t.equal(discard({ canWriteZeroes: false })?.maxWriteZeroesSectors, 0);
  t.ok((discard({ canWriteZeroes: false })?.maxDiscardSectors ?? 0) > 0);
  t.equal(discard({ canTrim: false, canWriteZeroes: false }), undefined);
  t.equal(discard({ readOnly: true }), undefined);
});

t.test('block sizes follow the minimum, the preference and the user', async (t) => {
  const shifts = (given: Partial<BackendInfo>, blockSizeBytes?: number) => {
    const asked = blockSizeBytes === undefined ? {} : { blockSizeBytes };
    const { params } = plan({ backend: given, options: asked });
    const { logicalBlockShift, physicalBlockShift, ioMinShift, ioOptShift } = params;
    return [logicalBlockShift, physicalBlockShift, ioMinShift, ioOptShift];
  };
  t.same(shifts({}), [9, 12, 12, 12]);
  t.same(shifts({ minimumBlockBytes: 4096 }), [12, 12, 12, 12]);
  t.same(shifts({ preferredBlockBytes: 512 }), [9, 9, 9, 9]);
  t.same(shifts({ preferredBlockBytes: 64 * KIB }), [9, 12, 12, 16]);
  t.same(shifts({ preferredBlockBytes: 32 * MIB }), [9, 12, 12, 20], 'readahead stays sane');
  t.same(shifts({ preferredBlockBytes: 512 }, 4096), [12, 12, 12, 12], '--block-size 4096');
});

t.test('a size that no device can have is refused', async (t) => {
  const refused = { code: 'UNBD_EXPORT_UNUSABLE' };
  t.throws(() => plan({ backend: { sizeBytes: 0n } }), refused);
  t.throws(() => plan({ backend: { sizeBytes: 1_000_000n } }), refused);
  t.throws(() => plan({ backend: { minimumBlockBytes: 64 * KIB } }), refused);
  t.equal(plan({ backend: { sizeBytes: 512n } }).params.devSectors, 1n);
  t.equal(plan({ backend: { sizeBytes: (1n << 63n) - 512n } }).params.devSectors, (1n << 54n) - 1n);
});

t.test('all tag buffers together stay within 64 MiB, a request within 1 MiB', async (t) => {
  const largest = (queues: number, depth: number) =>
    plan({ options: { queues, depth } }).maxIoBytes;
  t.equal(largest(1, 64), MIB);
  t.equal(largest(4, 64), 256 * KIB);
  t.equal(largest(1, 1), MIB);
  t.equal(largest(3, 64), 256 * KIB, 'a power of two');
  t.equal(largest(1, 4096), 16 * KIB);
  for (const queues of [1, 2, 3, 5, 8, 16]) {
    for (const depth of [1, 7, 64, 128, 256]) {
      t.ok(queues * depth * largest(queues, depth) <= 64 * MIB, `${queues} x ${depth}`);
    }
  }
  t.throws(() => largest(2, 4096), { code: 'UNBD_USAGE' });
  const { maxIoBytes, params } = plan();
  t.equal(params.maxSectors * 512, maxIoBytes);
});

t.test('several queues need a backend that allows several connections', async (t) => {
  const count = (given: Case, processors = 8) =>
    wantedQueues({ ...options, ...given.options }, { ...backend, ...given.backend }, processors);
  const alone = { canMultiConn: false };
  t.same(count({}), { count: 4, fewerWillDo: true });
  t.equal(count({}, 2).count, 2, 'no more than processors');
  t.equal(count({ backend: alone }).count, 1);
  t.equal(count({ backend: { ...alone, readOnly: true } }).count, 4);
  t.equal(count({ backend: alone, options: { readOnly: true } }).count, 4);
  t.same(count({ options: { queues: 2 } }), { count: 2, fewerWillDo: false });
  t.same(count({ options: { connections: 3 } }), { count: 3, fewerWillDo: false });
  t.throws(() => count({ backend: alone, options: { queues: 2 } }), { code: 'UNBD_USAGE' });
  const local = { target: { kind: 'null', sizeBytes: 1n, text: 'null:1' } } as const;
  t.equal(count({ backend: alone, options: local }).count, 4, 'local targets have no connections');
});

t.test('a wire device has a queue for each connection there is', async (t) => {
  t.equal(plan({ connections: 1 }).queueCount, 1);
  t.equal(plan({ connections: 3 }).queueCount, 3);
  t.equal(plan({ connections: 1 }).maxIoBytes, MIB);
});

t.test(
  'the partition scan is never within START, and ours where the driver has none',
  async (t) => {
    const noScan = { options: { partitionScan: false } };
    t.match(plan(noScan), {
      flags: RECOVERY | UBLK_F_NO_AUTO_PART_SCAN,
      suppressPartitionScan: false,
      scanPartitions: false,
    });
    t.match(plan({ ...noScan, features: 0x1fen }), {
      flags: OLD_RECOVERY,
      suppressPartitionScan: true,
      scanPartitions: false,
    });
    t.match(plan(), { flags: RECOVERY, suppressPartitionScan: false, scanPartitions: false });
    t.match(plan({ features: 0x1fen }), { suppressPartitionScan: true, scanPartitions: true });
  },
);

t.test('the user-copy path is asked for, or refused where the driver lacks it', async (t) => {
  const userCopy = { options: { dataPath: 'user-copy' } } as const;
  t.equal(plan(userCopy).flags, RECOVERY | UBLK_F_USER_COPY);
  t.throws(() => plan({ ...userCopy, features: 0x7en }), { code: 'UNBD_USAGE' });
});

t.test(
  'a device outlives its server process unless that is not wanted, or is its content',
  async (t) => {
    const flags = (given: Partial<ConnectOptions>) => plan({ options: given }).flags;
    t.equal(flags({}), RECOVERY);
    t.equal(flags({ onCrash: 'recover' }), RECOVERY);
    t.equal(flags({ onCrash: 'fail' }), 0x400n);
    t.equal(flags({ resendWrites: false }), RECOVERY & ~0x10n, 'the kernel reissues nothing');
    const target = { kind: 'memory', sizeBytes: 1n << 20n, text: 'memory:1M' } as const;
    t.equal(flags({ target }), 0x400n);
    t.throws(() => flags({ target, onCrash: 'recover' }), { code: 'UNBD_USAGE' });
    t.equal(plan().needsShortTimeout, false);
    t.equal(plan({ features: 0x1fen }).needsShortTimeout, true);
  },
);
