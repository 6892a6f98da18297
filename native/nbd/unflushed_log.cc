// Owns: the half of UnflushedLog (see unflushed_log.h) that requests pass through, and LogReader.
// The file's making and checking is in unflushed_log_file.cc.
// Runs on the queues' threads; LogReader where no queue runs.
// Must not: make an entry visible before all of it is written.
#include "nbd/unflushed_log.h"

#include <algorithm>
#include <cstring>

#include "base/assert.h"

namespace unbd {

namespace {

constexpr uint64_t kOffsetEnd = uint64_t{1} << 63;

}  // namespace

uint64_t UnflushedLog::write_bytes_max() const {
  return std::min(kFirstBytes, bytes_per_queue_) - sizeof(EntryHead);
}

// Told from garbage by a glance at the head; whose bits are wrong on purpose is root's affair.
uint32_t UnflushedLog::check_of(const EntryHead& head) {
  constexpr uint64_t kOdd = 0x9e3779b97f4a7c15;
  uint64_t mixed = (head.sequence + 1) * kOdd;
  mixed = (mixed ^ (mixed >> 32) ^ head.offset_bytes) * kOdd;
  mixed = (mixed ^ (mixed >> 32) ^ head.length_bytes) * kOdd;
  mixed = (mixed ^ (mixed >> 32) ^ head.kind) * kOdd;
  return static_cast<uint32_t>(mixed >> 32);
}

UnflushedLog::EntryHead UnflushedLog::head_at(const Part& part, uint32_t unit) const {
  EntryHead head;
  std::memcpy(&head, part.ring + uint64_t{unit} * kUnitBytes, sizeof(head));
  return head;
}

// From here on a successor sees the window. The release keeps the compiler and the processor from
// moving the writing of an entry behind it; a kill between two instructions asks for no more.
void UnflushedLog::publish(Part& part, Window window) {
  part.window = window;
  part.control->window.store(uint64_t{window.units} << 32 | window.begin,
                             std::memory_order_release);
}

UnflushedLog::Window UnflushedLog::window_of(unsigned queue) const {
  const uint64_t word = parts_[queue].control->window.load(std::memory_order_acquire);
  return {.begin = static_cast<uint32_t>(word), .units = static_cast<uint32_t>(word >> 32)};
}

bool UnflushedLog::reserve(unsigned queue, uint64_t payload_bytes) {
  UN_ASSERT(payload_bytes <= write_bytes_max());
  Part& part = parts_[queue];
  drop_flushed(part);
  const uint64_t taken = part.window.units + part.reserved_units + units_of(payload_bytes);
  if (taken > ring_units()) return false;
  const uint64_t end_bytes = (part.window.begin + taken) * kUnitBytes;
  if (end_bytes > part.allocated_bytes && !grow(part, queue, end_bytes)) return false;
  part.reserved_units += units_of(payload_bytes);
  return true;
}

void UnflushedLog::release(unsigned queue, uint64_t payload_bytes) {
  Part& part = parts_[queue];
  UN_ASSERT(part.reserved_units >= units_of(payload_bytes));
  part.reserved_units -= units_of(payload_bytes);
}

void UnflushedLog::append(unsigned queue, LogKind kind, uint64_t offset_bytes,
                          uint64_t length_bytes, const std::byte* payload) {
  UN_ASSERT(length_bytes > 0 && length_bytes <= kOffsetEnd &&
            offset_bytes <= kOffsetEnd - length_bytes);
  UN_ASSERT((kind == LogKind::kWrite) == (payload != nullptr));
  Part& part = parts_[queue];
  EntryHead head{.offset_bytes = offset_bytes,
                 .length_bytes = length_bytes,
                 .kind = static_cast<uint32_t>(kind)};
  const uint64_t payload_bytes = payload_of(head);
  release(queue, payload_bytes);

  uint32_t unit = part.window.begin + part.window.units;
  if (unit >= ring_units()) unit -= ring_units();
  std::byte* const to = part.ring + uint64_t{unit} * kUnitBytes;
  if (payload_bytes > 0) std::memcpy(to + sizeof(head), payload, payload_bytes);
  head.sequence = header_->sequence.fetch_add(1, std::memory_order_acq_rel) + 1;
  head.check = check_of(head);
  std::memcpy(to, &head, sizeof(head));

  part.last_sequence.store(head.sequence, std::memory_order_relaxed);
  count(part, 1, static_cast<int64_t>(payload_bytes));
  publish(part, {.begin = part.window.begin,
                 .units = part.window.units + static_cast<uint32_t>(units_of(payload_bytes))});
}

// Drops what FLUSHes have covered. An empty part begins again at the ring's begin: as long as
// FLUSHes come often the same few pages are used, and they stay in the processor's cache.
void UnflushedLog::drop_flushed(Part& part) {
  if (part.window.units == 0) return;
  const uint64_t flushed = header_->flushed.load(std::memory_order_acquire);
  if (part.last_sequence.load(std::memory_order_relaxed) <= flushed) {
    part.entries.store(0, std::memory_order_relaxed);
    part.payload_bytes.store(0, std::memory_order_relaxed);
    publish(part, {});
  } else if (flushed != part.seen_flushed) {
    Window window = part.window;
    for (;;) {
      const EntryHead head = head_at(part, window.begin);
      if (head.sequence > flushed) break;
      const uint32_t units = static_cast<uint32_t>(units_of(payload_of(head)));
      UN_ASSERT(units < window.units);
      count(part, -1, -static_cast<int64_t>(payload_of(head)));
      window.begin = (window.begin + units) % ring_units();
      window.units -= units;
    }
    publish(part, window);
  }
  part.seen_flushed = flushed;
}

// One thread writes the counters, so they need no atomic addition.
void UnflushedLog::count(Part& part, int64_t entries, int64_t payload_bytes) {
  const auto add = [](std::atomic<uint64_t>& counter, int64_t change) {
    counter.store(counter.load(std::memory_order_relaxed) + static_cast<uint64_t>(change),
                  std::memory_order_relaxed);
  };
  add(part.entries, entries);
  add(part.payload_bytes, payload_bytes);
}

bool UnflushedLog::is_half_full(unsigned queue) {
  Part& part = parts_[queue];
  drop_flushed(part);
  const uint64_t room_bytes = part.may_grow ? bytes_per_queue_ : part.allocated_bytes;
  return uint64_t{part.window.units} * kUnitBytes * 2 >= room_bytes;
}

void UnflushedLog::flushed(uint64_t sequence) {
  UN_ASSERT(sequence <= this->sequence());
  uint64_t known = header_->flushed.load(std::memory_order_relaxed);
  while (known < sequence &&
         !header_->flushed.compare_exchange_weak(known, sequence, std::memory_order_acq_rel)) {
  }
}

bool UnflushedLog::all_flushed() const {
  // In this order: what is given between the two loads must not look flushed.
  const uint64_t flushed = header_->flushed.load(std::memory_order_acquire);
  return sequence() <= flushed;
}

uint64_t UnflushedLog::live_bytes(unsigned queue) const {
  const Window window = window_of(queue);
  const uint64_t flushed = header_->flushed.load(std::memory_order_acquire);
  if (parts_[queue].last_sequence.load(std::memory_order_relaxed) <= flushed) return 0;
  return uint64_t{window.units} * kUnitBytes;
}

LogTotals UnflushedLog::totals() const {
  const uint64_t flushed = header_->flushed.load(std::memory_order_acquire);
  LogTotals totals;
  for (const Part& part : parts_) {
    if (part.last_sequence.load(std::memory_order_relaxed) <= flushed) continue;
    totals.entries += part.entries.load(std::memory_order_relaxed);
    totals.bytes += part.payload_bytes.load(std::memory_order_relaxed);
  }
  return totals;
}

uint16_t UnflushedLog::next_epoch() {
  return static_cast<uint16_t>(header_->epoch.fetch_add(1, std::memory_order_acq_rel) + 1);
}

LogReader::LogReader(const UnflushedLog& log)
    : log_(log), flushed_(log.header_->flushed.load(std::memory_order_acquire)) {
  for (unsigned queue = 0; queue < log.queues(); ++queue) {
    const UnflushedLog::Window window = log.window_of(queue);
    Cursor cursor{.queue = queue, .unit = window.begin, .units_left = window.units};
    if (settle(&cursor)) heap_.push_back(cursor);
  }
  std::make_heap(heap_.begin(), heap_.end(), is_later);
}

bool LogReader::next(LogEntry* entry) {
  if (heap_.empty()) return false;
  std::pop_heap(heap_.begin(), heap_.end(), is_later);
  Cursor cursor = heap_.back();
  heap_.pop_back();
  const UnflushedLog::Part& part = log_.parts_[cursor.queue];
  const UnflushedLog::EntryHead head = log_.head_at(part, cursor.unit);
  const LogKind kind = static_cast<LogKind>(head.kind);
  const std::byte* const at = part.ring + uint64_t{cursor.unit} * UnflushedLog::kUnitBytes;
  *entry = {.sequence = head.sequence,
            .offset_bytes = head.offset_bytes,
            .length_bytes = head.length_bytes,
            .kind = kind,
            .payload = kind == LogKind::kWrite ? at + sizeof(head) : nullptr};
  step(&cursor, head);
  if (settle(&cursor)) {
    heap_.push_back(cursor);
    std::push_heap(heap_.begin(), heap_.end(), is_later);
  }
  return true;
}

// Moves the cursor past the entry that it is at.
void LogReader::step(Cursor* cursor, const UnflushedLog::EntryHead& head) const {
  const uint64_t units = UnflushedLog::units_of(UnflushedLog::payload_of(head));
  UN_ASSERT(units <= cursor->units_left);
  cursor->unit = static_cast<uint32_t>((cursor->unit + units) % log_.ring_units());
  cursor->units_left -= static_cast<uint32_t>(units);
}

bool LogReader::settle(Cursor* cursor) const {
  const UnflushedLog::Part& part = log_.parts_[cursor->queue];
  while (cursor->units_left > 0) {
    const UnflushedLog::EntryHead head = log_.head_at(part, cursor->unit);
    cursor->sequence = head.sequence;
    if (head.sequence > flushed_) return true;
    step(cursor, head);
  }
  return false;
}

}  // namespace unbd
