// Owns: what makes a thread a queue's thread: no signals, a name, one processor, a policy of
// scheduling, and allocations that never wait for block I/O (which might be our own).
// Runs on: create_queue_thread on the control plane's thread, the others on the new thread.
// Must not: fail for lack of a privilege that only makes things better.
#pragma once

#include <pthread.h>

#include <vector>

namespace unbd {

// pthread_create with every signal blocked in the new thread. Returns 0 or -errno.
int create_queue_thread(pthread_t* thread, void* (*main)(void*), void* argument);

// Names the calling thread ublk-q<index>, pins it to one of the processors that the driver maps to
// the queue (spread over devices by dev_id), gives it SCHED_BATCH (sched(7)) where it has no other
// policy than the usual one, and marks it as one that block I/O depends on. All by best effort.
void become_queue_thread(unsigned index, int dev_id, const std::vector<unsigned>& cpus);

// Takes CAP_SYS_ADMIN from the calling thread, and from no other. Returns 0 or -errno.
int drop_sys_admin();

}  // namespace unbd
