#!/bin/sh
# Makes agent.cpio.gz out of Debian's packages, in the cache of guest-files.sh: QEMU's guest agent and xenstore-read with
# the libraries that they need, to be put behind the initrd.gz of guest-files.sh. Prints its path.
set -eu

here=$(cd "$(dirname "$0")" && pwd)
cache=${DOMUS_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/domus}
out=$cache/agent-$(cat "$0" "$here/xen-guest-agent" | cksum | tr ' ' -)
if [ -e "$out/done" ]; then
	echo "$out/agent.cpio.gz"
	exit 0
fi
mkdir -p "$cache"
work=$(mktemp -d "$cache/tmp.XXXXXX")
trap 'rm -rf "$work"' EXIT

# The programs' packages, and the libraries that they depend on, all the way down.
packages=$(apt-cache depends --recurse --no-recommends --no-suggests --no-conflicts --no-breaks --no-replaces \
	--no-enhances qemu-guest-agent xenstore-utils | grep -E '^(qemu-guest-agent|xenstore-utils|lib[a-z0-9.-]*)$' | sort -u)
[ -n "$packages" ] || { echo "guest-agent-files.sh: apt knows no package qemu-guest-agent: run apt-get update" >&2; exit 1; }
# shellcheck disable=SC2086
(cd "$work" && apt-get download -q $packages >&2)
for package in "$work"/*.deb; do
	dpkg-deb -x "$package" "$work/tree"
done

# Copies a program, and what the dynamic linker would load for it from the same packages.
root=$work/root
libraries=$work/tree/lib/x86_64-linux-gnu:$work/tree/usr/lib/x86_64-linux-gnu
copy() {
	mkdir -p "$root/bin" "$root/lib64" "$root/lib/x86_64-linux-gnu"
	cp "$1" "$root/bin/"
	loader=$(find "$work/tree" -name 'ld-linux-x86-64.so.2' | head -n 1)
	cp -L "$loader" "$root/lib64/"
	"$loader" --library-path "$libraries" --list "$1" | awk '/=>/ { print $3 }' | while read -r library; do
		cp -L "$library" "$root/lib/x86_64-linux-gnu/"
	done
}
copy "$work/tree/usr/sbin/qemu-ga"
copy "$work/tree/usr/bin/xenstore-read"
cp "$here/xen-guest-agent" "$root/bin/"
chmod 755 "$root/bin/xen-guest-agent"
(cd "$root" && find . | LC_ALL=C sort | cpio -o -H newc --quiet -R 0:0 | gzip -9n) >"$work/agent.cpio.gz"
rm -rf "$work/tree" "$root" "$work"/*.deb
: >"$work/done"
chmod 755 "$work"
rm -rf "$out"
mv "$work" "$out"
trap - EXIT
echo "$out/agent.cpio.gz"
