// Owns: NbdDevice, what the adapters of one device share: the policies of the device, its log of
// unflushed writes, and the count of what a FLUSH on any of its connections has made durable.
// Runs on: any thread. Everything that changes is atomic; no lock.
// Must not: know a queue's requests or its connection.
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>

namespace unbd {

class UnflushedLog;

// What becomes of writes that a backend acknowledged, did not make durable, and may have forgotten
// when it comes back.
enum class Unflushed : uint8_t {
  kReplay,     // they are in the log, and are sent again before the adapters resume
  kFailFlush,  // every FLUSH and FUA in flight at the loss fails, and the first one after it
  kTrust,      // the backend does not forget
};

struct NbdDeviceConfig {
  static constexpr int64_t kForever = -1;

  unsigned depth = 0;                            // tags of a queue are below it
  uint32_t maximum_request_bytes = 1024 * 1024;  // the longest kRead or kWrite
  bool read_only = false;
  int64_t reconnect_delay_ms = 0;   // how long requests wait for a new connection, or kForever
  int64_t first_hold_ms = 0;        // the same for a device that starts without a connection
  uint32_t request_timeout_ms = 0;  // 0: none
  Unflushed unflushed = Unflushed::kTrust;
  bool durable_writes = false;        // every change is made durable before it is acknowledged
  bool resend_writes = true;          // false: changes in flight at a loss fail
  bool in_doubt = false;              // kFailFlush: a predecessor lost count of unflushed writes
  std::shared_ptr<UnflushedLog> log;  // of kReplay
};

class NbdDevice {
 public:
  // How it stands with a queue's backend; a device is as well as the worst of its queues.
  enum class State : uint8_t {
    kConnected,  // requests go to the backend
    kHolding,    // they wait for a connection
    kFailing,    // they fail until there is one
    kFatal,      // they fail for ever
  };
  static constexpr unsigned kStates = 4;

  explicit NbdDevice(NbdDeviceConfig config);

  const NbdDeviceConfig& config() const { return config_; }
  // Null unless unflushed writes are to be replayed. Durable writes need none.
  UnflushedLog* log() const { return log_; }
  bool fails_flushes() const { return fails_flushes_; }

  // ---- What a FLUSH covers.
  // The position after all changes that are acknowledged now.
  uint64_t sequence() const;
  // A FLUSH that was staged at this sequence() has succeeded.
  void flushed(uint64_t sequence);

  // ---- For kFailFlush: doubts count the losses at which acknowledged changes were unflushed.
  void acknowledged() { acknowledged_.fetch_add(1, std::memory_order_acq_rel); }
  // A connection is lost.
  void lost();
  uint64_t doubts() const { return doubts_.load(std::memory_order_acquire); }
  // True for one FLUSH or FUA after each doubt: the one that tells of it.
  bool takes_blame();

  // ---- What people may ask.
  void entered(State state) { ++counts_[static_cast<unsigned>(state)]; }
  void left(State state) { --counts_[static_cast<unsigned>(state)]; }
  State state() const;
  void replayed(uint64_t requests) { replayed_requests_ += requests; }
  uint64_t replayed_requests() const { return replayed_requests_; }
  uint64_t unflushed_bytes() const;

 private:
  const NbdDeviceConfig config_;
  UnflushedLog* const log_;
  const bool fails_flushes_;
  std::atomic<unsigned> counts_[kStates]{};
  std::atomic<uint64_t> replayed_requests_{0};
  // Changes; of these the first flushed_ are durable, or in doubt.
  std::atomic<uint64_t> acknowledged_{0};
  std::atomic<uint64_t> flushed_{0};
  std::atomic<uint64_t> doubts_{0};
  std::atomic<uint64_t> blamed_{0};  // doubts that were told
};

}  // namespace unbd
