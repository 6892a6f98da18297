// Owns: CacheFile, one entry of the cache on disk: the chunks of one version of one object that are
// kept there (`data`, sparse), and which of their units are whole (`map`, with a checksum of each).
// Runs on: open() and verify() on a thread that may wait for the disk; the rest on the queue's
// thread, once it has a store.
// Must not: believe what stands in the files: a map that is none is emptied, and a unit is its
// sum's or nobody's.
//
// map: a header of 4096 bytes, then a Record of 512 bytes (a sector, which a disk writes whole or
// not at all) for each chunk. data: the object's bytes where they are in the object; the last unit
// is filled up with zeroes. All numbers are little-endian.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "base/arena.h"
#include "base/fd.h"
#include "store/config.h"

namespace unbd::store {

struct CacheFileSpec {
  std::string directory;     // of the entry; exists
  uint64_t size_bytes = 0;   // of the object
  uint32_t chunk_bytes = 0;  // as in StoreConfig
  std::string key;           // which object, as 64 hexadecimal digits

  bool is_valid() const;
};

class CacheFile {
 public:
  static constexpr size_t kHeaderBytes = 4096;
  static constexpr unsigned kUnitsPerChunk = 64;

  struct Record {
    uint64_t present;  // one bit a unit: durable in the data file
    uint32_t check;    // of the record itself
    uint32_t unused;
    uint32_t sums[kUnitsPerChunk];  // CRC-32C of each unit
    uint8_t reserved[240];
  };
  static_assert(sizeof(Record) == 512);

  // Makes what is not there. Returns 0 or -errno: -EAGAIN when another process has the entry
  // (flock(2)). What is there of another object, geometry or version is dropped.
  static int open(const CacheFileSpec& spec, std::shared_ptr<CacheFile>* file);
  CacheFile(const CacheFile&) = delete;
  CacheFile& operator=(const CacheFile&) = delete;

  int data_fd() const { return data_.get(); }
  int map_fd() const { return map_.get(); }
  uint64_t size_bytes() const { return size_bytes_; }
  uint32_t chunk_bytes() const { return chunk_bytes_; }
  uint32_t unit_bytes() const { return unit_bytes_; }
  uint32_t chunks() const { return chunks_; }
  static uint64_t record_offset(uint32_t chunk) {
    return kHeaderBytes + uint64_t{chunk} * sizeof(Record);
  }

  // Written to the map by whoever changes it.
  const Record& record(uint32_t chunk) const { return records_[chunk]; }
  void set_sum(uint32_t chunk, unsigned unit, const std::byte* bytes);
  bool is_sum_right(uint32_t chunk, unsigned unit, const std::byte* bytes) const;
  void keep(uint32_t chunk, uint64_t units);
  void drop(uint32_t chunk, uint64_t units);

  // Of the object, without what fills up its last unit.
  uint64_t bytes_of(uint32_t chunk, uint64_t units) const;
  // What the map holds.
  uint64_t cached_bytes() const { return cached_bytes_; }
  // Of which something was present when the file was opened, in ascending order.
  const std::vector<uint32_t>& chunks_found() const { return chunks_found_; }

  // Writes all of a chunk that is not there as a whole; its last bytes may be missing where the
  // object ends. In the map, and durable, after commit(). Both return 0 or -errno; not while a
  // store has the file.
  int save(uint32_t chunk, const std::byte* bytes, size_t length_bytes);
  int commit();
  uint64_t length_of(uint32_t chunk) const {
    const uint64_t start = uint64_t{chunk} * chunk_bytes_;
    return size_bytes_ - start < chunk_bytes_ ? size_bytes_ - start : chunk_bytes_;
  }

  // Reads what is present of a chunk and drops, also in the map, what does not have its sum.
  // Returns 0 or -errno; not while a store has the file.
  int verify(uint32_t chunk, uint64_t* checked_bytes, uint64_t* dropped_bytes);

 private:
  explicit CacheFile(const CacheFileSpec& spec);

  int open_files(const std::string& directory);
  int read_map(const std::string& key);
  bool has_own_header(const std::string& key) const;
  int make_anew(const std::string& key);
  int load_records();
  void find(uint32_t chunk);
  int free_unknown();
  int free_absent(uint64_t from_bytes, uint64_t to_bytes);
  bool is_whole(uint32_t chunk) const;
  uint64_t units_of(uint32_t chunk) const;
  uint32_t check_of(uint32_t chunk) const;
  uint64_t map_bytes() const { return record_offset(chunks_); }
  uint64_t data_bytes() const { return uint64_t{chunks_} * chunk_bytes_; }

  const uint64_t size_bytes_;
  const uint32_t chunk_bytes_;
  const uint32_t unit_bytes_;
  const uint32_t chunks_;
  Fd map_;
  Fd data_;
  std::shared_ptr<Arena> memory_;  // of the records: only those of cached chunks take any
  Record* records_ = nullptr;
  uint64_t cached_bytes_ = 0;
  std::vector<uint32_t> chunks_found_;
  std::vector<uint32_t> saved_;  // since the last commit()
};

}  // namespace unbd::store
