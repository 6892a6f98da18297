// Owns: the implementation of CacheFile (see cache_file.h).
// Runs on: as said there.
// Must not: leave a map that promises what the data file has lost: the map is emptied first.
#include "store/cache_file.h"

#include <fcntl.h>
#include <linux/falloc.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <bit>
#include <cerrno>
#include <cstdlib>
#include <cstring>

#include "base/assert.h"
#include "base/crc32c.h"

namespace unbd::store {
namespace {

static_assert(std::endian::native == std::endian::little);

constexpr char kMagic[8] = {'U', 'N', 'B', 'D', 'M', 'A', 'P', '\n'};
constexpr uint32_t kVersion = 1;
constexpr size_t kKeyBytes = 64;
constexpr size_t kAlignment = 4096;  // of memory and ranges, for O_DIRECT on any disk

struct Header {
  char magic[8];
  uint32_t version;
  uint32_t chunk_bytes;
  uint64_t size_bytes;
  char key[kKeyBytes];
  uint32_t check;  // of all that stands before it
};

uint32_t check_of_header(const Header& header) {
  return crc32c(&header, offsetof(Header, check));
}

int open_in(int folder, const char* name, int flags) {
  const int fd = ::openat(folder, name, flags | O_RDWR | O_CREAT | O_NOFOLLOW | O_CLOEXEC, 0600);
  return fd >= 0 ? fd : -errno;
}

// All of it, or an error.
int read_at(int fd, void* into, size_t length, uint64_t offset) {
  for (size_t done = 0; done < length;) {
    const ssize_t got = ::pread(fd, static_cast<char*>(into) + done, length - done,
                                static_cast<off_t>(offset + done));
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) return -errno;
    if (got == 0) return -ENODATA;
    done += static_cast<size_t>(got);
  }
  return 0;
}

int write_at(int fd, const void* from, size_t length, uint64_t offset) {
  for (size_t done = 0; done < length;) {
    const ssize_t put = ::pwrite(fd, static_cast<const char*>(from) + done, length - done,
                                 static_cast<off_t>(offset + done));
    if (put < 0 && errno == EINTR) continue;
    if (put < 0) return -errno;
    done += static_cast<size_t>(put);
  }
  return 0;
}

uint64_t size_of(int fd) {
  struct stat status{};
  return ::fstat(fd, &status) == 0 ? static_cast<uint64_t>(status.st_size) : 0;
}

}  // namespace

bool CacheFileSpec::is_valid() const {
  const StoreConfig config{.size_bytes = size_bytes,
                           .memory_bytes = StoreConfig::kMinimumSlots * uint64_t{chunk_bytes},
                           .chunk_bytes = chunk_bytes};
  return chunk_bytes > 0 && config.is_valid() && size_bytes / chunk_bytes < UINT32_MAX - 1 &&
         key.size() == kKeyBytes;
}

CacheFile::CacheFile(const CacheFileSpec& spec)
    : size_bytes_(spec.size_bytes),
      chunk_bytes_(spec.chunk_bytes),
      unit_bytes_(StoreConfig{.chunk_bytes = spec.chunk_bytes}.unit_bytes()),
      chunks_(static_cast<uint32_t>((spec.size_bytes + spec.chunk_bytes - 1) / spec.chunk_bytes)) {}

int CacheFile::open(const CacheFileSpec& spec, std::shared_ptr<CacheFile>* file) {
  UN_ASSERT(spec.is_valid());
  std::shared_ptr<CacheFile> opened(new CacheFile(spec));
  int result = Arena::create(uint64_t{opened->chunks_} * sizeof(Record), &opened->memory_);
  if (result < 0) return result;
  opened->records_ = reinterpret_cast<Record*>(opened->memory_->data());
  result = opened->open_files(spec.directory);
  if (result == 0) result = opened->read_map(spec.key);
  if (result == 0) *file = std::move(opened);
  return result;
}

int CacheFile::open_files(const std::string& directory) {
  const Fd folder(::open(directory.c_str(), O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC));
  if (!folder.valid()) return -errno;
  const int map = open_in(folder.get(), "map", 0);
  if (map < 0) return map;
  map_ = Fd(map);
  if (::flock(map_.get(), LOCK_EX | LOCK_NB) != 0) return -errno;
  // What is cached is read into memory of our own: the page cache would keep it twice.
  int data = open_in(folder.get(), "data", O_DIRECT);
  if (data == -EINVAL) data = open_in(folder.get(), "data", 0);
  if (data < 0) return data;
  data_ = Fd(data);
  return 0;
}

int CacheFile::read_map(const std::string& key) {
  if (size_of(map_.get()) == map_bytes() && size_of(data_.get()) == data_bytes() &&
      has_own_header(key)) {
    const int result = load_records();
    return result == 0 ? free_unknown() : result;
  }
  return make_anew(key);
}

