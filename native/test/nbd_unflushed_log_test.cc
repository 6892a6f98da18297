// Owns: the claims about the unflushed log's content, its room and its file.
// Runs on one thread. Kills, threads and random runs are in nbd_unflushed_log_kill_test.cc.
// Must not: depend on where in the file things stand, but where a claim is about damage.
#include <fcntl.h>
#include <sys/file.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <random>
#include <string>

#include "base/fd.h"
#include "nbd/unflushed_log.h"
#include "test/check.h"
#include "test/log_fixture.h"

using namespace log_test;
using unbd::Fd;

namespace {

constexpr uint64_t kMiB = 1024 * 1024;
constexpr uint64_t kHeadBytes = 32;

// Why open() refuses, or "" when it does not.
std::string refusal(const std::string& path, unsigned queues, int* error,
                    uint64_t bytes = kRingBytes) {
  Log log;
  std::string text;
  *error = -UnflushedLog::open(path, queues, bytes, &log, &text);
  return text;
}

bool contains(const std::string& text, const char* part) {
  return text.find(part) != std::string::npos;
}

uint64_t allocated_bytes(const std::string& path) {
  struct stat info{};
  return ::stat(path.c_str(), &info) == 0 ? static_cast<uint64_t>(info.st_blocks) * 512 : 0;
}

std::string read_file(const std::string& path) {
  Fd file(::open(path.c_str(), O_RDONLY));
  std::string bytes(static_cast<size_t>(::lseek(file.get(), 0, SEEK_END)), '\0');
  require(::pread(file.get(), bytes.data(), bytes.size(), 0) == static_cast<ssize_t>(bytes.size()),
          "the file's bytes");
  return bytes;
}

void write_file(const std::string& path, const std::string& bytes) {
  Fd file(::open(path.c_str(), O_RDWR | O_CREAT | O_TRUNC, 0600));
  require(::pwrite(file.get(), bytes.data(), bytes.size(), 0) == static_cast<ssize_t>(bytes.size()),
          "the file's bytes");
}

}  // namespace

TEST("entries of all queues come back in the order in which they were acknowledged") {
  Folder folder;
  Log log = create(folder.file(), 3);
  CHECK(log->all_flushed() && log->sequence() == 0 && entries_of(*log).empty());
  CHECK(write(*log, 2, 4096, "first"));
  CHECK(note(*log, 0, LogKind::kTrim, 0, uint64_t{5} << 32));
  CHECK(write(*log, 1, 512, payload_of(3, 1000)));
  CHECK(note(*log, 2, LogKind::kWriteZeroes, 8192, 4096));
  CHECK(note(*log, 0, LogKind::kWriteZeroesNoHole, 0, 512));
  const std::vector<Entry> expected = {
      {1, LogKind::kWrite, 4096, 5, "first"},
      {2, LogKind::kTrim, 0, uint64_t{5} << 32, ""},
      {3, LogKind::kWrite, 512, 1000, payload_of(3, 1000)},
      {4, LogKind::kWriteZeroes, 8192, 4096, ""},
      {5, LogKind::kWriteZeroesNoHole, 0, 512, ""},
  };
  CHECK(entries_of(*log) == expected);
  CHECK(log->sequence() == 5 && !log->all_flushed());
  CHECK(log->totals().entries == 5 && log->totals().bytes == 1005);
}

TEST("a flush drops what was acknowledged before it was staged, and nothing else") {
  Folder folder;
  Log log = create(folder.file(), 2);
  write(*log, 0, 0, "one");
  write(*log, 1, 0, "two");
  const uint64_t staged = log->sequence();
  write(*log, 0, 0, "three");
  log->flushed(staged);
  CHECK(entries_of(*log) == (std::vector<Entry>{{3, LogKind::kWrite, 0, 5, "three"}}));
  CHECK(log->live_bytes(1) == 0 && !log->all_flushed());
  // An older flush that ends later takes nothing back.
  log->flushed(1);
  CHECK(entries_of(*log).size() == 1);
  log->flushed(log->sequence());
  CHECK(entries_of(*log).empty() && log->all_flushed());
  CHECK(log->totals().entries == 0 && log->totals().bytes == 0 && log->live_bytes(0) == 0);
}

