#!/bin/sh
# guest.sh DIR: makes the self-check program and a ramdisk with it in DIR: selfcheck, vmlinuz, initrd.
# The ramdisk is the example guest's with a second archive behind it; the kernel unpacks both.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
out=$1
base=$("$here/../../examples/guest-files.sh" generic)
mkdir -p "$out/root/bin"
gcc -O2 -Wall -Wextra -Werror -Wno-missing-field-initializers -static -pthread -o "$out/selfcheck" "$here"/*.c
cp "$out/selfcheck" "$out/root/bin/"
cp "$here/guest-init" "$out/root/selfcheck-init"
chmod 755 "$out/root/selfcheck-init"
{
	cat "$base/initrd.gz"
	(cd "$out/root" && find . | LC_ALL=C sort | cpio -o -H newc --quiet -R 0:0 | gzip -1n)
} >"$out/initrd"
rm -rf "$out/root"
ln -sf "$base/vmlinuz" "$out/vmlinuz"
