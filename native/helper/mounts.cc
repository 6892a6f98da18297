// Owns: the implementation of mounts.h. Runs in the launcher, on one thread.
// Must not: change anything.
#include "helper/mounts.h"

#include <dirent.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <climits>
#include <cstdlib>
#include <set>

#include "base/fd.h"

namespace unbd {
namespace {

constexpr std::string_view kUblkDiskPrefix = "ublkb";
constexpr const char* kBlockFolder = "/sys/class/block";

std::vector<std::string_view> split(std::string_view text, char separator) {
  std::vector<std::string_view> parts;
  while (!text.empty()) {
    size_t end = text.find(separator);
    if (end != 0) parts.push_back(text.substr(0, end));
    text.remove_prefix(end == std::string_view::npos ? text.size() : end + 1);
  }
  return parts;
}

// Blanks and backslashes stand as \ooo.
std::string unescape(std::string_view text) {
  std::string result;
  for (size_t i = 0; i < text.size(); ++i) {
    unsigned value = 0;
    const char* digits = text.data() + i + 1;
    if (text[i] == '\\' && i + 3 < text.size() &&
        std::from_chars(digits, digits + 3, value, 8).ptr == digits + 3) {
      result += static_cast<char>(value);
      i += 3;
    } else {
      result += text[i];
    }
  }
  return result;
}

// "259:3"; 0 for anything else.
dev_t parse_device(std::string_view text) {
  unsigned major = 0;
  unsigned minor = 0;
  size_t colon = text.find(':');
  if (colon == std::string_view::npos) return 0;
  std::from_chars(text.data(), text.data() + colon, major);
  std::from_chars(text.data() + colon + 1, text.data() + text.size(), minor);
  return ::makedev(major, minor);
}

bool is_below(std::string_view path, std::string_view folder) {
  return path.starts_with(folder) &&
         (folder == "/" || path.size() == folder.size() || path[folder.size()] == '/');
}

bool lies_in(std::string_view path, const std::vector<Mount>& mounts) {
  return std::any_of(mounts.begin(), mounts.end(),
                     [path](const Mount& mount) { return is_below(path, mount.mount_point); });
}

// Whether one of an overlay's folders lies in one of the mounts.
bool overlays(const Mount& overlay, const std::vector<Mount>& mounts) {
  if (overlay.type != "overlay") return false;
  for (std::string_view option : split(overlay.super_options, ',')) {
    size_t equals = option.find('=');
    if (equals == std::string_view::npos) continue;
    for (std::string_view folder : split(option.substr(equals + 1), ':'))
      if (folder.starts_with('/') && lies_in(folder, mounts)) return true;
  }
  return false;
}

std::set<dev_t> dependent_devices(const std::vector<BlockDevice>& devices,
                                  const std::vector<Mount>& dependent_mounts) {
  std::set<std::string_view> names;
  std::set<dev_t> numbers;
  for (bool grew = true; grew;) {
    grew = false;
    for (const BlockDevice& device : devices) {
      bool depends = device.name.starts_with(kUblkDiskPrefix) ||
                     std::any_of(device.parents.begin(), device.parents.end(),
                                 [&](const std::string& parent) { return names.contains(parent); });
      if (!device.backing_file.empty() && lies_in(device.backing_file, dependent_mounts))
        depends = true;
      if (!depends || !names.insert(device.name).second) continue;
      numbers.insert(device.device);
      grew = true;
    }
  }
  return numbers;
}

int read_file(const std::string& path, std::string* text) {
  Fd fd(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
  if (!fd.valid()) return -errno;
  char buffer[4096];
  for (;;) {
    ssize_t length = ::read(fd.get(), buffer, sizeof(buffer));
    if (length < 0) return -errno;
    if (length == 0) return 0;
    text->append(buffer, static_cast<size_t>(length));
  }
}

std::string read_line(const std::string& path) {
  std::string text;
  if (read_file(path, &text) < 0) return {};
  while (!text.empty() && text.back() == '\n')
    text.pop_back();
  return text;
}

int list_folder(const std::string& path, std::vector<std::string>* names) {
  DIR* folder = ::opendir(path.c_str());
  if (folder == nullptr) return -errno;
  while (const dirent* entry = ::readdir(folder))
    if (entry->d_name[0] != '.') names->push_back(entry->d_name);
  ::closedir(folder);
  return 0;
}

// The disk of a partition: the folder above it.
std::string disk_of_partition(const std::string& folder) {
  char real[PATH_MAX];
  if (::access((folder + "/partition").c_str(), F_OK) != 0) return {};
  if (::realpath(folder.c_str(), real) == nullptr) return {};
  std::vector<std::string_view> parts = split(real, '/');
  return parts.size() < 2 ? std::string{} : std::string(parts[parts.size() - 2]);
}

}  // namespace

std::vector<Mount> parse_mountinfo(std::string_view text) {
  std::vector<Mount> mounts;
  for (std::string_view line : split(text, '\n')) {
    // id parent major:minor root mount-point options optional-field... - type source super-options
    std::vector<std::string_view> fields = split(line, ' ');
    auto dash = std::find(fields.begin(), fields.end(), "-");
    if (fields.size() < 6 || fields.end() - dash < 3) continue;
    Mount mount;
    mount.device = parse_device(fields[2]);
    mount.mount_point = unescape(fields[4]);
    mount.type = dash[1];
    mount.source = unescape(dash[2]);
    if (fields.end() - dash > 3) mount.super_options = unescape(dash[3]);
    mounts.push_back(std::move(mount));
  }
  return mounts;
}

std::vector<Mount> mounts_on_ublk(const std::vector<Mount>& mounts,
                                  const std::vector<BlockDevice>& devices) {
  // A loop device's file or an overlay's folder may lie in a mount found before: until no more are.
  std::vector<Mount> found;
  for (size_t before = 1; before != found.size();) {
    before = found.size();
    std::set<dev_t> numbers = dependent_devices(devices, found);
    std::vector<Mount> next;
    for (const Mount& mount : mounts)
      if (numbers.contains(mount.device) || numbers.contains(mount.source_device) ||
          overlays(mount, found))
        next.push_back(mount);
    found = std::move(next);
    if (found.empty()) break;
  }
  return found;
}

int read_mounts(std::vector<Mount>* mounts) {
  std::string text;
  if (int result = read_file("/proc/self/mountinfo", &text); result < 0) return result;
  *mounts = parse_mountinfo(text);
  for (Mount& mount : *mounts) {
    struct stat status{};
    if (mount.source.starts_with("/dev/") && ::stat(mount.source.c_str(), &status) == 0 &&
        S_ISBLK(status.st_mode))
      mount.source_device = status.st_rdev;
  }
  return 0;
}

int read_block_devices(std::vector<BlockDevice>* devices) {
  std::vector<std::string> names;
  if (int result = list_folder(kBlockFolder, &names); result < 0) return result;
  for (const std::string& name : names) {
    std::string folder = std::string(kBlockFolder) + "/" + name;
    BlockDevice device{.name = name, .device = parse_device(read_line(folder + "/dev"))};
    list_folder(folder + "/slaves", &device.parents);
    if (std::string disk = disk_of_partition(folder); !disk.empty()) device.parents.push_back(disk);
    device.backing_file = read_line(folder + "/loop/backing_file");
    devices->push_back(std::move(device));
  }
  return 0;
}

}  // namespace unbd
