// Owns: the checks of the ring and of the mailbox that wakes it. One thread, and one that posts.
// Must not: depend on the order of CQEs.
#include "ring/ring.h"

#include <fcntl.h>
#include <pthread.h>
#include <unistd.h>

#include <cerrno>
#include <vector>

#include "base/clock.h"
#include "base/fd.h"
#include "queue/mailbox.h"
#include "test/check.h"

using namespace unbd;

namespace {
// Only against hanging: nothing here takes long.
constexpr int kPatienceMs = 60'000;
}  // namespace

TEST("a thousand SQEs staged at once all come back") {
  Ring ring;
  CHECK(ring.init({.entries = 8, .cq_entries = 2048}) == 0);
  std::vector<int> seen(1000);
  for (uint64_t i = 0; i < seen.size(); ++i) {
    io_uring_sqe* sqe = ring.get_sqe();
    io_uring_prep_nop(sqe);
    sqe->user_data = i;
  }
  unsigned total = 0;
  while (total < seen.size()) {
    CHECK(ring.submit_and_wait(kPatienceMs) == 0);
    total += ring.reap([&](uint64_t user_data, int32_t, uint32_t) { ++seen[user_data]; });
  }
  for (int count : seen)
    CHECK(count == 1);
}

TEST("more CQEs than the CQ holds are late, not lost") {
  Ring ring;
  CHECK(ring.init({.entries = 64, .cq_entries = 64}) == 0);
  for (int i = 0; i < 500; ++i) {
    io_uring_sqe* sqe = ring.get_sqe();
    io_uring_prep_nop(sqe);
  }
  unsigned total = 0;
  while (total < 500) {
    CHECK(ring.submit_and_wait(kPatienceMs) == 0);
    unsigned reaped = ring.reap([](uint64_t, int32_t, uint32_t) {});
    CHECK(reaped > 0);
    total += reaped;
  }
}

TEST("waiting ends at its timeout") {
  Ring ring;
  CHECK(ring.init({}) == 0);
  uint64_t before = monotonic_ms();
  CHECK(ring.submit_and_wait(30) == 0);
  uint64_t waited = monotonic_ms() - before;
  CHECK(waited >= 25 && waited < kPatienceMs);
}

TEST("registered files have a slot each, are used by it, and are given back") {
  Ring ring;
  CHECK(ring.init({}) == 0);
  Fd zero(::open("/dev/zero", O_RDONLY | O_CLOEXEC));
  std::vector<int> slots;
  for (int i = 0; i < Ring::kFileSlots; ++i)
    slots.push_back(ring.register_file(zero.get()));
  for (int i = 0; i < Ring::kFileSlots; ++i)
    CHECK(slots[static_cast<size_t>(i)] == i);
  CHECK(ring.register_file(zero.get()) == -ENFILE);
  ring.unregister_file(5);
  CHECK(ring.register_file(zero.get()) == 5);

  char byte = 'x';
  io_uring_sqe* sqe = ring.get_sqe();
  io_uring_prep_read(sqe, 5, &byte, 1, 0);
  sqe->flags |= IOSQE_FIXED_FILE;
  int32_t result = -1;
  CHECK(ring.submit_and_wait(kPatienceMs) == 0);
  ring.reap([&](uint64_t, int32_t cqe_result, uint32_t) { result = cqe_result; });
  CHECK(result == 1 && byte == 0);
}

TEST("closing the ring gives a registered file back at once") {
  int ends[2];
  CHECK(::pipe2(ends, O_CLOEXEC) == 0);
  Fd reader(ends[0]);
  Fd writer(ends[1]);
  Ring ring;
  CHECK(ring.init({}) == 0);
  CHECK(ring.register_file(writer.get()) == 0);
  writer.reset();
  ring.close();
  char byte;
  CHECK(::read(reader.get(), &byte, 1) == 0);  // end of file: no writer is left
}

TEST("a post from another thread wakes the ring, and posts before a take are one") {
  Ring ring;
  CHECK(ring.init({}) == 0);
  Mailbox mailbox;
  CHECK(mailbox.error() == 0);
  mailbox.stage_wait(ring.get_sqe());
  pthread_t thread;
  auto post_twice = [](void* box) -> void* {
    static_cast<Mailbox*>(box)->post(Mailbox::kFailAll);
    static_cast<Mailbox*>(box)->post(Mailbox::kFailAll);
    return nullptr;
  };
  CHECK(::pthread_create(&thread, nullptr, post_twice, &mailbox) == 0);
  unsigned woken = 0;
  while (woken == 0) {
    CHECK(ring.submit_and_wait(kPatienceMs) == 0);
    woken += ring.reap([](uint64_t, int32_t, uint32_t) {});
  }
  ::pthread_join(thread, nullptr);
  CHECK(mailbox.take() == Mailbox::kFailAll);
  CHECK(mailbox.take() == 0);
}

TEST_MAIN()
