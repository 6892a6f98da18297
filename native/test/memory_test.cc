// Owns: the checks of the null and memory adapters, driven as a queue drives them. One thread.
// Must not: look into the adapters; only buffers and results count.
#include <algorithm>
#include <cerrno>

#include "local/memory_adapter.h"
#include "local/null_adapter.h"
#include "test/adapter_harness.h"
#include "test/check.h"

using namespace unbd;
using unbd::test::AdapterHarness;

namespace {

bool all_bytes(const std::byte* bytes, size_t length, int value) {
  return std::all_of(bytes, bytes + length,
                     [value](std::byte byte) { return byte == static_cast<std::byte>(value); });
}

struct MemoryDevice {
  explicit MemoryDevice(uint64_t size_bytes) {
    UN_ASSERT(MemoryRegion::create(size_bytes, &region) == 0);
  }
  std::shared_ptr<MemoryRegion> region;
};

}  // namespace

TEST("null reads zeroes also from a buffer that a write has filled") {
  AdapterHarness queue(std::make_unique<NullAdapter>());
  CHECK(queue.run(Op::kRead, 0, 4096) == 4096);
  std::memset(queue.buffer(0), 0xaa, 8192);
  CHECK(queue.run(Op::kWrite, 0, 8192) == 8192);
  CHECK(queue.run(Op::kRead, 0, 4096) == 4096);
  CHECK(all_bytes(queue.buffer(0), 4096, 0));
  CHECK(queue.run(Op::kRead, 0, 8192) == 8192);
  CHECK(all_bytes(queue.buffer(0), 8192, 0));
  for (Op op : {Op::kFlush, Op::kDiscard, Op::kWriteZeroes})
    CHECK(queue.run(op, 0, 0) == 0);
}

TEST("memory returns what was written, and zeroes elsewhere") {
  MemoryDevice device(1 << 20);
  AdapterHarness queue(std::make_unique<MemoryAdapter>(device.region));
  std::memset(queue.buffer(0), 0x5a, 1536);
  CHECK(queue.run(Op::kWrite, 4096 + 512, 1536) == 1536);
  CHECK(queue.run(Op::kRead, 4096, 4096) == 4096);
  CHECK(all_bytes(queue.buffer(0), 512, 0));
  CHECK(all_bytes(queue.buffer(0) + 512, 1536, 0x5a));
  CHECK(all_bytes(queue.buffer(0) + 2048, 2048, 0));
  CHECK(queue.run(Op::kFlush, 0, 0) == 0);
}

TEST("a discarded or zeroed range of memory reads as zeroes to its exact edges") {
  MemoryDevice device(1 << 20);
  AdapterHarness queue(std::make_unique<MemoryAdapter>(device.region));
  struct {
    Op op;
    bool no_unmap;
    uint64_t offset;
    uint64_t length;
  } const cases[] = {
      {Op::kDiscard, false, 4096, 8192},     {Op::kDiscard, false, 512, 512},
      {Op::kDiscard, false, 3584, 1024},     {Op::kWriteZeroes, false, 512, 20480},
      {Op::kWriteZeroes, true, 4096, 16384}, {Op::kWriteZeroes, false, 0, 1 << 16},
  };
  constexpr size_t kSpan = 1 << 16;
  for (const auto& each : cases) {
    std::memset(queue.buffer(0), 0x77, kSpan);
    CHECK(queue.run(Op::kWrite, 0, kSpan) == kSpan);
    Request request = queue.request(0, each.op, each.offset, each.length);
    request.no_unmap = each.no_unmap;
    CHECK(queue.run(request) == 0);
    CHECK(queue.run(Op::kRead, 0, kSpan) == kSpan);
    CHECK(all_bytes(queue.buffer(0), each.offset, 0x77));
    CHECK(all_bytes(queue.buffer(0) + each.offset, each.length, 0));
    size_t end = each.offset + each.length;
    CHECK(all_bytes(queue.buffer(0) + end, kSpan - end, 0x77));
  }
}

TEST("two queues of one memory device see each other's writes") {
  MemoryDevice device(1 << 20);
  AdapterHarness one(std::make_unique<MemoryAdapter>(device.region));
  AdapterHarness two(std::make_unique<MemoryAdapter>(device.region));
  std::memset(one.buffer(0), 0x11, 4096);
  CHECK(one.run(Op::kWrite, 8192, 4096) == 4096);
  CHECK(two.run(Op::kRead, 8192, 4096) == 4096);
  CHECK(all_bytes(two.buffer(0), 4096, 0x11));
}

TEST("after fail_all every request of a local adapter fails") {
  MemoryDevice device(1 << 20);
  AdapterHarness queue(std::make_unique<MemoryAdapter>(device.region));
  queue.adapter().fail_all(EIO);
  CHECK(queue.run(Op::kRead, 0, 512) == -EIO);
  CHECK(queue.run(Op::kFlush, 0, 0) == -EIO);
  AdapterHarness null_queue(std::make_unique<NullAdapter>());
  null_queue.adapter().fail_all(EIO);
  CHECK(null_queue.run(Op::kWrite, 0, 512) == -EIO);
}

TEST_MAIN()