TEST("a trim or zeroes of any length takes the room of a head") {
  Folder folder;
  Log log = create(folder.file(), 1);
  note(*log, 0, LogKind::kTrim, 0, uint64_t{1} << 62);
  note(*log, 0, LogKind::kWriteZeroes, 0, uint64_t{1} << 40);
  CHECK(log->live_bytes(0) == 2 * kHeadBytes);
}

TEST("a reservation holds its room until it is used or released") {
  Folder folder;
  Log log = create(folder.file(), 2);
  CHECK(log->write_bytes_max() == kRingBytes - kHeadBytes);
  CHECK(log->reserve(0, log->write_bytes_max()));
  CHECK(!log->reserve(0, 0));
  CHECK(log->reserve(1, 4096));
  log->release(0, log->write_bytes_max());
  CHECK(log->reserve(0, 0));
  CHECK(!log->reserve(0, log->write_bytes_max()));
  log->release(0, 0);
  CHECK(write(*log, 0, 0, payload_of(1, log->write_bytes_max())));
  CHECK(!log->reserve(0, 0));
  log->flushed(log->sequence());
  CHECK(log->reserve(0, log->write_bytes_max()));
}

TEST("a queue asks for a flush when half of its room is taken") {
  Folder folder;
  Log log = create(folder.file(), 1);
  write(*log, 0, 0, payload_of(1, kRingBytes / 2 - 2 * kHeadBytes));
  CHECK(!log->is_half_full(0));
  note(*log, 0, LogKind::kTrim, 0, 1);
  CHECK(log->is_half_full(0));
  log->flushed(log->sequence());
  CHECK(!log->is_half_full(0));
}

TEST("an entry that another queue's flush overtakes before it is looked at leaves no trace") {
  Folder folder;
  Log log = create(folder.file(), 2);
  write(*log, 0, 0, "a");
  log->flushed(1);
  CHECK(!log->is_half_full(0));
  // The flush was seen; then comes what it covers already.
  write(*log, 0, 0, payload_of(1, log->write_bytes_max() - 64));
  write(*log, 1, 0, "b");
  log->flushed(2);
  CHECK(log->live_bytes(0) == 0 && log->reserve(0, log->write_bytes_max()));
}

TEST("the ring goes round many times, with every size of entry, and loses nothing") {
  Folder folder;
  Log log = create(folder.file(), 1);
  std::vector<Entry> model;
  for (uint64_t number = 1; number < 4000; ++number) {
    const std::string payload = payload_of(number, 1 + number * 37 % 5000);
    CHECK(write(*log, 0, number, payload));
    model.push_back({number, LogKind::kWrite, number, payload.size(), payload});
    // At most eight stay, so that the ring is never empty and never full.
    if (model.size() > 8) {
      log->flushed(model.front().sequence);
      model.erase(model.begin());
    }
    if (number % 16 == 0) CHECK(entries_of(*log) == model);
  }
}

TEST("the file is sparse, private, and grows as the log does") {
  Folder folder;
  const std::string path = folder.file();
  Log log = create(path, 2, 8 * kMiB);
  struct stat info{};
  CHECK(::stat(path.c_str(), &info) == 0 && (info.st_mode & 0777) == 0600);
  CHECK(static_cast<uint64_t>(info.st_size) >= 16 * kMiB);
  CHECK(allocated_bytes(path) < 3 * kMiB);
  // Written and flushed again and again, it stays where it is.
  for (int round = 0; round < 40; ++round) {
    CHECK(write(*log, 0, 0, payload_of(1, kMiB / 2)));
    log->flushed(log->sequence());
  }
  CHECK(allocated_bytes(path) < 3 * kMiB);
  for (int round = 0; round < 10; ++round)
    CHECK(write(*log, 0, 0, payload_of(1, kMiB / 2)));
  CHECK(allocated_bytes(path) > 6 * kMiB && allocated_bytes(path) < 8 * kMiB);
}

