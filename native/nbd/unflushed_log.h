// Owns: UnflushedLog, what a backend has acknowledged but not made durable, kept in a file of a
// tmpfs that outlives this process; and LogReader, which takes it out again in global order.
// Runs on: a queue's part of the log belongs to that queue's thread; what is marked so is for any.
// Must not: trust a file that it opens, wait for anything, or touch a page of the file that it has
// not reserved before (a full file system must be an answer, never a SIGBUS).
//
// Lifecycle of a write: reserve() at its submission, append() at its successful reply and before
// its completion goes to the kernel, or release() when it has failed. A FLUSH remembers sequence()
// when it is staged and passes it to flushed() when it has succeeded; each queue then drops what is
// covered when it next looks.
//
// Order: append() gives the numbers, so a write whose submission came after another one's
// completion has the higher one. Writes that overlapped in time have no order to keep.
//
// A process that is killed at any instruction leaves a file that opens and holds every entry whose
// append() returned, and perhaps the one that it was at.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "base/fd.h"

namespace unbd {

// In the file: never renumber.
enum class LogKind : uint32_t {
  kWrite = 1,
  kWriteZeroes = 2,
  kWriteZeroesNoHole = 3,  // blocks must stay allocated
  kTrim = 4,
};

struct LogEntry {
  uint64_t sequence;
  uint64_t offset_bytes;
  uint64_t length_bytes;
  LogKind kind;
  const std::byte* payload;  // kWrite: length_bytes in one piece, in the mapped log; else null
};

struct LogTotals {
  uint64_t entries = 0;
  uint64_t bytes = 0;  // of payload
};

class UnflushedLog {
 public:
  static constexpr unsigned kQueuesMax = 4096;
  static constexpr uint64_t kQueueBytesMin = 64 * 1024;
  static constexpr uint64_t kQueueBytesMax = 1024 * 1024 * 1024;
  static constexpr uint64_t kQueueBytesAlignment = 64 * 1024;
  // The file grows in such steps. The first one has a page more, so that in a file that cannot grow
  // (ENOSPC) a write of 1 MiB still fits.
  static constexpr uint64_t kGrowBytes = 1024 * 1024;
  static constexpr uint64_t kFirstBytes = kGrowBytes + 4096;

  // Both give 0 or a negative errno, and then in *error_text one line for people that names the
  // cause. bytes_per_queue is a multiple of kQueueBytesAlignment between the two bounds. They block
  // (system calls; open() waits for a dying predecessor's lock for a second at most): call them on
  // the control plane's side only.

  // A new, empty log. -EEXIST when path exists, -ENOSPC when not even the first step fits.
  static int create(const std::string& path, unsigned queues, uint64_t bytes_per_queue,
                    std::shared_ptr<UnflushedLog>* out, std::string* error_text);
  // The log of a predecessor, with all that it holds. -EBUSY: another process still uses it;
  // -EINVAL: it is damaged, foreign, or made for another number of queues or bytes; -EPERM: it does
  // not belong to us alone. The content of a file that is refused is not changed.
  static int open(const std::string& path, unsigned queues, uint64_t bytes_per_queue,
                  std::shared_ptr<UnflushedLog>* out, std::string* error_text);

  ~UnflushedLog();
  UnflushedLog(const UnflushedLog&) = delete;
  UnflushedLog& operator=(const UnflushedLog&) = delete;

  // Removes the file's name; the log works on until it is destroyed. 0 or -errno. Any thread.
  int unlink();

  // ---- The request path: on the queue's thread. No lock and no allocation anywhere.

  // Makes sure that append() will find room for one entry with this much payload (0 for anything
  // but a write). False: the log is full. Then a FLUSH has to succeed (if live_bytes() is 0: a
  // request in flight has to end first) before it makes sense to ask again; with nothing live and
  // nothing reserved on the queue it never fails for payload_bytes <= write_bytes_max().
  // Costs a load of a shared, rarely written cache line and a few additions; no system call, but
  // for one fallocate(2) whenever the queue's part grows by kGrowBytes, so 63 times at most with
  // the default of 64 MiB in one queue. Where the file system is full, that call is repeated for
  // each refusal.
  bool reserve(unsigned queue, uint64_t payload_bytes);

  // Turns a reservation of the same size into an entry, which has the next number of the device.
  // Costs one atomic addition on a cache line that all queues share, and copying the payload; never
  // fails. length_bytes > 0 and below 2^63, as the sum with the offset is. payload: of kWrite, else
  // null. A trim or zeroes of any length takes only the 32 bytes of an entry's head.
  void append(unsigned queue, LogKind kind, uint64_t offset_bytes, uint64_t length_bytes,
              const std::byte* payload);

  // Gives a reservation back: the request has failed. Two additions.
  void release(unsigned queue, uint64_t payload_bytes);

  // Whether what is live takes at least half of the queue's room (of what the file system gave,
  // where it gave less): time for a FLUSH. Costs as reserve(), without its system call.
  bool is_half_full(unsigned queue);

  // ---- Any thread. Each costs a load or two, flushed() a compare-and-swap.

  // The number that was given last: what a FLUSH that is staged now covers.
  uint64_t sequence() const { return header_->sequence.load(std::memory_order_acquire); }
  // A FLUSH that was staged at this sequence() has succeeded. May come in any order.
  void flushed(uint64_t sequence);
  // A FLUSH has covered everything.
  bool all_flushed() const;

  // What the queue's live entries take, heads included. Exact on the queue's thread; elsewhere it
  // may lag behind an operation that is under way.
  uint64_t live_bytes(unsigned queue) const;
  // Over all queues; lags likewise. Costs a few loads a queue.
  LogTotals totals() const;

