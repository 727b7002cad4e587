#!/bin/sh
# Makes the files of a small Linux guest out of Debian's packages, in a cache:
#   vmlinuz      the kernel of linux-image-amd64, as packaged
#   initrd.gz    busybox, a shell on the console, the Xen front-end modules
# Prints the folder they are in. `guest-files.sh cloud` takes linux-image-cloud-amd64.
# DOMUS_CACHE names another cache; removing the cache makes everything anew.
set -eu

flavour=${1:-generic}
case $flavour in
generic) meta=linux-image-amd64 ;;
cloud) meta=linux-image-cloud-amd64 ;;
*) echo "guest-files.sh: unknown kernel flavour '$flavour' (generic, cloud)" >&2; exit 2 ;;
esac
here=$(cd "$(dirname "$0")" && pwd)
cache=${DOMUS_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/domus}
stamp=$(cat "$here/guest-files.sh" "$here/guest-init" | cksum | tr ' ' -)
out=$cache/guest-$flavour-$stamp
if [ -e "$out/done" ]; then
	echo "$out"
	exit 0
fi

mkdir -p "$cache"
work=$(mktemp -d "$cache/tmp.XXXXXX")
trap 'rm -rf "$work"' EXIT

# The package that the meta package depends on, unpacked, not installed.
kernel_package() {
	apt-cache depends "$meta" | awk '/Depends: linux-image/ { print $2; exit }'
}
package=$(kernel_package)
if [ -z "$package" ]; then
	if [ "$(id -u)" = 0 ]; then apt-get update -q >&2; else sudo apt-get update -q >&2; fi
	package=$(kernel_package)
fi
[ -n "$package" ] || { echo "guest-files.sh: apt knows no package $meta" >&2; exit 1; }
(cd "$work" && apt-get download -q "$package" >&2)
dpkg-deb -x "$work/$package"_*.deb "$work/tree"
release=$(basename "$work"/tree/boot/vmlinuz-* | sed 's/^vmlinuz-//')
modules=$work/tree/lib/modules/$release

root=$work/root
mkdir -p "$root/bin" "$root/sbin" "$root/dev" "$root/etc" "$root/proc" "$root/sys" "$root/run" \
	"$root/tmp" "$root/root" "$root/lib/modules"
cp /bin/busybox "$root/bin/busybox"
cp "$here/guest-init" "$root/etc/rc"
chmod 755 "$root/etc/rc"
cat >"$root/etc/inittab" <<'EOF'
::sysinit:/etc/rc
hvc0::respawn:-/bin/sh
::shutdown:/bin/echo guest: down
EOF
ln -s /bin/busybox "$root/init"
for applet in $("$root/bin/busybox" --list); do
	[ "$applet" = busybox ] || ln -sf /bin/busybox "$root/bin/$applet"
done
ln -s /bin/busybox "$root/sbin/poweroff"
ln -s /bin/busybox "$root/sbin/reboot"
ln -s /bin/busybox "$root/sbin/init"

# The front-end drivers that Debian builds as modules, and a file system; numbered, what others depend on first.
number=10
for name in crc16 crc32c_generic mbcache jbd2 ext4 xen-blkfront xen-netfront xen-kbdfront xen-fbfront; do
	file=$(find "$modules" -name "$name.ko*" | head -n 1)
	[ -z "$file" ] || cp "$file" "$root/lib/modules/$number-$(basename "$file")"
	number=$((number + 1))
done

(cd "$root" && find . | LC_ALL=C sort | cpio -o -H newc --quiet -R 0:0 | gzip -9n) >"$work/initrd.gz"
mv "$work/tree/boot/vmlinuz-$release" "$work/vmlinuz"
echo "$release" >"$work/release"
rm -rf "$work/tree" "$work/root" "$work"/*.deb
: >"$work/done"
chmod 755 "$work"
rm -rf "$out"
mv "$work" "$out"
trap - EXIT
echo "$out"