bool CacheFile::has_own_header(const std::string& key) const {
  Header header{};
  return read_at(map_.get(), &header, sizeof(header), 0) == 0 &&
         header.check == check_of_header(header) &&
         std::memcmp(header.magic, kMagic, sizeof(kMagic)) == 0 && header.version == kVersion &&
         header.chunk_bytes == chunk_bytes_ && header.size_bytes == size_bytes_ &&
         std::memcmp(header.key, key.data(), kKeyBytes) == 0;
}

int CacheFile::make_anew(const std::string& key) {
  Header header{.version = kVersion, .chunk_bytes = chunk_bytes_, .size_bytes = size_bytes_};
  std::memcpy(header.magic, kMagic, sizeof(kMagic));
  std::memcpy(header.key, key.data(), kKeyBytes);
  header.check = check_of_header(header);
  for (const auto& [fd, length] : {std::pair{map_.get(), uint64_t{0}},
                                   {data_.get(), uint64_t{0}},
                                   {data_.get(), data_bytes()},
                                   {map_.get(), map_bytes()}})
    if (::ftruncate(fd, static_cast<off_t>(length)) != 0) return -errno;
  return write_at(map_.get(), &header, sizeof(header), 0);
}

// A map has holes where nothing is cached, and they are not read.
int CacheFile::load_records() {
  const off_t end = static_cast<off_t>(map_bytes());
  for (off_t from = kHeaderBytes; from < end;) {
    const off_t start = ::lseek(map_.get(), from, SEEK_DATA);
    if (start < 0) return errno == ENXIO ? 0 : -errno;
    const off_t hole = ::lseek(map_.get(), start, SEEK_HOLE);
    if (hole < 0) return -errno;
    const auto first = static_cast<uint32_t>((start - off_t{kHeaderBytes}) / sizeof(Record));
    const off_t last = (std::min(hole, end) - off_t{kHeaderBytes} - 1) / sizeof(Record);
    const auto after = static_cast<uint32_t>(last) + 1;
    const int result = read_at(map_.get(), &records_[first], (after - first) * sizeof(Record),
                               record_offset(first));
    if (result < 0) return result;
    for (uint32_t chunk = first; chunk < after; ++chunk)
      find(chunk);
    from = std::max(hole, static_cast<off_t>(record_offset(after)));
  }
  return 0;
}

// What was written and not yet in the map when its process was killed, or that the map has dropped,
// would take room that nobody counts.
int CacheFile::free_unknown() {
  const off_t end = static_cast<off_t>(data_bytes());
  for (off_t from = 0; from < end;) {
    const off_t start = ::lseek(data_.get(), from, SEEK_DATA);
    if (start < 0) return errno == ENXIO ? 0 : -errno;
    const off_t hole = ::lseek(data_.get(), start, SEEK_HOLE);
    if (hole < 0) return -errno;
    from = std::min(hole, end);
    const int result = free_absent(static_cast<uint64_t>(start), static_cast<uint64_t>(from));
    if (result < 0) return result;
  }
  return 0;
}

// In runs: each costs a system call.
int CacheFile::free_absent(uint64_t from_bytes, uint64_t to_bytes) {
  const auto is_present = [&](uint64_t unit) {
    const uint64_t per_chunk = chunk_bytes_ / unit_bytes_;
    return (records_[unit / per_chunk].present >> unit % per_chunk & 1) != 0;
  };
  const uint64_t after = (to_bytes + unit_bytes_ - 1) / unit_bytes_;
  for (uint64_t unit = from_bytes / unit_bytes_; unit < after; ++unit) {
    if (is_present(unit)) continue;
    const uint64_t first = unit;
    while (unit < after && !is_present(unit))
      ++unit;
    if (::fallocate(data_.get(), FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
                    static_cast<off_t>(first * unit_bytes_),
                    static_cast<off_t>((unit - first) * unit_bytes_)) != 0)
      // A file system that cannot do that takes no more room for it than it did.
      return errno == EOPNOTSUPP ? 0 : -errno;
  }
  return 0;
}

void CacheFile::find(uint32_t chunk) {
  if (!is_whole(chunk)) records_[chunk].present = 0;
  if (records_[chunk].present == 0) return;
  cached_bytes_ += bytes_of(chunk, records_[chunk].present);
  chunks_found_.push_back(chunk);
}

uint64_t CacheFile::units_of(uint32_t chunk) const {
  return ~uint64_t{0} >> (kUnitsPerChunk - (length_of(chunk) + unit_bytes_ - 1) / unit_bytes_);
}

bool CacheFile::is_whole(uint32_t chunk) const {
  const Record& read = records_[chunk];
  return read.present == 0 ||
         ((read.present & ~units_of(chunk)) == 0 && read.check == check_of(chunk));
}

