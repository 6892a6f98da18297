/**
 * Claim: a failed control command tells its cause and its cure, not an errno.
 * Method: controlError over what the helper can print.
 */
import t from 'tap';
import { controlError } from '../../src/gateway/control-error.ts';
import { parseAnswer } from '../../src/gateway/control-helper.ts';

t.test('the device, the ring and the permission are told apart', async (t) => {
  const cases = [
    ['open', 'ENOENT', false, 'UNBD_NO_DRIVER', /modprobe ublk_drv/],
    ['open', 'ENOENT', true, 'UNBD_NO_DEVICE_NODE', /--device \/dev\/ublk-control/],
    ['open', 'EACCES', true, 'UNBD_NO_PERMISSION', /--privileged/],
    ['ring', 'EPERM', true, 'UNBD_IO_URING_DISABLED', /io_uring_disabled=0/],
    ['ring', 'ENOSYS', true, 'UNBD_IO_URING_DISABLED', /seccomp/],
  ] as const;
  for (const [step, errno, hasDriver, code, hint] of cases) {
    const error = controlError('add', { ok: false, step, errno }, hasDriver);
    t.match(error, { code, hint }, `${step} ${errno}`);
    t.notMatch(error.line, '\n');
  }
});

t.test('what the driver refuses is named', async (t) => {
  const cases = [
    ['ADD_DEV', 'EPERM', 'UNBD_NO_PERMISSION', /SYS_ADMIN/],
    ['features', 'EOPNOTSUPP', 'UNBD_KERNEL_TOO_OLD', /6\.12/],
    ['features', 'EINVAL', 'UNBD_KERNEL_TOO_OLD', /6\.12/],
    ['open_disk', 'EBUSY', 'UNBD_DEVICE_BUSY', undefined],
    ['TRY_STOP_DEV', 'EBUSY', 'UNBD_DEVICE_BUSY', undefined],
    ['START_DEV', 'ENODEV', 'UNBD_DEVICE_ABSENT', /list/],
    ['SET_PARAMS', 'EINVAL', 'UNBD_CONTROL_FAILED', /dmesg/],
  ] as const;
  for (const [step, errno, code, hint] of cases) {
    const error = controlError('x', { ok: false, step, errno }, true);
    t.equal(error.code, code, `${step} ${errno}`);
    if (hint !== undefined) t.match(error.hint, hint);
  }
});

t.test('what is not one object of JSON is no answer', async (t) => {
  t.same(parseAnswer('{"ok":true}\n'), { ok: true });
  for (const text of ['', 'null', '7', '{', '{}{}', 'Segmentation fault']) {
    t.equal(parseAnswer(text), undefined, text);
  }
});
