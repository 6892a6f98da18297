// Owns: the checks of the file adapter on a real ring and real files, against a model of the
// content. One thread.
// Must not: look into the adapter; results, buffers and the file itself count.
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <random>
#include <string>

#include "local/file_adapter.h"
#include "test/adapter_harness.h"
#include "test/check.h"

using namespace unbd;
using unbd::test::AdapterHarness;

namespace {

constexpr uint64_t kFileBytes = 4 << 20;

// A file that is gone when the test is over; in the build's folder, so that it is on a real file
// system.
struct TemporaryFile {
  explicit TemporaryFile(uint64_t size_bytes) {
    char name[] = "./unbd-file-test-XXXXXX";
    fd = ::mkstemp(name);
    UN_ASSERT(fd >= 0 && ::ftruncate(fd, static_cast<off_t>(size_bytes)) == 0);
    path = name;
  }
  ~TemporaryFile() {
    ::close(fd);
    ::unlink(path.c_str());
  }
  std::string path;
  int fd;
};

std::shared_ptr<FileBackend> open_backend(const std::string& path, bool read_only, bool direct) {
  auto backend = std::make_shared<FileBackend>();
  UN_ASSERT(open_file_backend(path, read_only, direct, backend.get()) == 0);
  return backend;
}

bool all_bytes(const std::byte* bytes, size_t length, int value) {
  return std::all_of(bytes, bytes + length,
                     [value](std::byte byte) { return byte == static_cast<std::byte>(value); });
}

}  // namespace

TEST("the backend's size is the file's, and what is no file or disk is refused") {
  TemporaryFile file(kFileBytes + 512);
  FileBackend backend;
  CHECK(open_file_backend(file.path, true, false, &backend) == 0);
  CHECK(backend.size_bytes == kFileBytes + 512);
  CHECK(!backend.is_block_device && backend.read_only);
  CHECK(open_file_backend("/nonexistent/file", true, false, &backend) == -ENOENT);
  CHECK(open_file_backend("/dev/null", true, false, &backend) == -ENOTSUP);
  CHECK(open_file_backend("/", true, false, &backend) == -ENOTSUP);
}

// Random reads and writes of every op, 512 bytes to 256 KiB, several at a time on disjoint places,
// against a model.
static void compare_with_model(bool direct) {
  TemporaryFile file(kFileBytes);
  auto backend = open_backend(file.path, false, direct);
  std::vector<std::byte> model(kFileBytes);
  AdapterHarness queue(std::make_unique<FileAdapter>(backend, AdapterHarness::kDepth));
  CHECK(queue.start_result() == 0);
  std::mt19937 random(7);
  constexpr uint64_t kPart = kFileBytes / AdapterHarness::kDepth;
  for (int round = 0; round < 60; ++round) {
    std::vector<Request> batch;
    for (uint16_t tag = 0; tag < AdapterHarness::kDepth; ++tag) {
      uint64_t length = 512 * (1 + random() % (kPart / 512));
      uint64_t offset = tag * kPart + 512 * (random() % ((kPart - length) / 512 + 1));
      Op op = static_cast<Op>(random() % 5);
      Request request = queue.request(tag, op, offset, length);
      request.fua = op != Op::kRead && random() % 4 == 0;
      request.no_unmap = op == Op::kWriteZeroes && random() % 2 == 0;
      std::byte* expected = model.data() + offset;
      if (op == Op::kWrite) {
        for (uint64_t i = 0; i < length; ++i)
          expected[i] = static_cast<std::byte>(random());
        std::memcpy(request.buffer, expected, length);
      } else if (op == Op::kDiscard || op == Op::kWriteZeroes) {
        std::memset(expected, 0, length);
      }
      batch.push_back(request);
    }
    queue.submit(batch);
    queue.finish();
    for (const Request& request : batch) {
      bool has_data = request.op == Op::kRead || request.op == Op::kWrite;
      CHECK(queue.result(request.tag) ==
            (has_data ? static_cast<int32_t>(request.length_bytes) : 0));
      if (request.op == Op::kRead)
        CHECK(std::memcmp(request.buffer, model.data() + request.offset_bytes,
                          request.length_bytes) == 0);
    }
  }
  std::vector<std::byte> content(kFileBytes);
  CHECK(::pread(file.fd, content.data(), kFileBytes, 0) == static_cast<ssize_t>(kFileBytes));
  CHECK(content == model);
  struct stat status{};
  CHECK(::fstat(file.fd, &status) == 0 && static_cast<uint64_t>(status.st_size) == kFileBytes);
}

TEST("through the page cache the file has the bytes of a model after random requests") {
  compare_with_model(false);
}

TEST("with O_DIRECT the file has the bytes of a model after random requests") {
  compare_with_model(true);
}

TEST("a discarded range gives its blocks back") {
  TemporaryFile file(kFileBytes);
  auto backend = open_backend(file.path, false, false);
  AdapterHarness queue(std::make_unique<FileAdapter>(backend, AdapterHarness::kDepth));
  std::memset(queue.buffer(0), 0x42, 1 << 20);
  CHECK(queue.run(Op::kWrite, 0, 1 << 20) == 1 << 20);
  CHECK(queue.run(Op::kFlush, 0, 0) == 0);
  struct stat before{};
  struct stat after{};
  CHECK(::fstat(file.fd, &before) == 0);
  CHECK(queue.run(Op::kDiscard, 0, 1 << 20) == 0);
  CHECK(::fstat(file.fd, &after) == 0);
  CHECK(after.st_blocks < before.st_blocks);
}

TEST("a read past the end of a file that became shorter is EIO, not silence") {
  TemporaryFile file(kFileBytes);
  auto backend = open_backend(file.path, false, false);
  AdapterHarness queue(std::make_unique<FileAdapter>(backend, AdapterHarness::kDepth));
  CHECK(::ftruncate(file.fd, 8192) == 0);
  CHECK(queue.run(Op::kRead, 4096, 8192) == -EIO);
  CHECK(queue.run(Op::kRead, 4096, 4096) == 4096);
}

TEST("a write to a backend that was opened read-only fails") {
  TemporaryFile file(kFileBytes);
  auto backend = open_backend(file.path, true, false);
  AdapterHarness queue(std::make_unique<FileAdapter>(backend, AdapterHarness::kDepth));
  CHECK(queue.run(Op::kWrite, 0, 4096) == -EBADF);
  CHECK(queue.run(Op::kRead, 0, 4096) == 4096);
  CHECK(all_bytes(queue.buffer(0), 4096, 0));
}

TEST("fail_all ends what is in flight and what comes later, and the adapter stops") {
  TemporaryFile file(kFileBytes);
  auto backend = open_backend(file.path, false, true);
  AdapterHarness queue(std::make_unique<FileAdapter>(backend, AdapterHarness::kDepth));
  std::vector<Request> batch;
  for (uint16_t tag = 0; tag < AdapterHarness::kDepth; ++tag)
    batch.push_back(queue.request(tag, Op::kRead, tag * 65536U, 65536));
  queue.submit(batch);
  queue.adapter().fail_all(EIO);
  queue.finish();
  for (const Request& request : batch)
    CHECK(queue.result(request.tag) == -EIO);
  CHECK(queue.run(Op::kFlush, 0, 0) == -EIO);
  queue.adapter().stop();
  CHECK(queue.adapter().stopped());
}

TEST_MAIN()
