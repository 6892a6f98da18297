// Owns: the claims about ReadAhead: what is a sequence, and how far ahead it is read. One thread.
// Must not: look into its streams.
#include "store/read_ahead.h"

#include <algorithm>

#include "test/check.h"

using unbd::store::ReadAhead;

namespace {

constexpr uint64_t kKib = 1024;
constexpr uint64_t kMib = 1024 * 1024;

bool is_range(ReadAhead::Range range, uint64_t from, uint64_t to) {
  return range.from == from && range.to == to;
}
bool is_empty(ReadAhead::Range range) {
  return range.from == range.to;
}

}  // namespace

TEST("one read is no sequence; from the second on the window doubles up to its bound") {
  ReadAhead read_ahead(1024 * kMib, 1 * kMib);
  const uint64_t start = 100 * kMib;
  CHECK(is_empty(read_ahead.on_read(start, start + 64 * kKib)));
  uint64_t next = start + 64 * kKib;
  for (uint64_t window : {128 * kKib, 256 * kKib, 512 * kKib, 1 * kMib, 1 * kMib}) {
    const ReadAhead::Range range = read_ahead.on_read(next, next + 64 * kKib);
    next += 64 * kKib;
    CHECK(is_range(range, next, next + window));
  }
}

TEST("reads far apart bring nothing ahead") {
  ReadAhead read_ahead(uint64_t{1} << 40, 16 * kMib);
  for (uint64_t at = 1; at < 100; ++at) {
    const uint64_t offset = at * 7919 % 100 * 64 * kMib;
    CHECK(is_empty(read_ahead.on_read(offset, offset + 4 * kKib)));
  }
}

TEST("a window of 0 never reads ahead, and a small bound bounds the first window too") {
  ReadAhead none(64 * kMib, 0);
  ReadAhead small(64 * kMib, 64 * kKib);
  for (uint64_t at = 0; at < 8; ++at) {
    const uint64_t end = (at + 1) * 4096;
    CHECK(is_empty(none.on_read(at * 4096, end)));
    const ReadAhead::Range range = small.on_read(at * 4096, end);
    // Up to four times what was read.
    if (at > 0) CHECK(is_range(range, end, end + std::min(end * 4, 64 * kKib)));
  }
}

TEST("reads in disorder belong to their stream; those behind do not move it") {
  ReadAhead read_ahead(1024 * kMib, 16 * kMib);
  read_ahead.on_read(8 * kMib, 8 * kMib + 128 * kKib);
  CHECK(is_range(read_ahead.on_read(8 * kMib + 512 * kKib, 8 * kMib + 640 * kKib),
                 8 * kMib + 640 * kKib, 8 * kMib + 896 * kKib));
  CHECK(is_range(read_ahead.on_read(8 * kMib + 128 * kKib, 8 * kMib + 256 * kKib),
                 8 * kMib + 640 * kKib, 8 * kMib + 896 * kKib));
  const uint64_t next = 8 * kMib + 640 * kKib;
  CHECK(is_empty(read_ahead.on_read(next - kMib - 512, next - kMib)));
  ReadAhead edge(1024 * kMib, 16 * kMib);
  edge.on_read(8 * kMib - 128 * kKib, 8 * kMib);
  CHECK(!is_empty(edge.on_read(8 * kMib + 512 * kKib, 8 * kMib + 516 * kKib)));
  ReadAhead beyond(1024 * kMib, 16 * kMib);
  beyond.on_read(8 * kMib - 256 * kKib, 8 * kMib);
  CHECK(is_empty(beyond.on_read(8 * kMib + 512 * kKib + 512, 8 * kMib + 516 * kKib + 512)));
}

TEST("little that was read is little evidence: reads near each other are no sequence") {
  for (const uint64_t gap : {16 * kKib + 512, 512 * kKib}) {
    ReadAhead ahead(1024 * kMib, 16 * kMib);
    ahead.on_read(8 * kMib, 8 * kMib + 4 * kKib);
    CHECK(is_empty(ahead.on_read(8 * kMib + 4 * kKib + gap, 8 * kMib + 8 * kKib + gap)));
    ReadAhead behind(1024 * kMib, 16 * kMib);
    behind.on_read(8 * kMib, 8 * kMib + 4 * kKib);
    CHECK(is_empty(behind.on_read(8 * kMib + 4 * kKib - gap, 8 * kMib + 8 * kKib - gap)));
  }
}

TEST("large reads widen the window at once to four times what was read") {
  ReadAhead read_ahead(uint64_t{1} << 30, 64 * kMib);
  uint64_t widest = 0;
  for (uint64_t at = 0; at < 32; ++at) {
    const ReadAhead::Range range = read_ahead.on_read(at * kMib, (at + 1) * kMib);
    widest = std::max(widest, range.to - range.from);
    if (at > 0)
      CHECK(
          is_range(range, (at + 1) * kMib, (at + 1) * kMib + std::min((at + 1) * 4, 64ul) * kMib));
  }
  CHECK(widest == 64 * kMib);
}

TEST("eight streams run side by side; a ninth takes the place of the least recently used") {
  ReadAhead read_ahead(1024 * kMib, 1 * kMib);
  const auto read = [&](uint64_t stream, uint64_t step) {
    const uint64_t offset = stream * 64 * kMib + step * 4096;
    return read_ahead.on_read(offset, offset + 4096);
  };
  for (uint64_t stream = 0; stream < 8; ++stream)
    CHECK(is_empty(read(stream, 0)));
  for (uint64_t stream = 0; stream < 8; ++stream)
    CHECK(!is_empty(read(stream, 1)));
  CHECK(!is_empty(read(0, 2)));
  CHECK(is_empty(read(9, 0)));
  CHECK(!is_empty(read(0, 3)) && !is_empty(read(2, 2)) && !is_empty(read(9, 1)));
  CHECK(is_empty(read(1, 2)));
}

TEST("nothing beyond the object's end is read ahead") {
  ReadAhead read_ahead(1 * kMib + 512, 16 * kMib);
  read_ahead.on_read(kMib - 8192, kMib - 4096);
  CHECK(is_range(read_ahead.on_read(kMib - 4096, kMib), kMib, kMib + 512));
  CHECK(is_empty(read_ahead.on_read(kMib, kMib + 512)));
}

TEST_MAIN()
