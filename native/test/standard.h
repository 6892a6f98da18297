// Owns: what tests include of the standard library and of liburing: precompiled once for all of
// them (see Makefile), it is most of what a compiler would read for each.
// Must not: be included by name; a test includes what it uses.
#include <liburing.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <chrono>
#include <cstdio>
#include <cstring>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <random>
#include <set>
#include <string>
#include <string_view>
#include <thread>
#include <vector>
