// Owns: `ublk-nbd-helper control COMMAND [key=value]...`: one control command of the driver (for
// add and disconnect a fixed sequence) in a process that may be killed or left behind.
// It prints one line of JSON: {"ok":true, ...} and exits with 0, or
// {"ok":false,"errno":"EBUSY","step":"ADD_DEV","text":"..."} and exits with 1. step is the driver's
// command, or one of: arguments, open (of the control device: ENOENT, EACCES, EPERM), ring
// (io_uring is not available), features, open_disk, write_back, fsync.
//
//   COMMAND       arguments (? optional)              answers, or what it waits for
//   features                                          features, names
//   add           id? queues depth max_io_bytes       dev_id, and what the driver granted: flags,
//                 flags PARAMETER...                  names, queues, depth, max_io_bytes
//   start         id pid                              waits until every tag is fetched
//   tune          id io_timeout_ms?                   no I/O scheduler; waits until no request is
//                                                     in flight
//   stop          id                                  waits until every owned request is answered
//   disconnect    id force? path? flush_timeout_ms?   see disconnect.h
//   del           id                                  waits until nobody holds the device
//   del_async     id
//   info          id                                  state, pid, flags, names, PARAMETERs, numbers
//   affinity      id queue                            cpus
//   update_size   id dev_sectors
//   recover_start id patience_ms?                     waits, so long, until the driver has let go
//                                                     of the dead process
//   recover_end   id pid                              waits until every tag is fetched
//   quiesce       id timeout_ms
//
// PARAMETERs are the fields of struct ublk_params by their names (attrs, logical_bs_shift,
// max_sectors, dev_sectors, ...); without discard_granularity there is no discard.
//
// Must not: put a deadline on a command; the caller has one.
#pragma once

namespace unbd {

// words: argv from COMMAND on. Returns the exit status.
int run_control_command(int count, char** words);

}  // namespace unbd
