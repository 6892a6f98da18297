// Owns: FillBridge, how a queue asks a source on another thread for ranges of an object, and how
// the source tells what has landed. The bytes themselves go through memory that both have mapped.
// Runs on: two threads, the queue's and the source's; each member says on which. Shared by
// shared_ptr: the later of the two ends it.
// Must not: lock, block, or allocate after its construction; nor be able to lose a report: what a
// fill has reached is one word, and a newer word takes the older one's place.
#pragma once

#include <array>
#include <atomic>
#include <cstdint>
#include <memory>

#include "base/fd.h"
#include "bridge/spsc_ring.h"

struct io_uring_sqe;

namespace unbd {

// The ids of fills are 0 … kMaxFills - 1; one is used again only after its fill has ended.
inline constexpr uint32_t kMaxFills = 256;

struct Fill {
  enum class Kind : uint8_t {
    kRead,     // bring length_bytes from offset_bytes of the object to arena_offset_bytes
    kPromote,  // somebody waits by now for the fill with this id; nothing else is set
  };
  uint64_t offset_bytes = 0;
  uint64_t arena_offset_bytes = 0;
  uint32_t length_bytes = 0;
  uint32_t id = 0;
  Kind kind = Kind::kRead;
  bool urgent = false;      // a request waits for it; otherwise it is read ahead
  bool background = false;  // and nobody is known to want it: it comes after everything else
};

struct FillReport {
  uint32_t id = 0;
  uint32_t landed_bytes = 0;  // so many from the fill's start are there; never fewer than before
  int32_t error = 0;          // 0, or a positive errno; what has landed is valid also then
  // The fill ends with landed_bytes == its length, or with an error.
};

class Doorbell {
 public:
  virtual ~Doorbell() = default;
  // Wakes the source, which then takes until nothing is left. On the queue's thread; must not
  // block.
  virtual void ring() = 0;
};

class FillBridge {
 public:
  explicit FillBridge(std::shared_ptr<Doorbell> doorbell);
  FillBridge(const FillBridge&) = delete;
  FillBridge& operator=(const FillBridge&) = delete;
  int error() const { return error_; }  // 0, or -errno when there is no eventfd to wait on

  // The queue's thread.
  // False when it is full, which kMaxFills fills, each promoted once at most, cannot bring about.
  bool push(const Fill& fill);
  // Rings the doorbell when something was pushed since the last time.
  void ring();
  // What is new since the last call about a fill in flight; false: nothing (more).
  bool take(FillReport* report);
  // Stages on a zeroed SQE the wait for the next report; the caller sets user_data.
  void stage_wait(io_uring_sqe* sqe);

  // The source's thread.
  // False: nothing (more) is asked for. A promotion of a fill that has ended is not handed out.
  bool take(Fill* fill);
  // Only about a fill that was taken and has not ended.
  void report(const FillReport& report);

 private:
  // A promotion can still stand behind the fill's end, and before the next fill of that id, which
  // can be promoted too: three entries an id.
  static constexpr size_t kRingCapacity = 1024;
  static_assert(kRingCapacity >= 3 * kMaxFills);
  static constexpr unsigned kWords = kMaxFills / 64;

  // What the source knows of a fill.
  struct Taken {
    uint32_t length_bytes = 0;
    uint32_t landed_bytes = 0;
    bool live = false;
  };

  Fd event_;
  int error_ = 0;
  const std::shared_ptr<Doorbell> doorbell_;
  SpscRing<Fill, kRingCapacity> fills_;

  // error (32 bits) | landed_bytes (32), by id: written by the source while the fill lives, set
  // back by the queue before it pushes the next one.
  alignas(128) std::array<std::atomic<uint64_t>, kMaxFills> states_{};
  // The ids whose state is new; the eventfd is written when a word stops being zero.
  alignas(128) std::array<std::atomic<uint64_t>, kWords> dirty_{};

  alignas(128) std::array<Taken, kMaxFills> taken_{};  // the source's

  alignas(128) std::array<uint64_t, kMaxFills> seen_{};  // the queue's, as everything below
  std::array<uint64_t, kWords> to_look_at_{};            // were dirty, not yet handed out
  uint64_t event_count_ = 0;                             // where the ring's read lands
  bool pushed_ = false;                                  // since the doorbell rang
};

}  // namespace unbd
