// Owns: the implementation of RequestTable (see request_table.h).
// Runs on the queue's thread.
// Must not: allocate outside the constructor.
#include "nbd/request_table.h"

#include <algorithm>

namespace unbd::nbd {

namespace {

// Backends send chunks in order; a list of this length serves any that does not.
constexpr unsigned kIntervalsMax = 16;
// Chunks of less than a sector are not worth storage: a part needs no more intervals than half its
// sectors.
constexpr unsigned kBytesPerInterval = 1024;

}  // namespace

RequestTable::RequestTable(unsigned tags, unsigned parts_max, uint32_t part_bytes_max,
                           uint16_t epoch)
    : tags_(tags),
      parts_max_(parts_max),
      intervals_per_part_(std::min(kIntervalsMax, part_bytes_max / kBytesPerInterval + 2)),
      epoch_(epoch),
      states_(std::make_unique<RequestState[]>(tags)),
      parts_(std::make_unique_for_overwrite<Part[]>(parts_total())),
      intervals_(std::make_unique_for_overwrite<Interval[]>(parts_total() * intervals_per_part_)) {
  UN_ASSERT(tags > 0 && tags < UINT16_MAX);
  UN_ASSERT(parts_max > 0 && parts_max < UINT16_MAX);
  for (size_t index = 0; index < parts_total(); ++index)
    parts_[index].cookie = kNoCookie;
}

RequestState& RequestTable::begin(const Pending& pending) {
  UN_ASSERT(pending.request.tag < tags_);
  RequestState& state = states_[pending.request.tag];
  UN_ASSERT(!state.in_flight);
  static_cast<Pending&>(state) = pending;
  state.first_error = 0;
  state.part_count = 0;
  state.parts_outstanding = 0;
  state.in_flight = true;
  state.is_durable = false;
  state.flush_staged = false;
  ++requests_in_flight_;
  return state;
}

Part& RequestTable::add_part(RequestState& state, Command command, uint64_t offset_bytes,
                             uint32_t length_bytes, std::byte* buffer) {
  UN_ASSERT(state.in_flight && state.part_count < stride());
  const uint16_t tag = state.request.tag;
  Part& part = parts_[tag * stride() + state.part_count];
  UN_ASSERT(part.cookie == kNoCookie);
  part.cookie = make_cookie(epoch_, state.request.generation, tag, state.part_count);
  part.offset_bytes = offset_bytes;
  part.buffer = buffer;
  part.sent_at_bytes = UINT64_MAX;
  part.length_bytes = length_bytes;
  part.chunks = 0;
  part.coverage.reset();
  part.error = 0;
  part.tag = tag;
  part.command = command;
  ++state.part_count;
  ++state.parts_outstanding;
  ++parts_in_flight_;
  if (is_large(part)) ++large_reads_;
  return part;
}

RequestState& RequestTable::finish_part(Part& part, int error) {
  UN_ASSERT(part.cookie != kNoCookie && error <= 0);
  RequestState& state = states_[part.tag];
  UN_ASSERT(state.in_flight && state.parts_outstanding > 0);
  if (state.first_error == 0) state.first_error = error;
  --state.parts_outstanding;
  retire(part);
  return state;
}

void RequestTable::retire(Part& part) {
  UN_ASSERT(parts_in_flight_ > 0);
  part.cookie = kNoCookie;
  --parts_in_flight_;
  last_was_large_ = is_large(part);
  if (last_was_large_) --large_reads_;
}

void RequestTable::end(RequestState& state) {
  UN_ASSERT(state.in_flight && requests_in_flight_ > 0);
  if (state.parts_outstanding > 0) {
    for (unsigned number = 0; number < state.part_count; ++number) {
      Part& part = parts_[state.request.tag * stride() + number];
      if (part.cookie != kNoCookie) retire(part);
    }
    state.parts_outstanding = 0;
  }
  state.in_flight = false;
  --requests_in_flight_;
}

}  // namespace unbd::nbd