  unsigned queues() const { return static_cast<unsigned>(parts_.size()); }
  uint64_t bytes_per_queue() const { return bytes_per_queue_; }
  // The longest write that always fits an empty log, full file system or not.
  uint64_t write_bytes_max() const;

  // What else a successor must know.
  // CLOCK_BOOTTIME, ns, when held requests must fail; 0: the device does not hold.
  uint64_t hold_deadline_ns() const {
    return header_->hold_deadline_ns.load(std::memory_order_acquire);
  }
  void set_hold_deadline_ns(uint64_t deadline) {
    header_->hold_deadline_ns.store(deadline, std::memory_order_release);
  }
  // Counts the connections of the device, over all its server processes: a new number each call,
  // wrapping at 16 bits as the cookie does.
  uint16_t next_epoch();

 private:
  friend class LogReader;

  static constexpr uint64_t kMagic = 0x31676f6c64626e75;  // "unbdlog1", little endian
  static constexpr uint32_t kVersion = 1;
  static constexpr uint32_t kUnitBytes = 32;  // entries begin and end at multiples of it

  // The file: Header, a Control for each queue, padding to a page, then the queues' rings.
  struct Header {
    std::atomic<uint64_t> magic;  // stored last, so that a half-made file has none
    uint32_t version;
    uint32_t queues;
    uint64_t bytes_per_queue;
    std::atomic<uint64_t> hold_deadline_ns;
    std::atomic<uint64_t> epoch;
    alignas(64) std::atomic<uint64_t> sequence;  // given last; 0: none yet
    alignas(64) std::atomic<uint64_t> flushed;   // entries up to this one are durable
  };
  static_assert(sizeof(Header) == 192 && std::atomic<uint64_t>::is_always_lock_free);

  // The live part of a queue's ring, in one word so that each change of it is one store: first unit
  // (low half) and number of units (high half).
  struct alignas(64) Control {
    std::atomic<uint64_t> window;
  };

  struct EntryHead {
    uint64_t sequence;
    uint64_t offset_bytes;
    uint64_t length_bytes;
    uint32_t kind;   // LogKind
    uint32_t check;  // of the rest
  };
  static_assert(sizeof(EntryHead) == kUnitBytes);

  struct Window {
    uint32_t begin = 0;
    uint32_t units = 0;
  };

  // What a queue's thread knows of its part. The ring is mapped twice in a row, so that an entry
  // that goes on at the ring's begin is in one piece for whoever reads or writes it.
  struct alignas(64) Part {
    Control* control = nullptr;
    std::byte* ring = nullptr;
    Window window;
    uint64_t reserved_units = 0;
    uint64_t allocated_bytes = 0;
    bool may_grow = true;
    uint64_t seen_flushed = 0;
    std::atomic<uint64_t> last_sequence{0};  // of the newest entry
    std::atomic<uint64_t> entries{0};
    std::atomic<uint64_t> payload_bytes{0};
  };

  UnflushedLog(std::string path, Fd file, unsigned queues, uint64_t bytes_per_queue);

  static uint64_t header_bytes(unsigned queues);
  static uint32_t check_of(const EntryHead& head);
  static uint64_t units_of(uint64_t payload_bytes) {
    return 1 + (payload_bytes + kUnitBytes - 1) / kUnitBytes;
  }
  static uint64_t payload_of(const EntryHead& head) {
    return head.kind == static_cast<uint32_t>(LogKind::kWrite) ? head.length_bytes : 0;
  }

  // In unflushed_log_file.cc; those with a text say in it why they refuse.
  int lock(std::string* error_text) const;
  int make(std::string* error_text);
  int adopt(std::string* error_text);
  int check_file(std::string* error_text) const;
  int check_header(std::string* error_text) const;
  int adopt_part(unsigned queue, std::string* error_text);
  int check_entry(const Part& part, const EntryHead& head, uint32_t units_left,
                  std::string* error_text) const;
  int allocate(uint64_t file_offset, uint64_t bytes) const;
  int allocate_ring(unsigned queue, uint64_t bytes);
  int map();
  bool grow(Part& part, unsigned queue, uint64_t end_bytes);

  uint64_t file_bytes() const { return ring_offset(queues()); }
  uint64_t ring_offset(unsigned queue) const {
    return header_bytes(queues()) + queue * bytes_per_queue_;
  }
  uint32_t ring_units() const { return static_cast<uint32_t>(bytes_per_queue_ / kUnitBytes); }
  EntryHead head_at(const Part& part, uint32_t unit) const;
  Window window_of(unsigned queue) const;
  void publish(Part& part, Window window);
  void drop_flushed(Part& part);
  static void count(Part& part, int64_t entries, int64_t payload_bytes);

  std::string path_;
  Fd file_;
  uint64_t bytes_per_queue_;
  Header* header_ = nullptr;
  std::vector<Part> parts_;
};

// The live entries of all queues by ascending sequence, as they were when it was made. No queue
// uses the log meanwhile.
class LogReader {
 public:
  explicit LogReader(const UnflushedLog& log);
  // False at the end. The entry's payload stays valid as long as no queue uses the log.
  bool next(LogEntry* entry);

 private:
  struct Cursor {
    unsigned queue;
    uint32_t unit;
    uint32_t units_left;
    uint64_t sequence;
  };
  static bool is_later(const Cursor& first, const Cursor& second) {
    return first.sequence > second.sequence;
  }
  void step(Cursor* cursor, const UnflushedLog::EntryHead& head) const;
  // Moves to the first entry at or after the cursor that is not flushed; false: there is none.
  bool settle(Cursor* cursor) const;

  const UnflushedLog& log_;
  uint64_t flushed_;
  std::vector<Cursor> heap_;  // the lowest sequence first
};

}  // namespace unbd