TEST("a successor finds what its predecessor held, and goes on") {
  Folder folder;
  const std::string path = folder.file();
  std::vector<Entry> model;
  {
    Log log = create(path, 2);
    write(*log, 0, 0, "gone");
    log->flushed(1);
    write(*log, 1, 1, "kept");
    log->reserve(1, 1000);
    log->set_hold_deadline_ns(123456789);
    CHECK(log->next_epoch() == 1 && log->next_epoch() == 2);
    model = entries_of(*log);
  }
  Log log = reopen(path, 2);
  CHECK(entries_of(*log) == model && model.size() == 1);
  CHECK(log->totals().entries == 1 && log->totals().bytes == 4);
  CHECK(log->hold_deadline_ns() == 123456789 && log->next_epoch() == 3);
  // The reservation has died with the process.
  CHECK(log->reserve(1, log->write_bytes_max() - 64));
  log->release(1, log->write_bytes_max() - 64);
  CHECK(write(*log, 0, 2, "new"));
  CHECK(entries_of(*log).size() == 2 && entries_of(*log).back().sequence == 3);
}

TEST("a log is in use by one process at a time") {
  Folder folder;
  const std::string path = folder.file();
  Log log = create(path, 1);
  int error = 0;
  CHECK(contains(refusal(path, 1, &error), "another process") && error == EBUSY);
  log.reset();
  CHECK(refusal(path, 1, &error).empty() && error == 0);
}

TEST("a log is made once, and removed by name while it is in use") {
  Folder folder;
  const std::string path = folder.file();
  Log log = create(path, 1);
  Log second;
  std::string text;
  CHECK(UnflushedLog::create(path, 1, kRingBytes, &second, &text) == -EEXIST);
  CHECK(contains(text, "EEXIST") && ::access(path.c_str(), F_OK) == 0);
  CHECK(log->unlink() == 0 && ::access(path.c_str(), F_OK) != 0);
  CHECK(write(*log, 0, 0, "still works") && entries_of(*log).size() == 1);
  CHECK(log->unlink() == -ENOENT);
}

TEST("a log of another shape, owner or kind is refused with the reason") {
  Folder folder;
  const std::string path = folder.file();
  create(path, 2).reset();
  int error = 0;
  CHECK(contains(refusal(path, 3, &error), "made for 2 queues") && error == EINVAL);
  CHECK(contains(refusal(path, 2, &error, 2 * kRingBytes), "not 2 of") && error == EINVAL);
  ::chmod(path.c_str(), 0620);
  CHECK(contains(refusal(path, 2, &error), "others") && error == EPERM);
  const std::string link = folder.file("link");
  CHECK(::symlink(path.c_str(), link.c_str()) == 0);
  CHECK(contains(refusal(link, 2, &error), "ELOOP") && error == ELOOP);
  const std::string fifo = folder.file("fifo");
  CHECK(::mkfifo(fifo.c_str(), 0600) == 0);
  CHECK(contains(refusal(fifo, 2, &error), "regular") && error == EINVAL);
  CHECK(contains(refusal(folder.file("none"), 2, &error), "ENOENT") && error == ENOENT);
  const std::string empty = folder.file("empty");
  write_file(empty, "");
  CHECK(contains(refusal(empty, 2, &error), "not a log") && error == EINVAL);
  CHECK(contains(refusal(path, 0, &error), "size") && error == EINVAL);
}

