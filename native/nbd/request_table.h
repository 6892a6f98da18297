// Owns: RequestTable, every request in flight on one connection, by tag, with the parts it was
// split into.
// Runs on: the queue's thread.
// Must not: allocate after construction, or find a part that is not waiting for its reply.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>

#include "adapter/adapter.h"
#include "base/assert.h"
#include "nbd/coverage.h"
#include "nbd/wire.h"

namespace unbd::nbd {

// One request on the wire. A queue's request is one part, or several where the backend takes no
// more at once.
struct Part {
  uint64_t cookie;         // kNoCookie: not waiting for a reply
  uint64_t offset_bytes;   // on the export
  std::byte* buffer;       // kRead: where its data go; kWrite: where they are
  uint64_t sent_at_bytes;  // position in the sender's stream after its last byte
  uint32_t length_bytes;
  uint32_t chunks;  // of its structured reply, so far
  Coverage coverage;
  int32_t error;  // negative errno of the first error chunk; the part ends with the last chunk
  uint16_t tag;
  Command command;
};

// Whether a request changes the image, so that a FLUSH has to make it durable.
constexpr bool is_change(const Request& request) {
  return request.op != Op::kRead && request.op != Op::kFlush;
}

// A request of the queue's with what is remembered of it across connections.
struct Pending {
  Request request;
  uint64_t order;        // of its submission
  bool has_reservation;  // in the log of unflushed writes
  bool was_sent;         // on an earlier connection, perhaps not all of it
};

// One request of the queue, kept whole for as long as it is in flight.
struct RequestState : Pending {
  // Of kFlush and of the flush of an emulated FUA: NbdAdapter's count, and the device's, when it
  // was staged.
  uint64_t covered_writes;
  uint64_t covered_sequence;
  uint32_t tick;        // of NbdAdapter's clock when it was staged
  int32_t first_error;  // negative errno
  uint16_t part_count;
  uint16_t parts_outstanding;
  bool in_flight;
  bool is_durable;    // a change that must be durable before its completion
  bool flush_staged;  // an emulated FUA: the writes are done, their FLUSH is on its way
};

class RequestTable {
 public:
  // A READ of at least this many bytes is large: see Receiver.
  static constexpr uint32_t kLargeReadBytes = 32 * 1024;

  // Serves tags 0 to tags - 1, each with at most parts_max parts of at most part_bytes_max bytes of
  // payload.
  RequestTable(unsigned tags, unsigned parts_max, uint32_t part_bytes_max, uint16_t epoch);

  unsigned tags() const { return tags_; }
  unsigned parts_max() const { return parts_max_; }
  size_t parts_total() const { return size_t{tags_} * (parts_max_ + 1); }

  // Puts a request in flight, without parts yet. Its tag is free.
  RequestState& begin(const Pending& pending);

  // Adds a part that waits for its reply from now on.
  Part& add_part(RequestState& state, Command command, uint64_t offset_bytes, uint32_t length_bytes,
                 std::byte* buffer);

  // The part that waits for a reply with this cookie, or null.
  Part* find(uint64_t cookie) {
    const unsigned tag = cookie_tag(cookie);
    const unsigned number = cookie_part(cookie);
    if (tag >= tags_ || number > parts_max_) return nullptr;
    Part& part = parts_[tag * stride() + number];
    return part.cookie == cookie ? &part : nullptr;
  }

  // Ends a part with 0 or a negative errno; its cookie is void from now on.
  RequestState& finish_part(Part& part, int error);

  // Ends a request; parts that still wait for a reply end with it.
  void end(RequestState& state);

  RequestState& state(unsigned tag) {
    UN_ASSERT(tag < tags_);
    return states_[tag];
  }

  std::span<Interval> intervals(const Part& part) {
    const size_t index = static_cast<size_t>(&part - parts_.get());
    return {&intervals_[index * intervals_per_part_], intervals_per_part_};
  }

  unsigned parts_in_flight() const { return parts_in_flight_; }
  unsigned requests_in_flight() const { return requests_in_flight_; }

  // Whether the next reply most likely carries a large payload: every part in flight is a large
  // READ, or, on an idle connection, the last one was.
  bool expects_large_read() const {
    return parts_in_flight_ == 0 ? last_was_large_ : large_reads_ == parts_in_flight_;
  }

 private:
  unsigned stride() const { return parts_max_ + 1; }  // one more for the FLUSH of an emulated FUA
  void retire(Part& part);
  static bool is_large(const Part& part) {
    return part.command == Command::kRead && part.length_bytes >= kLargeReadBytes;
  }

  unsigned tags_;
  unsigned parts_max_;
  unsigned intervals_per_part_;
  uint16_t epoch_;
  unsigned parts_in_flight_ = 0;
  unsigned requests_in_flight_ = 0;
  unsigned large_reads_ = 0;
  bool last_was_large_ = false;
  std::unique_ptr<RequestState[]> states_;
  std::unique_ptr<Part[]> parts_;
  std::unique_ptr<Interval[]> intervals_;
};

}  // namespace unbd::nbd
