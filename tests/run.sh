#!/bin/sh
# Builds everything, plain and under ASan+UBSan, and passes all tests. Installs what it needs; safe to
# run again. `run.sh TEST...` runs only these (paths of .t files or test programs in the build folder).
set -eu
top=$(cd "$(dirname "$0")/.." && pwd)
cd "$top"
sh examples/packages.sh test

jobs=$(nproc)
[ -x configure ] || ./autogen.sh
# build NAME CONFIGURE-OPTION...: configures once, then makes programs and tests.
build() {
	mkdir -p "$1"
	dir=$1
	shift
	[ -e "$dir/Makefile" ] || (cd "$dir" && "$top/configure" -q "$@")
	make -s -C "$dir" -j"$jobs"
	make -s -C "$dir" -j"$jobs" test-programs
}
build build
build build-asan --enable-sanitizers

# Guest files are made once, before tests want them at the same time.
examples/guest-files.sh generic >/dev/null
examples/guest-files.sh cloud >/dev/null

export ASAN_OPTIONS="detect_leaks=1:abort_on_error=1:allocator_may_return_null=1"
export UBSAN_OPTIONS="print_stacktrace=1:halt_on_error=1"
if [ $# -gt 0 ]; then
	exec prove -f -e '' "$@"
fi

# tests DIR: the names of all tests of a build, programs with their folder.
tests() {
	make -s -C "$1" print-tests
}
status=0
echo "== tests under ASan and UBSan"
(cd build-asan && DOMUS_BUILD=$top/build-asan top_srcdir=$top prove -f -e '' -j"$jobs" $(tests .)) || status=1
echo "== tests"
(cd build && DOMUS_BUILD=$top/build top_srcdir=$top prove -f -e '' -j"$jobs" $(tests .)) || status=1
echo "== what a user does, with the real programs"
DOMUS_BUILD=$top/build prove -f -e '' -j"$jobs" tests/*.t || status=1
exit $status
