// Owns: the half of UnflushedLog (see unflushed_log.h) that makes, opens, checks and grows its
// file. Runs on the control plane's thread; grow() alone on a queue's. Must not: map a page whose
// memory is not reserved and then touch it, or believe a number in the file before it is bounded.
#include <fcntl.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <utility>

#include "base/assert.h"
#include "base/clock.h"
#include "base/errno_name.h"
#include "nbd/unflushed_log.h"

namespace unbd {

namespace {

constexpr uint64_t kPageBytes = 4096;
constexpr uint64_t kOffsetEnd = uint64_t{1} << 63;
// A process that was killed keeps its files for the moment that its end takes.
constexpr uint64_t kLockPatienceMs = 1000;
constexpr useconds_t kLockRetryUs = 5000;
// The folder is shared with the rest of the host, which does not work well without it.
constexpr uint64_t kLeaveFreeDivisor = 4;

int refuse(std::string* error_text, int error, std::string reason) {
  *error_text = std::move(reason);
  return -error;
}

int refuse_by_errno(std::string* error_text, const char* what, int error) {
  return refuse(error_text, error, std::string(what) + ": " + errno_name(error));
}

// The length of a queue's ring, as steps of growth go, that holds this many bytes.
uint64_t step_up(uint64_t bytes, uint64_t bytes_max) {
  uint64_t size = UnflushedLog::kFirstBytes;
  if (bytes > size)
    size += (bytes - size + UnflushedLog::kGrowBytes - 1) / UnflushedLog::kGrowBytes *
            UnflushedLog::kGrowBytes;
  return std::min(size, bytes_max);
}

// Where the file system has a limit, a part of it stays free for others.
bool leaves_room(int fd, uint64_t bytes) {
  struct statvfs info{};
  if (::fstatvfs(fd, &info) != 0 || info.f_blocks == 0) return true;
  const uint64_t free_bytes = uint64_t{info.f_bavail} * info.f_frsize;
  const uint64_t all_bytes = uint64_t{info.f_blocks} * info.f_frsize;
  return free_bytes >= bytes && free_bytes - bytes >= all_bytes / kLeaveFreeDivisor;
}

int check_arguments(unsigned queues, uint64_t bytes_per_queue, std::string* error_text) {
  if (queues < 1 || queues > UnflushedLog::kQueuesMax ||
      bytes_per_queue < UnflushedLog::kQueueBytesMin ||
      bytes_per_queue > UnflushedLog::kQueueBytesMax ||
      bytes_per_queue % UnflushedLog::kQueueBytesAlignment != 0)
    return refuse(error_text, EINVAL, "no log can have such a size");
  return 0;
}

}  // namespace

UnflushedLog::UnflushedLog(std::string path, Fd file, unsigned queues, uint64_t bytes_per_queue)
    : path_(std::move(path)),
      file_(std::move(file)),
      bytes_per_queue_(bytes_per_queue),
      parts_(queues) {}

UnflushedLog::~UnflushedLog() {
  for (Part& part : parts_)
    if (part.ring != nullptr) ::munmap(part.ring, 2 * bytes_per_queue_);
  if (header_ != nullptr) ::munmap(header_, header_bytes(queues()));
}

int UnflushedLog::create(const std::string& path, unsigned queues, uint64_t bytes_per_queue,
                         std::shared_ptr<UnflushedLog>* out, std::string* error_text) {
  if (const int result = check_arguments(queues, bytes_per_queue, error_text); result < 0)
    return result;
  Fd file(::open(path.c_str(), O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600));
  if (!file.valid()) return refuse_by_errno(error_text, "it cannot be made", errno);
  std::shared_ptr<UnflushedLog> log(
      new UnflushedLog(path, std::move(file), queues, bytes_per_queue));
  const int result = log->make(error_text);
  if (result < 0) {
    log->unlink();
    return result;
  }
  *out = std::move(log);
  return 0;
}

int UnflushedLog::open(const std::string& path, unsigned queues, uint64_t bytes_per_queue,
                       std::shared_ptr<UnflushedLog>* out, std::string* error_text) {
  if (const int result = check_arguments(queues, bytes_per_queue, error_text); result < 0)
    return result;
  // Not blocking, should the path name a FIFO.
  Fd file(::open(path.c_str(), O_RDWR | O_NOFOLLOW | O_CLOEXEC | O_NONBLOCK));
  if (!file.valid()) return refuse_by_errno(error_text, "it cannot be opened", errno);
  std::shared_ptr<UnflushedLog> log(
      new UnflushedLog(path, std::move(file), queues, bytes_per_queue));
  if (const int result = log->adopt(error_text); result < 0) return result;
  *out = std::move(log);
  return 0;
}

int UnflushedLog::unlink() {
  return ::unlink(path_.c_str()) == 0 ? 0 : -errno;
}

uint64_t UnflushedLog::header_bytes(unsigned queues) {
  const uint64_t bytes = sizeof(Header) + queues * sizeof(Control);
  return (bytes + kPageBytes - 1) / kPageBytes * kPageBytes;
}

// Two writers would tear each other's entries.
int UnflushedLog::lock(std::string* error_text) const {
  const uint64_t end_ms = monotonic_ms() + kLockPatienceMs;
  while (::flock(file_.get(), LOCK_EX | LOCK_NB) != 0) {
    if (errno == EINTR) continue;
    if (errno != EWOULDBLOCK) return refuse_by_errno(error_text, "it cannot be locked", errno);
    if (monotonic_ms() >= end_ms) return refuse(error_text, EBUSY, "another process still uses it");
    ::usleep(kLockRetryUs);
  }
  return 0;
}

int UnflushedLog::make(std::string* error_text) {
  int result = lock(error_text);
  if (result < 0) return result;
  if (::ftruncate(file_.get(), static_cast<off_t>(file_bytes())) != 0)
    return refuse_by_errno(error_text, "it cannot be given its size", errno);
  result = allocate(0, header_bytes(queues()));
  if (result == 0) result = map();
  for (unsigned queue = 0; queue < queues() && result == 0; ++queue)
    result = allocate_ring(queue, 0);
  if (result < 0) return refuse_by_errno(error_text, "there is no memory for it", -result);
  header_->version = kVersion;
  header_->queues = queues();
  header_->bytes_per_queue = bytes_per_queue_;
  header_->magic.store(kMagic, std::memory_order_release);
  return 0;
}

int UnflushedLog::adopt(std::string* error_text) {
  int result = check_file(error_text);
  if (result == 0) result = lock(error_text);
  if (result == 0) result = check_header(error_text);
  if (result < 0) return result;
  result = allocate(0, header_bytes(queues()));
  if (result == 0) result = map();
  if (result < 0) return refuse_by_errno(error_text, "there is no memory for it", -result);
  const uint64_t last = sequence();
  if (last >= kOffsetEnd || header_->flushed.load(std::memory_order_relaxed) > last)
    return refuse(error_text, EINVAL, "it is damaged: more is flushed than was written");
  for (unsigned queue = 0; queue < queues(); ++queue) {
    result = adopt_part(queue, error_text);
    if (result < 0) return result;
  }
  // The predecessor may have died between taking a number and making an entry of it.
  if (totals().entries == 0) flushed(last);
  for (Part& part : parts_)
    drop_flushed(part);
  return 0;
}

int UnflushedLog::check_file(std::string* error_text) const {
  struct stat info{};
  if (::fstat(file_.get(), &info) != 0)
    return refuse_by_errno(error_text, "it cannot be examined", errno);
  if (!S_ISREG(info.st_mode)) return refuse(error_text, EINVAL, "it is not a regular file");
  if (info.st_uid != ::geteuid() || (info.st_mode & 077) != 0)
    return refuse(error_text, EPERM, "others than its owner may have written to it");
  return 0;
}

// Read, not mapped: the file may be shorter than a header, and then has no such page.
int UnflushedLog::check_header(std::string* error_text) const {
  struct {
    uint64_t magic;
    uint32_t version;
    uint32_t queues;
    uint64_t bytes_per_queue;
  } head{};
  const ssize_t got = ::pread(file_.get(), &head, sizeof(head), 0);
  if (got != static_cast<ssize_t>(sizeof(head)) || head.magic != kMagic)
    return refuse(error_text, EINVAL, "it is not a log of unflushed writes");
  if (head.version != kVersion)
    return refuse(error_text, EINVAL,
                  "its format is version " + std::to_string(head.version) + ", not " +
                      std::to_string(kVersion));
  if (head.queues != queues() || head.bytes_per_queue != bytes_per_queue_)
    return refuse(error_text, EINVAL,
                  "it was made for " + std::to_string(head.queues) + " queues of " +
                      std::to_string(head.bytes_per_queue) + " bytes, not " +
                      std::to_string(queues()) + " of " + std::to_string(bytes_per_queue_));
  struct stat info{};
  if (::fstat(file_.get(), &info) != 0 || static_cast<uint64_t>(info.st_size) != file_bytes())
    return refuse(error_text, EINVAL, "it is damaged: its size is not what its header says");
  return 0;
}

int UnflushedLog::adopt_part(unsigned queue, std::string* error_text) {
  Part& part = parts_[queue];
  const Window window = window_of(queue);
  if (window.begin >= ring_units() || window.units > ring_units())
    return refuse(error_text, EINVAL, "it is damaged: a queue's part reaches beyond its end");
  const uint64_t end_bytes = (uint64_t{window.begin} + window.units) * kUnitBytes;
  if (const int result = allocate_ring(queue, end_bytes); result < 0)
    return refuse_by_errno(error_text, "there is no memory for it", -result);
  part.window = window;
  for (uint32_t unit = window.begin, left = window.units; left > 0;) {
    const EntryHead head = head_at(part, unit);
    if (const int result = check_entry(part, head, left, error_text); result < 0) return result;
    part.last_sequence.store(head.sequence, std::memory_order_relaxed);
    count(part, 1, static_cast<int64_t>(payload_of(head)));
    const uint32_t units = static_cast<uint32_t>(units_of(payload_of(head)));
    unit = (unit + units) % ring_units();
    left -= units;
  }
  return 0;
}

int UnflushedLog::check_entry(const Part& part, const EntryHead& head, uint32_t units_left,
                              std::string* error_text) const {
  const bool is_known = head.kind >= static_cast<uint32_t>(LogKind::kWrite) &&
                        head.kind <= static_cast<uint32_t>(LogKind::kTrim);
  if (!is_known || head.check != check_of(head))
    return refuse(error_text, EINVAL, "it is damaged: an entry is not what it was written as");
  // The order of these keeps every sum from overflowing.
  if (head.length_bytes == 0 || head.length_bytes > kOffsetEnd ||
      head.offset_bytes > kOffsetEnd - head.length_bytes ||
      payload_of(head) > uint64_t{units_left} * kUnitBytes ||
      units_of(payload_of(head)) > units_left)
    return refuse(error_text, EINVAL, "it is damaged: an entry is longer than the log");
  if (head.sequence <= part.last_sequence.load(std::memory_order_relaxed) ||
      head.sequence > sequence())
    return refuse(error_text, EINVAL, "it is damaged: its entries are not in order");
  return 0;
}

int UnflushedLog::allocate(uint64_t file_offset, uint64_t bytes) const {
  while (::fallocate(file_.get(), 0, static_cast<off_t>(file_offset), static_cast<off_t>(bytes)) !=
         0) {
    if (errno != EINTR) return -errno;
  }
  return 0;
}

int UnflushedLog::allocate_ring(unsigned queue, uint64_t bytes) {
  Part& part = parts_[queue];
  const uint64_t until = step_up(bytes, bytes_per_queue_);
  UN_ASSERT(until > part.allocated_bytes);
  const int result =
      allocate(ring_offset(queue) + part.allocated_bytes, until - part.allocated_bytes);
  if (result == 0) part.allocated_bytes = until;
  return result;
}

// True when the ring can be used up to end_bytes, which may lie in its second mapping: that is the
// ring's begin, and may only be reached when the whole ring has its memory.
bool UnflushedLog::grow(Part& part, unsigned queue, uint64_t end_bytes) {
  if (part.allocated_bytes == bytes_per_queue_) return true;
  const uint64_t more_bytes = step_up(end_bytes, bytes_per_queue_) - part.allocated_bytes;
  part.may_grow = leaves_room(file_.get(), more_bytes) && allocate_ring(queue, end_bytes) == 0;
  return part.may_grow;
}

int UnflushedLog::map() {
  constexpr int kAccess = PROT_READ | PROT_WRITE;
  void* const header = ::mmap(nullptr, header_bytes(queues()), kAccess, MAP_SHARED, file_.get(), 0);
  if (header == MAP_FAILED) return -errno;
  header_ = static_cast<Header*>(header);
  auto* const controls = reinterpret_cast<Control*>(header_ + 1);
  for (unsigned queue = 0; queue < queues(); ++queue) {
    Part& part = parts_[queue];
    part.control = controls + queue;
    // The address range first, so that both mappings can be put into it.
    void* const range = ::mmap(nullptr, 2 * bytes_per_queue_, PROT_NONE,
                               MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (range == MAP_FAILED) return -errno;
    part.ring = static_cast<std::byte*>(range);
    for (const uint64_t at : {uint64_t{0}, bytes_per_queue_}) {
      if (::mmap(part.ring + at, bytes_per_queue_, kAccess, MAP_SHARED | MAP_FIXED, file_.get(),
                 static_cast<off_t>(ring_offset(queue))) == MAP_FAILED)
        return -errno;
    }
    // Best effort, as for the tags' buffers: a queue should not wait for a page from the swap,
    // least of all from one on its own disk.
    ::mlock2(part.ring, bytes_per_queue_, MLOCK_ONFAULT);
  }
  return 0;
}

}  // namespace unbd
