// Owns: the checks of the adapter of a device that is FATAL, driven as a queue drives it. One
// thread. Must not: look into the adapter; only results count.
#include <cerrno>

#include "local/error_adapter.h"
#include "test/adapter_harness.h"
#include "test/check.h"

using namespace unbd;
using unbd::test::AdapterHarness;

TEST("every request ends with EIO, and a read leaves its buffer alone") {
  AdapterHarness queue(std::make_unique<ErrorAdapter>());
  *queue.buffer(0) = std::byte{0x5a};
  for (Op op : {Op::kRead, Op::kWrite})
    CHECK(queue.run(op, 0, 4096) == -EIO);
  for (Op op : {Op::kFlush, Op::kDiscard, Op::kWriteZeroes})
    CHECK(queue.run(op, 0, 0) == -EIO);
  CHECK(*queue.buffer(0) == std::byte{0x5a});
}

TEST_MAIN()