TEST("a damaged log is refused, whatever byte of it is wrong") {
  Folder folder;
  const std::string path = folder.file();
  {
    Log log = create(path, 1);
    for (uint64_t number = 1; number <= 5; ++number)
      write(*log, 0, number * 4096, payload_of(number, 64));
    log->flushed(2);
  }
  const std::string good = read_file(path);
  const std::string damaged = folder.file("damaged");
  int error = 0;
  write_file(damaged, good.substr(0, good.size() - 1));
  CHECK(contains(refusal(damaged, 1, &error), "size") && error == EINVAL);
  write_file(damaged, good + "x");
  CHECK(contains(refusal(damaged, 1, &error), "size"));

  // Numbers that were never given: the device's last one is at byte 64.
  std::string ahead = good;
  ahead[64] = 4;
  write_file(damaged, ahead);
  CHECK(contains(refusal(damaged, 1, &error), "not in order") && error == EINVAL);
  ahead[64] = 1;
  write_file(damaged, ahead);
  CHECK(contains(refusal(damaged, 1, &error), "more is flushed") && error == EINVAL);

  // What is accepted all the same must hold entries that were written so: payloads carry no check.
  std::mt19937_64 random(1);
  int refused = 0;
  for (int round = 0; round < 3000; ++round) {
    std::string bytes = good;
    const size_t area = round % 2 == 0 ? 256 : 4096 + 600;
    const size_t at = (round % 2 == 0 ? 0 : 4096) + random() % (area - (round % 2 == 0 ? 0 : 4096));
    const uint64_t value = random() >> (random() % 64);
    std::memcpy(bytes.data() + at, &value, 1 + random() % 8);
    write_file(damaged, bytes);
    Log log;
    std::string text;
    if (UnflushedLog::open(damaged, 1, kRingBytes, &log, &text) < 0) {
      CHECK(!text.empty());
      ++refused;
      continue;
    }
    for (const Entry& entry : entries_of(*log)) {
      CHECK(entry.kind == LogKind::kWrite && entry.length == 64);
      CHECK(entry.offset == entry.sequence * 4096 && entry.sequence <= 5);
    }
    CHECK(write(*log, 0, 0, payload_of(1, 1000)));
  }
  CHECK(refused > 500);
}

TEST("where the file system is full the log is full, and a write of a MiB still goes through") {
  const pid_t child = ::fork();
  if (child == 0) {
    // A file system of 6 MiB, of which a quarter is to stay free: 4.5 MiB for the log.
    if (::unshare(CLONE_NEWNS) != 0 ||
        ::mount("none", "/", nullptr, MS_REC | MS_PRIVATE, nullptr) != 0 ||
        ::mount("tmpfs", "/tmp", "tmpfs", 0, "size=6m") != 0)
      ::_exit(2);
    Log log = create("/tmp/log", 2, 16 * kMiB);
    uint64_t written = 0;
    while (write(*log, 0, 0, payload_of(1, kMiB / 4)))
      written += kMiB / 4;
    bool ok = written >= 2 * kMiB && written < 4 * kMiB && log->is_half_full(0);
    ok = ok && log->reserve(1, kMiB) && !log->reserve(1, kMiB);
    log->release(1, kMiB);
    log->flushed(log->sequence());
    // Once it is empty it begins anew, wherever its begin had come to.
    for (int count = 0; count < 4 && ok; ++count)
      ok = write(*log, 1, 0, payload_of(1, kMiB / 4));
    log->flushed(log->sequence() - 1);
    ok = ok && !log->reserve(1, kMiB);
    log->flushed(log->sequence());
    for (int round = 0; round < 20 && ok; ++round) {
      ok = write(*log, round % 2, 0, payload_of(1, kMiB)) && !entries_of(*log).empty();
      log->flushed(log->sequence());
    }
    Log other;
    std::string text;
    ok = ok && UnflushedLog::create("/tmp/other", 8, 16 * kMiB, &other, &text) == -ENOSPC &&
         contains(text, "no memory") && ::access("/tmp/other", F_OK) != 0;
    ::_exit(ok ? 0 : 1);
  }
  int status = 0;
  CHECK(::waitpid(child, &status, 0) == child && WIFEXITED(status));
  if (WEXITSTATUS(status) == 2) {
    std::printf("# not shown: no permission to mount a small file system\n");
    return;
  }
  CHECK(WEXITSTATUS(status) == 0);
}

TEST_MAIN()