// The sums of absent units may be written while a record is on its way to the disk.
uint32_t CacheFile::check_of(uint32_t chunk) const {
  const Record& record = records_[chunk];
  uint32_t check = crc32c(&chunk, sizeof(chunk));
  check = crc32c(&record.present, sizeof(record.present), check);
  for (uint64_t rest = record.present; rest != 0; rest &= rest - 1)
    check = crc32c(&record.sums[std::countr_zero(rest)], sizeof(uint32_t), check);
  return check;
}

void CacheFile::set_sum(uint32_t chunk, unsigned unit, const std::byte* bytes) {
  UN_ASSERT((records_[chunk].present >> unit & 1) == 0);
  records_[chunk].sums[unit] = crc32c(bytes, unit_bytes_);
}

bool CacheFile::is_sum_right(uint32_t chunk, unsigned unit, const std::byte* bytes) const {
  return records_[chunk].sums[unit] == crc32c(bytes, unit_bytes_);
}

void CacheFile::keep(uint32_t chunk, uint64_t units) {
  cached_bytes_ += bytes_of(chunk, units & ~records_[chunk].present);
  records_[chunk].present |= units;
  records_[chunk].check = check_of(chunk);
}

void CacheFile::drop(uint32_t chunk, uint64_t units) {
  cached_bytes_ -= bytes_of(chunk, units & records_[chunk].present);
  records_[chunk].present &= ~units;
  records_[chunk].check = check_of(chunk);
}

uint64_t CacheFile::bytes_of(uint32_t chunk, uint64_t units) const {
  const uint64_t bytes = static_cast<uint64_t>(std::popcount(units)) * unit_bytes_;
  const bool has_last = chunk == chunks_ - 1 && (units & ~(units_of(chunk) >> 1)) != 0;
  return has_last ? bytes - (unit_bytes_ - 1 - (size_bytes_ - 1) % unit_bytes_) : bytes;
}

int CacheFile::save(uint32_t chunk, const std::byte* bytes, size_t length_bytes) {
  UN_ASSERT(chunk < chunks_ && length_bytes == length_of(chunk));
  const uint64_t units = units_of(chunk);
  if (records_[chunk].present == units) return 0;
  // In memory alone: what the map promises is what is written.
  drop(chunk, units);
  const auto count = static_cast<unsigned>(std::popcount(units));
  const std::unique_ptr<void, decltype(&std::free)> memory(
      std::aligned_alloc(kAlignment, chunk_bytes_), &std::free);
  auto* const whole = static_cast<std::byte*>(memory.get());
  if (whole == nullptr) return -ENOMEM;
  std::memcpy(whole, bytes, length_bytes);
  const size_t padded = size_t{count} * unit_bytes_;
  std::memset(whole + length_bytes, 0, padded - length_bytes);
  const int result = write_at(data_.get(), whole, padded, uint64_t{chunk} * chunk_bytes_);
  if (result < 0) return result;
  for (unsigned unit = 0; unit < count; ++unit)
    set_sum(chunk, unit, whole + size_t{unit} * unit_bytes_);
  saved_.push_back(chunk);
  return 0;
}

// As a store does it: the data first.
int CacheFile::commit() {
  if (::fdatasync(data_.get()) != 0) return -errno;
  for (const uint32_t chunk : saved_) {
    keep(chunk, units_of(chunk));
    const int result = write_at(map_.get(), &records_[chunk], sizeof(Record), record_offset(chunk));
    if (result < 0) return result;
  }
  saved_.clear();
  return ::fdatasync(map_.get()) == 0 ? 0 : -errno;
}

int CacheFile::verify(uint32_t chunk, uint64_t* checked_bytes, uint64_t* dropped_bytes) {
  const uint64_t present = records_[chunk].present;
  if (present == 0) return 0;
  const std::unique_ptr<void, decltype(&std::free)> unit_memory(
      std::aligned_alloc(kAlignment, unit_bytes_), &std::free);
  auto* const bytes = static_cast<std::byte*>(unit_memory.get());
  if (bytes == nullptr) return -ENOMEM;
  uint64_t bad = 0;
  for (uint64_t rest = present; rest != 0; rest &= rest - 1) {
    const auto unit = static_cast<unsigned>(std::countr_zero(rest));
    const uint64_t offset = uint64_t{chunk} * chunk_bytes_ + uint64_t{unit} * unit_bytes_;
    // What the disk does not give any more is as lost as what it gives wrong.
    const bool is_read = read_at(data_.get(), bytes, unit_bytes_, offset) == 0;
    if (!is_read || !is_sum_right(chunk, unit, bytes)) bad |= uint64_t{1} << unit;
  }
  *checked_bytes += bytes_of(chunk, present);
  if (bad == 0) return 0;
  *dropped_bytes += bytes_of(chunk, bad);
  drop(chunk, bad);
  const int result = write_at(map_.get(), &records_[chunk], sizeof(Record), record_offset(chunk));
  if (result < 0) return result;
  const uint64_t start = uint64_t{chunk} * chunk_bytes_;
  return free_absent(start, start + chunk_bytes_);
}

}  // namespace unbd::store
