#!/bin/sh
# Makes a whole Debian 12 system in an image: `debian-image.sh FILE [PACKAGE...]`
#   FILE                        an ext4 file system, raw, of DOMUS_IMAGE_SIZE (2G)
#   FILE.vmlinuz, FILE.initrd   the kernel and ramdisk of its own /boot, for <kernel> and <initrd>
# The system has systemd, a login on the console (root, no password) and asks for addresses by DHCP; its
# name is DOMUS_IMAGE_HOSTNAME (debian). Where the guest has a channel for it, QEMU's guest agent answers. PACKAGEs are installed besides. Packages come from DOMUS_MIRROR,
# a line like that of sources.list, or from where this host's apt has those of Debian 12. Needs root.
set -eu

fail() {
	echo "debian-image.sh: $*" >&2
	exit 1
}

[ $# -ge 1 ] || { sed -n '2,7p' "$0" >&2; exit 2; }
image=$1
shift
here=$(cd "$(dirname "$0")" && pwd)
packages=systemd-sysv,dbus,udev,linux-image-amd64,initramfs-tools,zstd,e2fsprogs,kmod,login,util-linux
packages=$packages,iproute2,iputils-ping,procps,less,nano-tiny,qemu-guest-agent,xenstore-utils
for tool in mmdebstrap mke2fs; do
	command -v $tool >/dev/null || fail "needs $tool: install mmdebstrap and e2fsprogs"
done
[ "$(id -u)" = 0 ] || fail "needs root, for the owners of the image's files"

work=$(mktemp -d "${TMPDIR:-/var/tmp}/debian-image.XXXXXX")
trap 'rm -rf --one-file-system "$work" "$image.part"' EXIT
if [ -n "${DOMUS_MIRROR:-}" ]; then
	echo "$DOMUS_MIRROR" >"$work/sources.list"
else
	# shellcheck disable=SC2016
	apt-get indextargets --format 'deb $(REPO_URI) $(RELEASE) $(COMPONENT)' 'Created-By: Packages' |
		grep ' bookworm' | sort -u >"$work/sources.list" || fail "apt has no Debian 12 here: set DOMUS_MIRROR"
fi

cat >"$work/customize" <<'END'
#!/bin/sh
set -eu
chroot "$1" passwd -d root >/dev/null
echo '/dev/xvda / ext4 errors=remount-ro 0 1' >"$1/etc/fstab"
mkdir -p "$1/boot/grub" # for pygrub; the names are the links that Debian keeps to its newest kernel
cat >"$1/boot/grub/grub.cfg" <<'GRUB'
set default=0
menuentry 'Debian' {
	linux /vmlinuz root=/dev/xvda ro console=hvc0
	initrd /initrd.img
}
GRUB
printf '[Match]\nType=ether\n[Network]\nDHCP=yes\n' >"$1/etc/systemd/network/80-dhcp.network"
chroot "$1" systemctl -q enable systemd-networkd
cat >"$1/etc/systemd/system/xen-guest-agent.service" <<'UNIT'
[Unit]
Description=QEMU guest agent on a Xen channel
ConditionVirtualization=xen

[Service]
ExecStart=/usr/local/sbin/xen-guest-agent
Restart=on-failure

[Install]
WantedBy=multi-user.target
UNIT
chroot "$1" systemctl -q enable xen-guest-agent
: >"$1/etc/machine-id" # made anew at the first boot
END
chmod 755 "$work/customize"
mmdebstrap --quiet --mode=root --variant=minbase --include="$packages $*" \
	--customize-hook="install -m 755 '$here/xen-guest-agent' \"\$1/usr/local/sbin/\"" \
	--customize-hook="$work/customize" \
	--customize-hook="echo '${DOMUS_IMAGE_HOSTNAME:-debian}' >\"\$1/etc/hostname\"" \
	--aptopt='APT::Install-Recommends "false"' --dpkgopt='path-exclude=/usr/share/doc/*' \
	--dpkgopt='path-exclude=/usr/share/man/*' --dpkgopt='path-exclude=/usr/share/locale/*' \
	bookworm "$work/root" "$work/sources.list" >&2

cp "$work"/root/boot/vmlinuz-* "$image.vmlinuz"
cp "$work"/root/boot/initrd.img-* "$image.initrd"
rm -f "$image.part"
truncate -s "${DOMUS_IMAGE_SIZE:-2G}" "$image.part"
mke2fs -q -t ext4 -L root -d "$work/root" "$image.part"
mv "$image.part" "$image"
