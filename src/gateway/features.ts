/**
 * Owns: the names of the driver's feature flags, by bit (UBLK_F_… of linux/ublk_cmd.h).
 * Runs in: any process; constants only.
 * Must not: decide which are wanted.
 */
export const FEATURE_NAMES = [
  'SUPPORT_ZERO_COPY',
  'URING_CMD_COMP_IN_TASK',
  'NEED_GET_DATA',
  'USER_RECOVERY',
  'USER_RECOVERY_REISSUE',
  'UNPRIVILEGED_DEV',
  'CMD_IOCTL_ENCODE',
  'USER_COPY',
  'ZONED',
  'USER_RECOVERY_FAIL_IO',
  'UPDATE_SIZE',
  'AUTO_BUF_REG',
  'QUIESCE',
  'PER_IO_DAEMON',
  'BUF_REG_OFF_DAEMON',
  'BATCH_IO',
  'INTEGRITY',
  'SAFE_STOP_DEV',
  'NO_AUTO_PART_SCAN',
  'SHMEM_ZC',
  'IO_DESC_SIZE',
] as const;
