// Owns: a block device for trials of the native core on a real kernel, without Node:
//
//   ublk_smoke_device KIND SIZE|PATH [OPTION]...
//   KIND: null, memory, file
//   OPTION: queues=N depth=N max_io=BYTES user_copy read_only refuse_writes recovery buffered
//           no_scan
//
// It prints the disk's path when it can be opened and serves until SIGTERM or SIGINT; then it STOPs
// and DELs the device and prints its counters. SIGUSR1 to the server process: fail all now.
// Runs as: two processes. The first issues the control commands, the second serves the queues.
// Must not: be installed.
#include <poll.h>
#include <signal.h>
#include <sys/eventfd.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>

#include "base/errno_name.h"
#include "local/file_adapter.h"
#include "local/memory_adapter.h"
#include "local/null_adapter.h"
#include "queue/device_queues.h"
#include "ublk/control.h"

namespace unbd {
namespace {

struct Options {
  std::string kind;
  std::string what;
  unsigned queues = 1;
  unsigned depth = 64;
  unsigned max_io_bytes = 1024 * 1024;
  bool user_copy = false;
  bool read_only = false;
  bool refuse_writes = false;  // read-only to the queues, but not to the driver
  bool recovery = false;
  bool direct = true;
  bool no_scan = false;
  uint64_t size_bytes = 0;
};

[[noreturn]] void die(const char* what, int result) {
  std::fprintf(stderr, "ublk_smoke_device: %s: %s\n", what, errno_name(-result));
  std::exit(1);
}

uint64_t parse_size(const std::string& text) {
  char* end = nullptr;
  uint64_t value = std::strtoull(text.c_str(), &end, 10);
  int shift = *end == 'K' ? 10 : *end == 'M' ? 20 : *end == 'G' ? 30 : 0;
  return value << shift;
}

bool parse(int argc, char** argv, Options* options) {
  if (argc < 3) return false;
  options->kind = argv[1];
  options->what = argv[2];
  for (int i = 3; i < argc; ++i) {
    std::string word = argv[i];
    std::string value = word.substr(std::min(word.find('=') + 1, word.size()));
    if (word.starts_with("queues="))
      options->queues = static_cast<unsigned>(parse_size(value));
    else if (word.starts_with("depth="))
      options->depth = static_cast<unsigned>(parse_size(value));
    else if (word.starts_with("max_io="))
      options->max_io_bytes = static_cast<unsigned>(parse_size(value));
    else if (word == "user_copy")
      options->user_copy = true;
    else if (word == "read_only")
      options->read_only = true;
    else if (word == "refuse_writes")
      options->refuse_writes = true;
    else if (word == "recovery")
      options->recovery = true;
    else if (word == "no_scan")
      options->no_scan = true;
    else if (word == "buffered")
      options->direct = false;
    else
      return false;
  }
  return true;
}

class Listener final : public QueuesListener {
 public:
  void on_event(unsigned queue, std::string_view kind, std::string_view text) override {
    std::fprintf(stderr, "queue %u: %.*s %.*s\n", queue, static_cast<int>(kind.size()), kind.data(),
                 static_cast<int>(text.size()), text.data());
    if (kind == "stopped") ::eventfd_write(stopped_fd, 1);
  }
  int stopped_fd = ::eventfd(0, EFD_CLOEXEC);
};

std::vector<std::unique_ptr<Adapter>> make_adapters(const Options& options) {
  std::vector<std::unique_ptr<Adapter>> adapters;
  std::shared_ptr<MemoryRegion> region;
  auto backend = std::make_shared<FileBackend>();
  if (options.kind == "memory") {
    if (int result = MemoryRegion::create(options.size_bytes, &region); result != 0)
      die("memory", result);
  } else if (options.kind == "file") {
    int result = open_file_backend(options.what, options.read_only, options.direct, backend.get());
    if (result != 0) die("file", result);
    std::fprintf(stderr, "direct alignment: %u\n", backend->direct_align_bytes);
  }
  for (unsigned queue = 0; queue < options.queues; ++queue) {
    if (options.kind == "memory")
      adapters.push_back(std::make_unique<MemoryAdapter>(region));
    else if (options.kind == "file")
      adapters.push_back(std::make_unique<FileAdapter>(backend, options.depth));
    else
      adapters.push_back(std::make_unique<NullAdapter>());
  }
  return adapters;
}

int serve(const Options& options, const uapi::CtrlDevInfo& info, int ready_fd) {
  ::prctl(PR_SET_PDEATHSIG, SIGKILL);
  Listener listener;
  QueuesConfig config{.dev_id = static_cast<int>(info.dev_id),
                      .queue_count = info.nr_hw_queues,
                      .depth = info.queue_depth,
                      .max_io_bytes = info.max_io_buf_bytes,
                      .size_bytes = options.size_bytes,
                      .read_only = options.read_only || options.refuse_writes,
                      .data_path = options.user_copy ? DataPath::kUserCopy : DataPath::kCopy,
                      .suppress_partition_scan = options.no_scan};
  DeviceQueues queues(config, make_adapters(options), listener);
  std::string text;
  if (int result = queues.start(&text); result != 0) die(text.c_str(), result);
  if (::write(ready_fd, "1", 1) != 1) die("pipe", -errno);

  sigset_t usr1;
  ::sigemptyset(&usr1);
  ::sigaddset(&usr1, SIGUSR1);
  pollfd fds[2] = {{.fd = listener.stopped_fd, .events = POLLIN, .revents = 0},
                   {.fd = ::signalfd(-1, &usr1, SFD_CLOEXEC), .events = POLLIN, .revents = 0}};
  while (::poll(fds, 2, -1) >= 0 && fds[0].revents == 0) {
    signalfd_siginfo ignored;
    if (::read(fds[1].fd, &ignored, sizeof(ignored)) > 0) queues.fail_all();
  }
  QueuesStats stats = queues.stats();
  std::fprintf(stderr,
               "reads %lu (%lu bytes) writes %lu (%lu bytes) flushes %lu discards %lu "
               "write_zeroes %lu errors %lu stale %lu in_flight %lu\n",
               stats.reads, stats.read_bytes, stats.writes, stats.write_bytes, stats.flushes,
               stats.discards, stats.write_zeroes, stats.errors, stats.stale_completions,
               stats.in_flight);
  return 0;
}

uapi::Params make_params(const Options& options) {
  uapi::Params params{};
  params.types = uapi::kParamTypeBasic;
  params.basic.attrs = uapi::kAttrVolatileCache | uapi::kAttrFua;
  params.basic.logical_bs_shift = 9;
  params.basic.physical_bs_shift = 12;
  params.basic.io_min_shift = 9;
  params.basic.io_opt_shift = 12;
  params.basic.max_sectors = options.max_io_bytes >> 9;
  params.basic.dev_sectors = options.size_bytes >> 9;
  if (options.read_only) {
    params.basic.attrs = uapi::kAttrReadOnly;
    return params;
  }
  params.types |= uapi::kParamTypeDiscard;
  params.discard.discard_granularity = 4096;
  params.discard.max_discard_sectors = UINT32_MAX >> 9;
  params.discard.max_write_zeroes_sectors = UINT32_MAX >> 9;
  params.discard.max_discard_segments = 1;
  return params;
}

uint64_t size_of(const Options& options) {
  if (options.kind != "file") return parse_size(options.what);
  FileBackend backend;
  int result = open_file_backend(options.what, true, false, &backend);
  if (result != 0) die("file", result);
  return backend.size_bytes / 512 * 512;
}

int control(Options options) {
  sigset_t mask;
  ::sigemptyset(&mask);
  for (int signal : {SIGTERM, SIGINT, SIGCHLD, SIGUSR1})
    ::sigaddset(&mask, signal);
  ::sigprocmask(SIG_BLOCK, &mask, nullptr);
  options.size_bytes = size_of(options);
  uapi::CtrlDevInfo info{};
  info.dev_id = uapi::kAnyDevId;
  info.nr_hw_queues = static_cast<uint16_t>(options.queues);
  info.queue_depth = static_cast<uint16_t>(options.depth);
  info.max_io_buf_bytes = options.max_io_bytes;
  info.flags = uapi::kFeatureCmdIoctlEncode;
  if (options.user_copy) info.flags |= uapi::kFeatureUserCopy;
  if (options.recovery)
    info.flags |= uapi::kFeatureUserRecovery | uapi::kFeatureUserRecoveryReissue;

  Control driver;
  Control::OpenStep failed;
  if (int result = driver.open(&failed); result != 0) die("control device", result);
  if (int result = driver.add_dev(&info); result != 0) die("ADD_DEV", result);
  uapi::Params params = make_params(options);
  int result = driver.set_params(info.dev_id, &params);
  if (result != 0) std::fprintf(stderr, "SET_PARAMS: %s\n", errno_name(-result));
  options.queues = info.nr_hw_queues;
  options.depth = info.queue_depth;

  int ready[2];
  if (::pipe(ready) != 0) die("pipe", -errno);
  pid_t server = result == 0 ? ::fork() : -1;
  if (server == 0) {
    ::close(ready[0]);
    std::exit(serve(options, info, ready[1]));
  }
  ::close(ready[1]);
  char byte = 0;
  if (server > 0 && ::read(ready[0], &byte, 1) == 1) {
    result = driver.start_dev(info.dev_id, server);
    if (result == 0) {
      std::printf("/dev/ublkb%u\n", info.dev_id);
      std::fflush(stdout);
      int signal = 0;
      ::sigdelset(&mask, SIGUSR1);
      ::sigwait(&mask, &signal);
    } else {
      std::fprintf(stderr, "START_DEV: %s\n", errno_name(-result));
    }
  }
  result = driver.stop_dev(info.dev_id);
  if (result != 0) std::fprintf(stderr, "STOP_DEV: %s\n", errno_name(-result));
  int status = 0;
  if (server > 0) ::waitpid(server, &status, 0);
  std::fprintf(stderr, "server process ended with status %d\n", status);
  result = driver.del_dev(info.dev_id);
  if (result != 0) die("DEL_DEV", result);
  return status == 0 ? 0 : 1;
}

}  // namespace
}  // namespace unbd

int main(int argc, char** argv) {
  unbd::Options options;
  if (!unbd::parse(argc, argv, &options)) {
    std::fprintf(stderr, "usage: ublk_smoke_device null|memory|file SIZE|PATH [key=value]...\n");
    return 2;
  }
  return unbd::control(std::move(options));
}
