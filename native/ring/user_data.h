// Owns: the contract of io_uring user_data on a queue's ring. Pure values, any thread.
//
// Every SQE on a queue's ring carries 64 bits: kind (8) | payload (56). One classifier, kind_of(),
// serves the one place that reaps CQEs (native/queue/queue.cc), so that submit and reap cannot
// drift apart.
//   kIgnored  its CQE is dropped (cancellations)
//   kUblk     a FETCH or COMMIT_AND_FETCH; payload: tag (16)
//   kAdapter  the adapter's; payload: its own, handed back by Adapter::on_cqe
//   kMailbox  the queue's eventfd: a command from another thread is waiting
//   kTimer    the deadline of the adapter's goodbye
//
// Must not: be extended by an adapter; an adapter has 56 bits of its own.
#pragma once

#include <cstdint>

namespace unbd {

enum class UserDataKind : uint8_t {
  kIgnored = 0,
  kUblk = 1,
  kAdapter = 2,
  kMailbox = 3,
  kTimer = 4
};

constexpr int kUserDataPayloadBits = 56;
constexpr uint64_t kUserDataPayloadMask = (uint64_t{1} << kUserDataPayloadBits) - 1;

constexpr uint64_t make_user_data(UserDataKind kind, uint64_t payload) {
  return (static_cast<uint64_t>(kind) << kUserDataPayloadBits) | (payload & kUserDataPayloadMask);
}
constexpr UserDataKind kind_of(uint64_t user_data) {
  return static_cast<UserDataKind>(user_data >> kUserDataPayloadBits);
}
constexpr uint64_t payload_of(uint64_t user_data) {
  return user_data & kUserDataPayloadMask;
}

static_assert(kind_of(make_user_data(UserDataKind::kTimer, ~uint64_t{0})) == UserDataKind::kTimer);
static_assert(payload_of(make_user_data(UserDataKind::kUblk, 0xffff)) == 0xffff);

}  // namespace unbd
