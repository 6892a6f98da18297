// Owns: how StoreAdapter begins and ends, and how a read goes through it (see store_adapter.h).
// What a report does stands in store_reports.cc, what goes to and comes from the disk in
// store_disk.cc.
// Runs on: the queue's thread.
// Must not: allocate, lock, read a clock or make a system call on the request path.
#include "store/store_adapter.h"

#include <algorithm>
#include <bit>
#include <cerrno>
#include <cstring>
#include <utility>

#include "base/assert.h"
#include "ring/ring.h"
#include "ring/user_data.h"

namespace unbd::store {
namespace {

// In so many pieces a window is asked for.
constexpr uint64_t kWindowPieces = 8;

constexpr uint64_t kEventUserData = make_user_data(UserDataKind::kAdapter, 0);

}  // namespace

StoreAdapter::StoreAdapter(const StoreConfig& config, StoreParts parts, unsigned depth)
    : config_(config),
      parts_(std::move(parts)),
      chunk_shift_(std::countr_zero(config.chunk_bytes)),
      unit_shift_(std::countr_zero(config.unit_bytes())),
      table_(config.slots()),
      read_ahead_(config.size_bytes, config.window_bytes()),
      tags_(depth),
      links_(depth) {
  UN_ASSERT(config_.is_valid());
  UN_ASSERT(parts_.arena->size_bytes() >= uint64_t{config_.slots()} << chunk_shift_);
  UN_ASSERT(!config_.prefetches || parts_.cache.file != nullptr);
  if (parts_.cache.file == nullptr) return;
  UN_ASSERT(parts_.cache.file->size_bytes() == config_.size_bytes &&
            parts_.cache.file->chunk_bytes() == config_.chunk_bytes);
  disk_.emplace(parts_.cache, *parts_.counters, depth);
  if (config_.prefetches)
    prefetch_.emplace(parts_.cache.file->chunks(), config_.slots(), config_.prefetch_bytes_per_s);
}

StoreAdapter::~StoreAdapter() {
  UN_ASSERT(!waits_for_event_ && in_flight_ == 0);
}

int StoreAdapter::start(Ring& ring, CompletionSink& sink, EventSink& events) {
  if (parts_.bridge->error() != 0) return parts_.bridge->error();
  ring_ = &ring;
  sink_ = &sink;
  if (disk_) disk_->start(ring, *this, events);
  if (prefetch_) prefetch_->start(ring);
  stage_event_wait();
  return 0;
}

void StoreAdapter::stage_event_wait() {
  io_uring_sqe* const sqe = ring_->get_sqe();
  parts_.bridge->stage_wait(sqe);
  sqe->user_data = kEventUserData;
  waits_for_event_ = true;
}

// Fills that the source has not ended stay with the bridge, which both sides keep alive.
void StoreAdapter::stop() {
  stopping_ = true;
  if (prefetch_) prefetch_->stop();
  if (disk_) disk_->stop();
  if (!waits_for_event_) return;
  io_uring_sqe* const sqe = ring_->get_sqe();
  io_uring_prep_cancel64(sqe, kEventUserData, 0);
  sqe->user_data = make_user_data(UserDataKind::kIgnored, 0);
}

bool StoreAdapter::stopped() const {
  return stopping_ && !waits_for_event_ && in_flight_ == 0 && (!disk_ || disk_->stopped()) &&
         (!prefetch_ || prefetch_->stopped());
}

// Fills in flight may still land: their slots stay pinned until they end. A buffer that the disk
// reads into is given back when it has.
void StoreAdapter::fail_all(int error) {
  failure_ = error;
  for (uint32_t slot = 0; slot < table_.size() && in_flight_ > 0; ++slot)
    table_.drop_waiting(slot);
  starved_ = {};
  for (Tag& tag : tags_)
    if (tag.state == State::kWaiting || tag.state == State::kStarved) finish(tag, -error);
}

void StoreAdapter::submit(std::span<const Request> batch) {
  for (const Request& request : batch) {
    if (failure_ != 0) [[unlikely]]
      sink_->complete(request.tag, request.generation, -failure_);
    else if (request.op == Op::kRead) [[likely]]
      read(request);
    else
      sink_->complete(request.tag, request.generation, request.op == Op::kFlush ? 0 : -EROFS);
  }
}

void StoreAdapter::read(const Request& request) {
  UN_ASSERT(request.tag < tags_.size());
  UN_ASSERT(request.offset_bytes <= config_.size_bytes &&
            request.length_bytes <= config_.size_bytes - request.offset_bytes);
  Tag& tag = tags_[request.tag];
  UN_ASSERT(tag.state == State::kIdle);
  tag.request = request;
  tag.cursor_bytes = request.offset_bytes;
  ++in_flight_;
  advance(request.tag);
  if (tag.state == State::kStarved) links_.push_back(starved_, request.tag);
  const bool is_hit = tag.state == State::kIdle || tag.state == State::kReading;
  parts_.counters->add(is_hit ? StoreCounters::kHits : StoreCounters::kMisses, 1);
  read_ahead(request.offset_bytes, request.offset_bytes + request.length_bytes);
}

// Afterwards the tag is idle, is read for by the disk, waits in its slot's list, or is starved,
// which the caller puts into its place in that list.
void StoreAdapter::advance(uint32_t number) {
  Tag& tag = tags_[number];
  copy_present(tag);
  if (tag.cursor_bytes == end_of(tag)) [[likely]]
    finish(tag, static_cast<int32_t>(tag.request.length_bytes));
  else if (!disk_ || !read_from_disk(number))
    want(number);
}

void StoreAdapter::copy_present(Tag& tag) {
  const uint64_t end = end_of(tag);
  while (tag.cursor_bytes < end) {
    const uint64_t chunk = chunk_of(tag.cursor_bytes);
    const uint32_t slot = table_.find(chunk);
    if (slot == ChunkTable::kNone) return;
    const uint32_t unit = unit_of(tag.cursor_bytes);
    const uint32_t run = static_cast<uint32_t>(std::countr_one(table_.at(slot).present >> unit));
    if (run == 0) return;
    table_.touch(slot);
    const uint64_t run_end = (chunk << chunk_shift_) + (uint64_t{unit + run} << unit_shift_);
    copy_from(slot, tag, std::min(run_end, end));
  }
}

// A distant origin sends what a unit has over ten packets only when these are acknowledged, a round
// trip later: who can do without that does not wait for it.
void StoreAdapter::copy_part(Tag& tag, uint32_t slot, const Part& part) {
  if (tag.cursor_bytes < part.from_bytes || tag.cursor_bytes >= part.to_bytes) return;
  copy_from(slot, tag, std::min(part.to_bytes, end_of(tag)));
}

// From the tag's cursor on, all within the slot's chunk.
void StoreAdapter::copy_from(uint32_t slot, Tag& tag, uint64_t to_bytes) {
  const uint64_t within = tag.cursor_bytes & (config_.chunk_bytes - 1);
  std::memcpy(tag.request.buffer + (tag.cursor_bytes - tag.request.offset_bytes),
              parts_.arena->data() + (uint64_t{slot} << chunk_shift_) + within,
              to_bytes - tag.cursor_bytes);
  tag.cursor_bytes = to_bytes;
}

// The tag's next byte is absent: asks for all that the request still needs, and waits for the first
// of it.
void StoreAdapter::want(uint32_t number) {
  Tag& tag = tags_[number];
  ask(tag.cursor_bytes, end_of(tag), true);
  const uint32_t slot = table_.find(chunk_of(tag.cursor_bytes));
  const bool is_pending =
      slot != ChunkTable::kNone && (table_.at(slot).pending >> unit_of(tag.cursor_bytes) & 1) != 0;
  if (is_pending) {
    tag.state = State::kWaiting;
    table_.push_waiting(slot, links_, number);
  } else {
    tag.state = State::kStarved;
  }
}

uint64_t StoreAdapter::units_within(uint64_t chunk, uint64_t from_bytes, uint64_t to_bytes) const {
  const uint64_t start = chunk << chunk_shift_;
  const uint64_t from = std::max(from_bytes, start);
  const uint64_t to = std::min(to_bytes, start + config_.chunk_bytes);
  if (from >= to) return 0;
  const uint32_t first = unit_of(from);
  return run_of_units(first, unit_of(to - 1) - first + 1);
}

// Asks for what is missing of a range, as far as slots and fill ids go.
void StoreAdapter::ask(uint64_t from_bytes, uint64_t to_bytes, bool urgent) {
  if (from_bytes >= to_bytes) return;
  for (uint64_t chunk = chunk_of(from_bytes); chunk <= chunk_of(to_bytes - 1); ++chunk) {
    if (!ask_in_chunk(chunk, units_within(chunk, from_bytes, to_bytes), urgent)) return;
  }
}

// False: no slot or no fill id is free for it.
bool StoreAdapter::ask_in_chunk(uint64_t chunk, uint64_t units, bool urgent) {
  // What will be read straight from disk needs no place in memory before.
  if (!urgent && disk_ && (units & ~disk_->checked(chunk)) == 0) return true;
  uint32_t slot = table_.find(chunk);
  if (slot == ChunkTable::kNone) {
    // The id first: a slot is not to be evicted for nothing.
    if (!fills_.has_free(urgent)) return false;
    // Read-ahead leaves half of the slots to those who wait.
    if (!urgent && table_.pinned() >= table_.size() / 2) return false;
    slot = table_.insert(chunk);
    if (slot == ChunkTable::kNone) return false;
  }
  if (urgent && (table_.at(slot).ahead & units) != 0) promote(slot, units);
  uint64_t missing = units & ~(table_.at(slot).present | table_.at(slot).pending);
  const uint64_t on_disk = disk_ ? disk_->present(chunk) : 0;
  while (missing != 0) {
    if (!fills_.has_free(urgent)) return false;
    const uint32_t first = static_cast<uint32_t>(std::countr_zero(missing));
    const bool from_disk = (on_disk >> first & 1) != 0;
    const uint64_t alike = missing & (from_disk ? on_disk : ~on_disk);
    const uint32_t count = static_cast<uint32_t>(std::countr_one(alike >> first));
    push_fill(slot, first, count, urgent ? Lane::kUrgent : Lane::kAhead, from_disk);
    missing &= ~run_of_units(first, count);
  }
  return true;
}

// Returns its id.
uint32_t StoreAdapter::push_fill(uint32_t slot, uint32_t first_unit, uint32_t unit_count, Lane lane,
                                 bool from_disk) {
  const bool urgent = lane == Lane::kUrgent;
  const bool background = lane == Lane::kBackground;
  const uint64_t within = uint64_t{first_unit} << unit_shift_;
  const uint64_t offset = (table_.at(slot).chunk << chunk_shift_) + within;
  // The object may end within its last unit.
  const uint64_t length =
      std::min(uint64_t{unit_count} << unit_shift_, config_.size_bytes - offset);
  const uint64_t units = run_of_units(first_unit, unit_count);
  table_.ask(slot, units, urgent);
  const uint32_t id = fills_.take({.units = units,
                                   .slot = slot,
                                   .length_bytes = static_cast<uint32_t>(length),
                                   .first_unit = first_unit,
                                   .urgent = urgent,
                                   .background = background,
                                   .from_disk = from_disk});
  if (from_disk) {
    disk_->read(id, range_on_disk(slot, first_unit, unit_count));
    return id;
  }
  const bool pushed =
      parts_.bridge->push({.offset_bytes = offset,
                           .arena_offset_bytes = (uint64_t{slot} << chunk_shift_) + within,
                           .length_bytes = static_cast<uint32_t>(length),
                           .id = id,
                           .kind = Fill::Kind::kRead,
                           .urgent = urgent,
                           .background = background});
  UN_ASSERT(pushed);
  parts_.counters->add(StoreCounters::kFills, 1);
  return id;
}

// Somebody waits now for units that were read ahead. Looks through all fills: it happens once for
// each of them.
void StoreAdapter::promote(uint32_t slot, uint64_t units) {
  for (uint32_t id = 0; id < kMaxFills; ++id) {
    FillTable::Entry& fill = fills_.of(id);
    if (!fill.live || fill.urgent || fill.slot != slot || (fill.units & units) == 0) continue;
    fill.urgent = true;
    table_.promote(slot, fill.units);
    if (fill.from_disk) continue;
    const bool pushed = parts_.bridge->push({.id = id, .kind = Fill::Kind::kPromote});
    UN_ASSERT(pushed);
  }
}

void StoreAdapter::read_ahead(uint64_t offset_bytes, uint64_t end_bytes) {
  const ReadAhead::Range range = read_ahead_.on_read(offset_bytes, end_bytes);
  if (range.from == range.to || !starved_.is_empty()) return;
  uint64_t to = range.to;
  // A window that goes on a little with each read would be asked for in as little pieces. Of a wide
  // one several chunks are asked for together, so that the source can bring them by one request.
  if (to - range.from >= config_.chunk_bytes) {
    const uint64_t piece =
        std::max<uint64_t>(config_.chunk_bytes, std::bit_floor((to - range.from) / kWindowPieces));
    to = std::min((to + piece - 1) & ~(piece - 1), config_.size_bytes);
  }
  ask(range.from, to, false);
}

void StoreAdapter::finish(Tag& tag, int32_t result) {
  tag.state = State::kIdle;
  --in_flight_;
  sink_->complete(tag.request.tag, tag.request.generation, result);
}

}  // namespace unbd::store
