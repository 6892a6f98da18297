// Owns: the half of NbdAdapter (see nbd/adapter.h) that makes requests of the queue's and
// completions of replies. The connection's life is in connection.cc.
// Runs on the queue's thread.
// Must not: complete a request before every part of it was answered.
#include "nbd/adapter.h"

#include <algorithm>
#include <cerrno>

#include "base/assert.h"

namespace unbd {

using nbd::Command;
using nbd::Part;
using nbd::RequestState;

namespace {

uint32_t align_down(uint32_t value, uint32_t alignment) {
  return std::max(value / alignment * alignment, alignment);
}

// The most bytes in one part of a request with a payload, and of one without.
uint32_t payload_max(const NbdConfig& config) {
  return align_down(config.maximum_block_bytes, std::max(config.minimum_block_bytes, 1U));
}
uint32_t range_max(const NbdConfig& config) {
  return align_down(UINT32_MAX, std::max(config.minimum_block_bytes, 1U));
}

// The kernel's requests without a payload are shorter than 4 GiB and thus two parts at most.
unsigned parts_max(const NbdConfig& config) {
  const uint32_t part = payload_max(config);
  const uint64_t parts = (uint64_t{config.maximum_request_bytes} + part - 1) / part;
  return static_cast<unsigned>(std::max<uint64_t>(parts, 2));
}

uint32_t part_bytes_max(const NbdConfig& config) {
  return std::min(payload_max(config), config.maximum_request_bytes);
}

bool has_payload(Op op) {
  return op == Op::kRead || op == Op::kWrite;
}

Command command_of(Op op) {
  switch (op) {
    case Op::kRead:
      return Command::kRead;
    case Op::kWrite:
      return Command::kWrite;
    case Op::kFlush:
      return Command::kFlush;
    case Op::kDiscard:
      return Command::kTrim;
    case Op::kWriteZeroes:
      return Command::kWriteZeroes;
  }
  __builtin_unreachable();
}

}  // namespace

// The table's last tag is the adapter's own, for the FLUSH before the goodbye; the sender has room
// for DISC.
NbdAdapter::NbdAdapter(NbdConfig config)
    : config_(std::move(config)),
      table_(config_.depth + 1, parts_max(config_), part_bytes_max(config_), config_.epoch),
      sender_(table_.parts_total() + 1),
      receiver_(table_, sender_, *this, config_.structured_replies) {
  UN_ASSERT(config_.transport != nullptr);
}

void NbdAdapter::submit(std::span<const Request> batch) {
  UN_ASSERT(phase_ == Phase::kServing || error_ != 0);
  for (const Request& request : batch) {
    UN_ASSERT(request.tag < config_.depth);
    const int refused = refusal(request);
    if (refused < 0) {
      sink_->complete(request.tag, request.generation, refused);
    } else if (request.op == Op::kFlush && !config_.can_flush) {
      // Without NBD_FLAG_SEND_FLUSH the backend promises that what it answered is as durable as it
      // gets.
      sink_->complete(request.tag, request.generation, 0);
    } else {
      stage_request(table_.begin(request));
    }
  }
}

// The negative errno of a request that is not for the backend, or 0.
int NbdAdapter::refusal(const Request& request) const {
  if (error_ != 0) return -error_;
  if (request.op == Op::kFlush) return 0;
  if (request.op != Op::kRead && config_.read_only) return -EROFS;
  if (request.op == Op::kDiscard && !config_.can_trim) return -EOPNOTSUPP;
  if (request.op == Op::kWriteZeroes && !config_.can_write_zeroes) return -EOPNOTSUPP;
  const uint64_t bytes_max = has_payload(request.op)
                                 ? uint64_t{config_.maximum_request_bytes}
                                 : uint64_t{range_max(config_)} * table_.parts_max();
  return request.length_bytes == 0 || request.length_bytes > bytes_max ? -EINVAL : 0;
}

void NbdAdapter::stage_request(RequestState& state) {
  const Request& request = state.request;
  const Command command = command_of(request.op);
  if (command == Command::kFlush) {
    stage_flush(state);
    return;
  }
  uint16_t flags = 0;
  if (request.fua && config_.can_fua && command != Command::kRead) flags |= nbd::kCmdFlagFua;
  if (request.no_unmap && command == Command::kWriteZeroes) flags |= nbd::kCmdFlagNoHole;
  const uint64_t part_bytes = has_payload(request.op) ? payload_max(config_) : range_max(config_);
  for (uint64_t done = 0; done < request.length_bytes;) {
    const uint32_t length =
        static_cast<uint32_t>(std::min(request.length_bytes - done, part_bytes));
    std::byte* const buffer = request.buffer == nullptr ? nullptr : request.buffer + done;
    stage_part(table_.add_part(state, command, request.offset_bytes + done, length, buffer), flags);
    done += length;
  }
}

void NbdAdapter::stage_flush(RequestState& state) {
  state.covered_writes = volatile_writes_;
  stage_part(table_.add_part(state, Command::kFlush, 0, 0, nullptr), 0);
}

void NbdAdapter::stage_part(Part& part, uint16_t flags) {
  const bool is_write = part.command == Command::kWrite;
  part.sent_at_bytes =
      sender_.stage({.magic = nbd::swap32(nbd::kRequestMagic),
                     .flags = nbd::swap16(flags),
                     .type = nbd::swap16(static_cast<uint16_t>(part.command)),
                     .cookie = nbd::swap64(part.cookie),
                     .offset = nbd::swap64(part.offset_bytes),
                     .length = nbd::swap32(part.length_bytes)},
                    is_write ? part.buffer : nullptr, is_write ? part.length_bytes : 0);
}

void NbdAdapter::part_done(Part& part, int error) {
  RequestState& state = table_.finish_part(part, error);
  if (state.parts_outstanding == 0) request_done(state);
}

// Every part of the request was answered.
void NbdAdapter::request_done(RequestState& state) {
  const Request& request = state.request;
  if (request.op != Op::kRead) {
    account(state);
    // FUA where the backend has none: the writes, then a FLUSH, then the completion.
    const bool needs_flush = request.fua && !config_.can_fua && config_.can_flush &&
                             request.op != Op::kFlush && state.first_error == 0;
    if (needs_flush && !state.flush_staged) {
      state.flush_staged = true;
      stage_flush(state);
      return;
    }
  }
  const int error = state.first_error;
  table_.end(state);
  if (phase_ == Phase::kLastFlush) {
    if (error != 0) warn("the backend refused the last FLUSH; it may not have kept all writes");
    say_goodbye();
    return;
  }
  const bool counts_bytes = error == 0 && has_payload(request.op);
  const int32_t result = counts_bytes ? static_cast<int32_t>(request.length_bytes) : error;
  sink_->complete(request.tag, request.generation, result);
}

// Keeps count of what only a FLUSH makes durable.
void NbdAdapter::account(const RequestState& state) {
  const Request& request = state.request;
  if (request.op == Op::kFlush || state.flush_staged) {
    if (state.first_error == 0) flushed_writes_ = std::max(flushed_writes_, state.covered_writes);
  } else if (!request.fua || !config_.can_fua) {
    ++volatile_writes_;
  }
}

}  // namespace unbd
