// Owns: the implementation of queue_thread.h.
// Runs on: as said there.
// Must not: fail for lack of a privilege that only makes things better.
#include "queue/queue_thread.h"

#include <linux/capability.h>
#include <sched.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cerrno>
#include <cstdint>
#include <cstdio>

#include "base/assert.h"

#ifndef PR_SET_IO_FLUSHER
#define PR_SET_IO_FLUSHER 57
#endif

namespace unbd {
namespace {

// One processor, not the whole mask: the scheduler would move the thread away from its caches.
void pin(int dev_id, const std::vector<unsigned>& cpus) {
  cpu_set_t allowed;
  if (::sched_getaffinity(0, sizeof(allowed), &allowed) != 0) return;
  std::vector<unsigned> usable;
  for (unsigned cpu : cpus)
    if (cpu < CPU_SETSIZE && CPU_ISSET(cpu, &allowed)) usable.push_back(cpu);
  if (usable.empty()) return;
  cpu_set_t chosen;
  CPU_ZERO(&chosen);
  CPU_SET(usable[static_cast<unsigned>(dev_id) % usable.size()], &chosen);
  ::sched_setaffinity(0, sizeof(chosen), &chosen);
}

// A batch thread gets its fair share as any other; only, when it is woken it does not push aside
// what runs. Whoever wakes a queue's thread (the driver, in the name of who submits; the network,
// while the backend sends) is about to sleep anyway, and would be switched to once more for that.
// A policy that somebody chose for the process is left alone.
void do_not_preempt() {
  sched_param none{};
  if (::sched_getscheduler(0) == SCHED_OTHER) ::sched_setscheduler(0, SCHED_BATCH, &none);
}

}  // namespace

int create_queue_thread(pthread_t* thread, void* (*main)(void*), void* argument) {
  sigset_t all;
  sigset_t before;
  ::sigfillset(&all);
  ::pthread_sigmask(SIG_SETMASK, &all, &before);
  int result = ::pthread_create(thread, nullptr, main, argument);
  ::pthread_sigmask(SIG_SETMASK, &before, nullptr);
  return -result;
}

void become_queue_thread(unsigned index, int dev_id, const std::vector<unsigned>& cpus) {
  char name[16];
  std::snprintf(name, sizeof(name), "ublk-q%u", index);
  ::pthread_setname_np(::pthread_self(), name);
  pin(dev_id, cpus);
  do_not_preempt();
  ::prctl(PR_SET_IO_FLUSHER, 1, 0, 0, 0);
}

int drop_sys_admin() {
  // The system call itself: libc's wrappers act on every thread of the process.
  __user_cap_header_struct header{.version = _LINUX_CAPABILITY_VERSION_3, .pid = 0};
  __user_cap_data_struct data[_LINUX_CAPABILITY_U32S_3] = {};
  if (::syscall(SYS_capget, &header, data) != 0) return -errno;
  constexpr unsigned kWord = CAP_TO_INDEX(CAP_SYS_ADMIN);
  constexpr uint32_t kOthers = ~uint32_t{CAP_TO_MASK(CAP_SYS_ADMIN)};
  data[kWord].effective &= kOthers;
  data[kWord].permitted &= kOthers;
  return ::syscall(SYS_capset, &header, data) != 0 ? -errno : 0;
}

}  // namespace unbd
