// Owns: the tests' frame: TEST registers one claim, CHECK judges it, run_tests prints TAP. One
// thread.
// Must not: continue a test after a failed CHECK; the next test runs.
#pragma once

#include <cstdio>
#include <cstring>
#include <vector>

namespace unbd::test {

struct Test {
  const char* name;
  void (*run)();
};
inline std::vector<Test>& tests() {
  static std::vector<Test> all;
  return all;
}
inline bool failed = false;

struct Registration {
  Registration(const char* name, void (*run)()) { tests().push_back({name, run}); }
};

// Runs the tests whose name contains the first argument, or all.
inline int run_tests(int argc, char** argv) {
  // An abort must not take along which claims held before it.
  std::setvbuf(stdout, nullptr, _IOLBF, 0);
  int number = 0;
  int failures = 0;
  for (const Test& test : tests()) {
    if (argc > 1 && std::strstr(test.name, argv[1]) == nullptr) continue;
    failed = false;
    test.run();
    std::printf("%s %d - %s\n", failed ? "not ok" : "ok", ++number, test.name);
    failures += failed ? 1 : 0;
  }
  std::printf("1..%d\n", number);
  return failures == 0 && number > 0 ? 0 : 1;
}

}  // namespace unbd::test

#define UNBD_JOIN2(a, b) a##b
#define UNBD_JOIN(a, b) UNBD_JOIN2(a, b)
// TEST("claim") { ... }
#define TEST(name)                                                          \
  static void UNBD_JOIN(test_, __LINE__)();                                 \
  static const unbd::test::Registration UNBD_JOIN(registration_, __LINE__)( \
      name, UNBD_JOIN(test_, __LINE__));                                    \
  static void UNBD_JOIN(test_, __LINE__)()

// In a function that returns void: reports and leaves it.
#define CHECK(condition)                                                   \
  do {                                                                     \
    if (!(condition)) {                                                    \
      std::printf("# %s:%d: CHECK(%s)\n", __FILE__, __LINE__, #condition); \
      unbd::test::failed = true;                                           \
      return;                                                              \
    }                                                                      \
  } while (0)

#define TEST_MAIN()                           \
  int main(int argc, char** argv) {           \
    return unbd::test::run_tests(argc, argv); \
  }
