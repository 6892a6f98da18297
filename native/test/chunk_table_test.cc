// Owns: the claims about ChunkTable: the index against a std::map, and what may be evicted. One
// thread.
// Must not: know how it finds a chunk.
#include "store/chunk_table.h"

#include <ctime>
#include <list>
#include <map>
#include <random>

#include "test/check.h"

using namespace unbd::store;

TEST("the least recently used slot goes, and none that is pending, held or waited for") {
  ChunkTable table(4);
  TagLinks links(2);
  for (uint64_t chunk = 10; chunk < 14; ++chunk)
    CHECK(table.insert(chunk) == chunk - 10);
  table.touch(0);
  table.ask(1, 1, true);
  table.push_waiting(2, links, 0);
  CHECK(table.pinned() == 2);
  CHECK(table.insert(20) == 3);
  CHECK(table.find(13) == ChunkTable::kNone && table.find(20) == 3);
  CHECK(table.insert(21) == 0);
  table.ask(0, 3, false);
  table.ask(3, 1, true);
  CHECK(table.insert(22) == ChunkTable::kNone && table.pinned() == 4);
  TagList waiting = table.hold(2);
  CHECK(links.pop_front(waiting) == 0 && waiting.is_empty());
  CHECK(table.insert(22) == ChunkTable::kNone);
  table.release(2);
  CHECK(table.insert(22) == 2);
  table.land(1, 1);
  CHECK(table.at(1).present == 1 && table.insert(23) != ChunkTable::kNone);
  table.give_up(0, 1);
  CHECK(table.at(0).pending == 2 && table.at(0).ahead == 2 && table.at(0).present == 0);
}

TEST("what nobody has asked for goes first, until somebody does") {
  ChunkTable table(4);
  for (uint64_t chunk = 10; chunk < 12; ++chunk)
    table.insert(chunk);
  for (uint32_t slot = 2; slot < 4; ++slot) {
    CHECK(table.insert_cold(10 + slot) == slot);
    table.ask(slot, 3, false);
    table.land(slot, 3);
  }
  // The one that was brought last is the first to go.
  CHECK(table.insert_cold(20) == 3);
  table.ask(3, 1, false);
  table.promote(3, 1);
  table.land(3, 1);
  CHECK(table.insert(21) == 2);
  CHECK(table.insert_cold(22) == 0);
  table.ask(0, 1, false);
  table.land(0, 1);
  table.touch(0);
  CHECK(table.insert(23) == 1);
  CHECK(table.insert(24) == 3 && table.insert(25) == 2 && table.insert(26) == 0);
}

TEST("any order of chunks is found as a map finds it, and goes in the order of use") {
  const unsigned seed = static_cast<unsigned>(std::time(nullptr));
  std::printf("# seed %u\n", seed);
  std::mt19937 random(seed);
  for (uint32_t slots : {4U, 5U, 64U}) {
    ChunkTable table(slots);
    std::map<uint64_t, uint32_t> model;
    std::list<uint64_t> order;  // the least recently used first
    for (int step = 0; step < 20000; ++step) {
      const uint64_t chunk = random() % (slots * 3) * (random() % 2 == 0 ? 1 : 0x100000001U);
      const auto known = model.find(chunk);
      CHECK(table.find(chunk) == (known == model.end() ? ChunkTable::kNone : known->second));
      if (known != model.end()) {
        table.touch(known->second);
        order.remove(chunk);
      } else {
        const uint32_t slot = table.insert(chunk);
        CHECK(slot < slots && table.at(slot).present == 0);
        if (model.size() == slots) {
          CHECK(model[order.front()] == slot);
          model.erase(order.front());
          order.pop_front();
        }
        model[chunk] = slot;
        table.ask(slot, 1, true);
        table.land(slot, 1);
      }
      order.push_back(chunk);
    }
  }
}

TEST_MAIN()
