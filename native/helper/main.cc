// Owns: the entry of ublk-nbd-helper, the small executable without Node that does what a process
// that owns I/O, or one that must answer quickly, must not do: blocking control commands, and the
// preparation of a server process before its exec.
// Runs as: one short process for each command; one thread.
// Must not: stay; it prints its answer and ends, or becomes the program that it launches.
#include <cstdio>
#include <string_view>

#include "helper/control_commands.h"
#include "helper/launch.h"

int main(int argc, char** argv) {
  std::string_view mode = argc > 1 ? argv[1] : "";
  if (mode == "control" && argc > 2) return unbd::run_control_command(argc - 2, argv + 2);
  bool has_program = argc > 3 && std::string_view(argv[2]) == "--";
  if (mode == "launch" && has_program) return unbd::launch(argv + 3);
  if (mode == "leave" && has_program) return unbd::leave(argv + 3);
  std::fprintf(stderr,
               "usage: ublk-nbd-helper control COMMAND [key=value]...\n"
               "       ublk-nbd-helper launch -- PROGRAM [ARGUMENT]...\n"
               "       ublk-nbd-helper leave -- PROGRAM [ARGUMENT]...\n");
  return 2;
}
