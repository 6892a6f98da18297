# shellcheck shell=bash
# Owns the private apt state: package lists and downloads that live in the project's cache folder,
# so that kernels and servers can be fetched, from other suites too, without touching the
# machine's apt sources, lists or preferences. Sourced by scripts/setup and test/vm/kernel; needs
# no root. It must not install anything: whoever sources it unpacks what was downloaded into the
# cache.

# Where everything that is downloaded or made lives; removing it costs one more download.
unbd_cache=${UBLK_NBD_CACHE:-${XDG_CACHE_HOME:-${HOME:-/root}/.cache}/ublk-nbd}

fail() {
  echo "${0##*/}: $*" >&2
  exit 1
}

# The Debian name of this processor; the only two that are supported.
debian_architecture() {
  case $(uname -m) in
    x86_64) echo amd64 ;;
    aarch64) echo arm64 ;;
    *) fail "processor $(uname -m) is not supported: ublk-nbd runs on x86_64 and aarch64" ;;
  esac
}

# The mirror that this machine itself uses for Debian's main archive. apt reads its own
# configuration (one-line and deb822 sources alike); the main archive is the entry whose suite is
# the release's codename, which tells it from security, updates, backports and other vendors'
# archives. Elsewhere than on Debian, UBLK_NBD_DEBIAN_MIRROR names one.
machine_mirror() {
  local codename mirror
  if [ -n "${UBLK_NBD_DEBIAN_MIRROR:-}" ]; then
    echo "$UBLK_NBD_DEBIAN_MIRROR"
    return
  fi
  codename=$(. /etc/os-release && echo "${VERSION_CODENAME:-}")
  grep -qx 'ID=debian' /etc/os-release ||
    fail "not Debian: set UBLK_NBD_DEBIAN_MIRROR to a Debian mirror, for the test kernels"
  mirror=$(apt-get indextargets --no-release-info \
    --format "\$(RELEASE) \$(COMPONENT) \$(REPO_URI)" "Created-By: Packages" 2>/dev/null |
    awk -v suite="$codename" '($1 == suite || $1 == "stable") && $2 == "main" { print $3; exit }')
  [ -n "$mirror" ] || fail "apt here has no source for Debian ${codename:-(unknown)} main"
  echo "$mirror"
}

# private_apt PROFILE TOOL ARG...: runs apt-get or apt-cache on a private state.
#   suites   the suites that kernels come from; knows of no installed package
#   machine  this machine's own sources and its installed packages (read only)
private_apt() {
  local profile=$1 tool=$2 state options
  shift 2
  state=$unbd_cache/apt/$profile
  mkdir -p "$state/lists/partial" "$state/cache/archives/partial"
  options=(-o Dir::State="$state" -o Dir::State::lists="$state/lists" -o Dir::Cache="$state/cache"
    -o Acquire::Languages=none -o APT::Sandbox::User="$(id -un)" -o Acquire::Retries=3
    -o Debug::NoLocking=1)
  if [ "$profile" = suites ]; then
    options+=(-o Dir::Etc::SourceList="$state/sources.list" -o Dir::Etc::SourceParts=/dev/null
      -o Dir::Etc::Preferences=/dev/null -o Dir::Etc::PreferencesParts=/dev/null
      -o Dir::State::status=/dev/null)
  else
    options+=(-o Dir::State::status=/var/lib/dpkg/status)
  fi
  DEBIAN_FRONTEND=noninteractive "$tool" "${options[@]}" "$@"
}

# private_update PROFILE [SUITE...]: fetches the package lists of the profile.
private_update() {
  local profile=$1 keyring='' candidate suite mirror
  shift
  if [ "$profile" = suites ]; then
    for candidate in /usr/share/keyrings/debian-archive-keyring.{gpg,pgp}; do
      [ -r "$candidate" ] && keyring=$candidate
    done
    [ -n "$keyring" ] || fail "the package debian-archive-keyring is missing; install it"
    mirror=$(machine_mirror) || exit 1
    mkdir -p "$unbd_cache/apt/suites"
    for suite in "$@"; do
      echo "deb [signed-by=$keyring] $mirror $suite main"
    done > "$unbd_cache/apt/suites/sources.list"
  fi
  private_apt "$profile" apt-get -qq update >&2 || fail "apt could not fetch the package lists"
}

# private_download PROFILE FOLDER NAME=VERSION...: the packages' files, into FOLDER.
private_download() {
  local profile=$1 folder=$2
  shift 2
  mkdir -p "$folder"
  (cd "$folder" && private_apt "$profile" apt-get -qq download "$@" >&2) ||
    fail "apt could not download $*"
}

# with_lock NAME COMMAND...: one process at a time fills a part of the cache.
with_lock() {
  local name=$1 lock
  shift
  mkdir -p "$unbd_cache"
  exec {lock}> "$unbd_cache/.lock-$name"
  flock "$lock"
  "$@"
  exec {lock}>&-
}
