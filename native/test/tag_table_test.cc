// Owns: the check of the tag table's state machine. One thread, and a child process for each broken
// invariant.
// Must not: look into the table.
#include "queue/tag_table.h"

#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include "test/check.h"

using namespace unbd;

namespace {

// Whether doing it aborts.
template <typename Action>
bool aborts(Action action) {
  std::fflush(stdout);
  pid_t child = ::fork();
  if (child == 0) {
    rlimit none{.rlim_cur = 0, .rlim_max = 0};
    ::setrlimit(RLIMIT_CORE, &none);
    ::close(STDERR_FILENO);
    action();
    ::_exit(0);
  }
  int status = 0;
  ::waitpid(child, &status, 0);
  return WIFSIGNALED(status) && WTERMSIG(status) == SIGABRT;
}

}  // namespace

TEST("a tag goes round and its generation counts the rounds") {
  TagTable table(4);
  for (uint16_t round = 1; round <= 3; ++round) {
    table.fetch(2);
    CHECK(table.with_us() == 1);
    uint16_t generation = table.submit(2);
    CHECK(generation == round);
    CHECK(table.complete(2, generation));
    table.commit(2);
    CHECK(table.with_us() == 0);
  }
}

TEST("a completion of an earlier generation changes nothing") {
  TagTable table(1);
  table.fetch(0);
  uint16_t first = table.submit(0);
  CHECK(table.complete(0, first));
  table.commit(0);
  CHECK(!table.complete(0, first));
  table.fetch(0);
  CHECK(!table.complete(0, first));
  uint16_t second = table.submit(0);
  CHECK(!table.complete(0, first));
  CHECK(table.complete(0, second));
}

TEST("a second completion of the same request is stale") {
  TagTable table(1);
  table.fetch(0);
  uint16_t generation = table.submit(0);
  CHECK(table.complete(0, generation));
  CHECK(!table.complete(0, generation));
}

TEST("the generation wraps without ever matching the one before") {
  TagTable table(1);
  uint16_t previous = 0;
  for (int round = 0; round < 70000; ++round) {
    table.fetch(0);
    uint16_t generation = table.submit(0);
    CHECK(round == 0 || !table.complete(0, previous));
    CHECK(table.complete(0, generation));
    table.commit(0);
    previous = generation;
  }
}

TEST("a request that the queue refuses needs no adapter") {
  TagTable table(1);
  table.fetch(0);
  table.refuse(0);
  table.commit(0);
  CHECK(table.with_us() == 0);
}

TEST("a step that does not follow from the state aborts") {
  CHECK(aborts([] { TagTable(1).submit(0); }));
  CHECK(aborts([] { TagTable(1).commit(0); }));
  CHECK(aborts([] { TagTable(1).refuse(0); }));
  CHECK(aborts([] { TagTable(1).fetch(1); }));
  CHECK(aborts([] { TagTable(1).complete(1, 0); }));
  CHECK(aborts([] {
    TagTable table(1);
    table.fetch(0);
    table.fetch(0);
  }));
}

TEST_MAIN()
