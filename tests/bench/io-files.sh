#!/bin/sh
# Makes what io.py's guests need besides Debian's kernel, in the cache of examples/guest-files.sh, and prints the folder:
#   initrd.gz    the example guest's ramdisk with the kernel's virtio drivers and a shell on ttyS0, for QEMU
#   tools.img    an ext4 file system with this host's fio, iperf3 and ping and the libraries that they need
set -eu
here=$(cd "$(dirname "$0")" && pwd)
base=$("$here/../../examples/guest-files.sh" generic)
for tool in fio iperf3 ping mke2fs; do
	command -v $tool >/dev/null || { echo "io-files.sh: needs $tool" >&2; exit 1; }
done
stamp=$(cat "$here/io-files.sh" "$base/release" "$(command -v fio)" "$(command -v iperf3)" | cksum | tr " " -)
out=$(dirname "$base")/io-$stamp
if [ -e "$out/done" ]; then
	echo "$out"
	exit 0
fi
work=$(mktemp -d "$out.XXXXXX")
trap 'rm -rf "$work"' EXIT

mkdir -p "$work/root/lib/modules" "$work/tree"
(cd "$work" && apt-get download -q "linux-image-$(cat "$base/release")" >&2)
dpkg-deb --fsys-tarfile "$work"/linux-image-*.deb | tar -x -C "$work/tree" --wildcards '*/virtio*.ko' '*/net_failover.ko' '*/failover.ko'
number=1
for name in virtio_ring virtio virtio_pci_modern_dev virtio_pci_legacy_dev virtio_pci failover net_failover virtio_blk virtio_net; do
	file=$(find "$work/tree" -name "$name.ko")
	[ -z "$file" ] || cp "$file" "$work/root/lib/modules/0$number-$name.ko"
	number=$((number + 1))
done
# The shell is on QEMU's serial port.
mkdir -p "$work/root/etc"
printf '::sysinit:/etc/rc\nttyS0::respawn:-/bin/sh\n' >"$work/root/etc/inittab"
{
	cat "$base/initrd.gz"
	(cd "$work/root" && find . | LC_ALL=C sort | cpio -o -H newc --quiet -R 0:0 | gzip -9n)
} >"$work/initrd.gz"

tools=$work/tools
mkdir -p "$tools/bin" "$tools/proc" "$tools/sys" "$tools/dev" "$tools/tmp" "$tools/mnt"
for tool in fio iperf3 ping; do
	cp "$(readlink -f "$(command -v $tool)")" "$tools/bin/$tool"
	ldd "$tools/bin/$tool" | grep -o '/[^ ]*'
done | sort -u >"$work/libraries"
while read -r library; do
	mkdir -p "$tools/$(dirname "$library")"
	cp -L "$library" "$tools/$library"
done <"$work/libraries"
mke2fs -q -t ext4 -d "$tools" "$work/tools.img" 256M
rm -rf "$tools" "$work/root" "$work/tree" "$work"/*.deb "$work/libraries"
: >"$work/done"
chmod 755 "$work"
mv "$work" "$out"
trap - EXIT
echo "$out"
