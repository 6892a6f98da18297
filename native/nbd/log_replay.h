// Owns: replay_log(), which sends what a backend has acknowledged and may have forgotten again,
// in order, over a connection that serves nothing else yet.
// Runs on: a worker thread of the control plane; it blocks. No queue appends to the log meanwhile.
// Must not: reorder what overlaps, read a byte beyond its own replies (a queue owns the connection
// next), trust a byte that the backend sent, or change the log: only a FLUSH makes entries durable.
#pragma once

#include <cstdint>
#include <string>

#include "nbd/unflushed_log.h"
#include "transport/transport.h"

namespace unbd {

// What the handshake of this connection agreed on.
struct ReplayConfig {
  uint64_t size_bytes = 0;  // of the export
  bool structured_replies = false;
  bool can_trim = false;                      // no: trims are left out, they promise nothing
  bool can_write_zeroes = false;              // no: zeroes are written as data
  uint32_t maximum_block_bytes = 0xffffffff;  // of a WRITE's payload
  uint32_t minimum_block_bytes = 1;           // a power of two, 64 KiB at most
  uint16_t epoch = 0;                         // of the connection; part of every cookie
};

struct ReplayResult {
  enum class Outcome : uint8_t {
    kDone,
    kLost,       // the connection ended, or the backend is shutting down
    kTimedOut,   // it made no progress
    kViolation,  // the backend broke the protocol
    kRefused,    // the backend answered a write with an error
    kUnfit,      // the log holds what lies beyond the export's end; nothing was sent
  };
  Outcome outcome = Outcome::kDone;
  int error = 0;       // negative errno, 0 for kDone
  std::string reason;  // for people; empty for kDone
  LogTotals replayed;  // for kDone: what was in the log
};

// Ends when every reply is there, or when for patience_ms nothing could be sent and no reply became
// complete, or when another thread calls the transport's shutdown(). Up to 32 requests are under
// way at a time, none of which overlaps another. After anything but kDone the connection is
// useless.
ReplayResult replay_log(Transport& transport, const ReplayConfig& config, const UnflushedLog& log,
                        int patience_ms);

}  // namespace unbd
