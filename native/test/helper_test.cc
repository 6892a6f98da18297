// Owns: the checks of the helper's pure parts: its arguments, its JSON, and which mounts depend on
// a ublk disk. One thread. Must not: need a driver, a mount or a privilege.
#include <sys/sysmacros.h>

#include <algorithm>
#include <string>
#include <vector>

#include "helper/arguments.h"
#include "helper/json.h"
#include "helper/mounts.h"
#include "test/check.h"

using namespace unbd;

namespace {

Arguments make(std::vector<std::string> words) {
  std::vector<char*> pointers;
  for (std::string& word : words)
    pointers.push_back(word.data());
  return Arguments(static_cast<int>(pointers.size()), pointers.data());
}

const std::vector<BlockDevice> kDevices = {
    {.name = "sda", .device = ::makedev(8, 0)},
    {.name = "ublkb0", .device = ::makedev(259, 1)},
    {.name = "ublkb0p1", .device = ::makedev(259, 2), .parents = {"ublkb0"}},
    {.name = "dm-1", .device = ::makedev(253, 1), .parents = {"dm-0"}},
    {.name = "dm-0", .device = ::makedev(253, 0), .parents = {"ublkb0p1"}},
    {.name = "loop0", .device = ::makedev(7, 0), .backing_file = "/mnt/a/image"},
    {.name = "loop1", .device = ::makedev(7, 1), .backing_file = "/mnt/ab/image"},
};

std::vector<std::string> dependent_mount_points(const std::string& mountinfo) {
  std::vector<std::string> points;
  for (const Mount& mount : mounts_on_ublk(parse_mountinfo(mountinfo), kDevices))
    points.push_back(mount.mount_point);
  return points;
}

}  // namespace

TEST("numbers are read in both notations and bounded") {
  Arguments arguments = make({"a=12", "b=0x1F", "c=99"});
  CHECK(arguments.number("a", 100, 0) == 12);
  CHECK(arguments.number("b", 100, 0) == 31);
  CHECK(arguments.number("absent", 100, 7) == 7);
  CHECK(arguments.error() == "c is not an argument of this command");
  CHECK(arguments.number("c", 98, 0) == 0);
  CHECK(arguments.error() == "c is too large");
}

TEST("what is no number, missing, doubled or without a key is an error that names the word") {
  for (std::string word : {"a=", "a=12x", "a=-1", "a= 1", "a=0x", "a=99999999999999999999"}) {
    Arguments arguments = make({word});
    arguments.number("a", UINT64_MAX, 0);
    CHECK(arguments.error() == "a is not a number");
  }
  Arguments missing = make({});
  missing.required_number("id", 10);
  CHECK(missing.error() == "id is missing");
  CHECK(make({"a=1", "a=2"}).error() == "a is given twice");
  CHECK(make({"alone"}).error() == "alone is not key=value");
  CHECK(make({"=1"}).error() == "=1 is not key=value");
}

TEST("feature flags are taken as a number or by names") {
  CHECK(make({"flags=0x18"}).features("flags") == 0x18);
  CHECK(make({"flags=USER_RECOVERY,UBLK_F_USER_COPY"}).features("flags") == 0x88);
  Arguments unknown = make({"flags=USER_COPY,NONSENSE"});
  unknown.features("flags");
  CHECK(unknown.error() == "flags has a name that is no feature flag");
}

TEST("JSON is one line of ASCII whatever the text") {
  JsonObject object;
  std::vector<std::string_view> names = {"A", "B"};
  std::vector<unsigned> cpus = {0, 3};
  object.add("text", "a\"b\\c\n\xc3\xa9").add("number", uint64_t{18446744073709551615U});
  object.add_signed("pid", -1).add_flag("ok", true).add_list("names", names).add_list("cpus", cpus);
  CHECK(object.text() ==
        "{\"text\":\"a\\\"b\\\\c???\",\"number\":18446744073709551615,\"pid\":-1,\"ok\":true,"
        "\"names\":[\"A\",\"B\"],\"cpus\":[0,3]}");
  CHECK(JsonObject().text() == "{}");
}

TEST("mountinfo is read with its escapes and optional fields") {
  std::vector<Mount> mounts = parse_mountinfo(
      "36 35 259:2 /sub /mnt/a\\040b rw,noatime shared:1 master:2 - ext4 /dev/ublkb0p1 "
      "rw,errors=x\n"
      "37 35 0:5 / /proc rw - proc none rw\n"
      "a broken line\n\n38 35 0:6 / /sys rw -\n");
  CHECK(mounts.size() == 2);
  CHECK(mounts[0].device == ::makedev(259, 2));
  CHECK(mounts[0].mount_point == "/mnt/a b");
  CHECK(mounts[0].type == "ext4" && mounts[0].source == "/dev/ublkb0p1");
  CHECK(mounts[1].super_options == "rw");
}

TEST("a mount of a ublk disk, of its partition, or stacked on it by dm depends on it") {
  CHECK(dependent_mount_points("1 0 8:0 / / rw - ext4 /dev/sda rw\n"
                               "2 1 259:1 / /disk rw - ext4 /dev/ublkb0 rw\n"
                               "3 1 259:2 / /part rw - ext4 /dev/ublkb0p1 rw\n"
                               "4 1 253:1 /x /lv rw - xfs /dev/mapper/v rw\n"
                               "5 1 0:30 / /tmp rw - tmpfs tmpfs rw\n") ==
        (std::vector<std::string>{"/disk", "/part", "/lv"}));
}

TEST("a loop device whose file lies on a ublk disk depends on it, one in a like-named folder not") {
  CHECK(dependent_mount_points("2 1 259:1 / /mnt/a rw - ext4 /dev/ublkb0 rw\n"
                               "3 1 7:0 / /loop rw - ext4 /dev/loop0 rw\n"
                               "4 1 7:1 / /other rw - ext4 /dev/loop1 rw\n") ==
        (std::vector<std::string>{"/mnt/a", "/loop"}));
}

TEST("an overlay of a folder on a ublk disk depends on it") {
  CHECK(dependent_mount_points(
            "1 0 0:40 / /merged rw - overlay o rw,lowerdir=/usr:/mnt/a/low,upperdir=/up\n"
            "2 1 259:1 / /mnt/a rw - ext4 /dev/ublkb0 rw\n"
            "3 1 0:41 / /other rw - overlay o rw,lowerdir=/mnt/ab:/usr,upperdir=/up\n") ==
        (std::vector<std::string>{"/merged", "/mnt/a"}));
}

TEST("a file system with a device number of its own is known by its source") {
  std::vector<Mount> mounts = parse_mountinfo("2 1 0:50 / /b rw - btrfs /dev/ublkb0 rw\n");
  CHECK(mounts_on_ublk(mounts, kDevices).empty());
  mounts[0].source_device = ::makedev(259, 1);
  CHECK(mounts_on_ublk(mounts, kDevices).size() == 1);
}

TEST("this machine's own mounts and block devices can be read") {
  std::vector<Mount> mounts;
  std::vector<BlockDevice> devices;
  CHECK(read_mounts(&mounts) == 0);
  // Not "/": to a process in a chroot that is no mount point.
  CHECK(std::any_of(mounts.begin(), mounts.end(),
                    [](const Mount& mount) { return mount.mount_point == "/proc"; }));
  CHECK(read_block_devices(&devices) == 0);
}

TEST_MAIN()
