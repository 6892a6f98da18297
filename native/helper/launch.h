// Owns: what a server process needs before its program starts, since it must hold for every thread:
// a mount namespace of its own without anything that depends on a ublk disk, allocations that never
// wait for block I/O, no OOM killing, no core dump (its memory is other people's data). Runs in:
// the process that becomes the server process; one thread.
// Must not: start a server process that could hang for ever: one that is the last user of a file
// system on its own disk unmounts it as it ends, and waits for itself.
#pragma once

namespace unbd {

// Prepares, then executes argv (argv[0] by PATH). Returns only where it cannot: the exit status,
// with one line on stderr.
int launch(char** argv);

// For what a server process starts: undoes the launch, back to the mounts and the root of the one
// who launched it, and executes argv. Returns as above; also where no process is left there.
int leave(char** argv);

}  // namespace unbd
