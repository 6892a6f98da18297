// Owns: what StoreAdapter does when the source has reported (see store_adapter.h).
// Runs on: the queue's thread.
// Must not: let a slot be evicted between what has landed in it and those who waited for that.
#include <bit>

#include "base/assert.h"
#include "store/store_adapter.h"

namespace unbd::store {

// Payload 0 is the eventfd's, whose count tells nothing that the bridge does not tell.
void StoreAdapter::on_cqe(uint64_t payload, int32_t result, uint32_t) {
  if (payload == Prefetch::kPayload) {
    prefetch_->on_timer();
    return;
  }
  if (payload != 0) {
    disk_->on_cqe(payload, result);
    return;
  }
  waits_for_event_ = false;
  if (stopping_) return;
  stage_event_wait();
  FillReport report;
  while (parts_.bridge->take(&report))
    on_report(report);
}

void StoreAdapter::on_report(const FillReport& report) {
  FillTable::Entry& fill = fills_.of(report.id);
  UN_ASSERT(fill.live && report.landed_bytes >= fill.landed_bytes &&
            report.landed_bytes <= fill.length_bytes);
  const bool is_whole = report.landed_bytes == fill.length_bytes;
  Part part;
  // The last unit may be cut short by the object's end: it is there when the fill is whole.
  uint64_t landed = fill.units;
  if (!is_whole) {
    const uint32_t count = report.landed_bytes >> unit_shift_;
    landed &= (uint64_t{1} << (fill.first_unit + count)) - 1;
    const uint64_t chunk_start = table_.at(fill.slot).chunk << chunk_shift_;
    const uint64_t start = chunk_start + (uint64_t{fill.first_unit} << unit_shift_);
    part = {.from_bytes = start + (uint64_t{count} << unit_shift_),
            .to_bytes = start + report.landed_bytes};
  }
  const uint32_t slot = fill.slot;
  const uint64_t news = landed & table_.at(slot).pending;
  parts_.counters->add(StoreCounters::kBytesFilled, report.landed_bytes - fill.landed_bytes);
  fill.landed_bytes = report.landed_bytes;

  const bool has_ended = is_whole || report.error != 0;
  const bool is_for_nobody = part.from_bytes == part.to_bytes || table_.at(slot).waiting.is_empty();
  if (news == 0 && !has_ended && is_for_nobody) return;
  const uint64_t failed = has_ended ? fill.units & ~landed : 0;
  const uint32_t landed_units = static_cast<uint32_t>(std::popcount(landed));
  // Before those who waited go on: they may need its id.
  if (has_ended) fills_.give_back(report.id);
  if (has_ended && fill.background) prefetch_->ended(report.error != 0);
  if (has_ended && disk_ && landed_units > 0) save(slot, fill.first_unit, landed_units);
  settle(slot, {.units = news, .failed_units = failed, .error = report.error, .part = part});
  if (has_ended) retry_starved();
}

// Something of the slot has landed or failed: whoever waited for it goes on.
void StoreAdapter::settle(uint32_t slot, const Landing& landing) {
  TagList waiting = table_.hold(slot);
  table_.land(slot, landing.units);
  table_.give_up(slot, landing.failed_units);
  while (!waiting.is_empty())
    go_on(links_.pop_front(waiting), slot, landing);
  table_.release(slot);
}

// A tag that waited for the slot, after something has changed there.
void StoreAdapter::go_on(uint32_t number, uint32_t slot, const Landing& landing) {
  Tag& tag = tags_[number];
  copy_present(tag);
  copy_part(tag, slot, landing.part);
  const uint64_t needed = units_within(table_.at(slot).chunk, tag.cursor_bytes, end_of(tag));
  if (landing.error != 0 && (needed & landing.failed_units) != 0) {
    finish(tag, -landing.error);
    return;
  }
  // What it waits for is still on its way, and the rest was asked for.
  const uint64_t needed_first = needed & (~needed + 1);
  if ((needed_first & table_.at(slot).pending) != 0) {
    table_.push_waiting(slot, links_, number);
    return;
  }
  advance(number);
  if (tag.state == State::kStarved) links_.push_back(starved_, number);
}

// In order: who comes first is served first, so that nobody waits for ever.
void StoreAdapter::retry_starved() {
  while (!starved_.is_empty()) {
    const uint32_t number = links_.pop_front(starved_);
    advance(number);
    if (tags_[number].state != State::kStarved) continue;
    links_.push_front(starved_, number);
    return;
  }
}

}  // namespace unbd::store
