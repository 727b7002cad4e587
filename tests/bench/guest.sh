#!/bin/sh
# Makes the files of the benchmark guest, in the cache of examples/guest-files.sh, and prints their folder:
#   vmlinux      the ELF kernel inside Debian's bzImage, which both our engines and QEMU's PVH entry take
#   initrd.cpio  the example guest's ramdisk with guestbench in it, not compressed
#   guestbench, gbtrue, busybox   the same programs for the host
set -eu
here=$(cd "$(dirname "$0")" && pwd)
base=$("$here/../../examples/guest-files.sh" generic)
stamp=$(cd "$here" && cat guest.sh guest-init extract-vmlinux.py ./*.[ch] "$base/release" | cksum | tr " " -)
out=$(dirname "$base")/bench-$stamp
if [ -e "$out/done" ]; then
	echo "$out"
	exit 0
fi
work=$(mktemp -d "$out.XXXXXX")
trap 'rm -rf "$work"' EXIT

# The same bytes each time, so that figures of different days compare.
flags="-O2 -fno-math-errno -Wall -Wextra -static -frandom-seed=guestbench -Wl,--build-id=none"
# shellcheck disable=SC2086
(cd "$here" && gcc $flags -pthread -o "$work/guestbench" guestbench.c work-*.c &&
	gcc $flags -o "$work/gbtrue" gbtrue.c)
cp /bin/busybox "$work/busybox"
python3 "$here/extract-vmlinux.py" "$base/vmlinuz" "$work/vmlinux"

mkdir -p "$work/root/bin"
cp "$work/guestbench" "$work/gbtrue" "$work/root/bin/"
cp "$here/guest-init" "$work/root/gbinit"
chmod 755 "$work/root/gbinit"
{
	gunzip -c "$base/initrd.gz"
	(cd "$work/root" && find . | LC_ALL=C sort | cpio -o -H newc --quiet -R 0:0)
} >"$work/initrd.cpio"
rm -rf "$work/root"
: >"$work/done"
chmod 755 "$work"
mv "$work" "$out"
trap - EXIT
echo "$out"
