// Owns: the check of what a thread has as a queue's thread. One thread each.
// Must not: need a privilege.
#include "queue/queue_thread.h"

#include <sched.h>

#include <thread>

#include "test/check.h"

using namespace unbd;

namespace {

// The policy (sched(7)) of a queue's thread that began with `first`.
int policy_after(int first) {
  int after = -1;
  std::thread thread([&] {
    sched_param none{};
    ::sched_setscheduler(0, first, &none);
    become_queue_thread(0, 0, {});
    after = ::sched_getscheduler(0);
  });
  thread.join();
  return after;
}

}  // namespace

TEST("a queue's thread does not push aside whoever wakes it") {
  CHECK(policy_after(SCHED_OTHER) == SCHED_BATCH);
}

TEST("a policy that somebody chose is kept") {
  CHECK(policy_after(SCHED_IDLE) == SCHED_IDLE);
}

TEST_MAIN()
