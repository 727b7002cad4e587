#!/bin/sh
# Installs the Debian packages that building, running or testing Domus needs.
#   packages.sh build   compilers and libraries
#   packages.sh run     build, and what the quickstart uses (stock clients, guest files)
#   packages.sh test    run, and what the tests use
#   packages.sh bench   run, and what `make bench` compares with
# Does nothing when all are there. Needs root or sudo otherwise.
set -eu

build="gcc libc6-dev make autoconf automake pkg-config autoconf-archive
  libzydis-dev libxen-dev libvirt-dev libglib2.0-dev libgnutls28-dev libsasl2-dev libxml2-dev libvncserver-dev libxkbcommon-dev
  libnl-3-dev libnl-route-3-dev libnbd-dev liburing-dev libseccomp-dev libedit-dev libjson-glib-dev
  zlib1g-dev liblzma-dev libzstd-dev liblz4-dev libbz2-dev"
run="libvirt-clients qemu-system-common qemu-utils busybox-static cpio xz-utils bsdutils ca-certificates"
test="perl libvirt-daemon libxml2-utils xenstore-utils python3 python3-libvirt libsys-virt-perl virtinst acpica-tools procps git xen-utils-4.17
  iproute2 iputils-ping passt util-linux mmdebstrap e2fsprogs dnsmasq-base iptables gnutls-bin"
test="$test sasl2-bin libsasl2-modules libsasl2-modules-gssapi-mit krb5-kdc krb5-admin-server krb5-user polkitd
  dbus-daemon dbus-bin openssh-server openssh-client netcat-openbsd libnbd-bin"
test="$test prometheus-libvirt-exporter resource-agents libvirt-dbus virt-manager xvfb gdb at-spi2-core gir1.2-atspi-2.0
  imagemagick"
bench="python3 qemu-system-x86"

case ${1:-build} in
build) want=$build ;;
run) want="$build $run" ;;
test) want="$build $run $test" ;;
bench) want="$build $run $bench" ;;
*) sed -n '2,7p' "$0" >&2; exit 2 ;;
esac

missing=
for p in $want; do
	case $(dpkg-query -W -f '${db:Status-Status}' "$p" 2>/dev/null) in
	installed) ;;
	*) missing="$missing $p" ;;
	esac
done
[ -n "$missing" ] || exit 0

sudo=
if [ "$(id -u)" != 0 ]; then
	command -v sudo >/dev/null || { echo "packages.sh: need root to install:$missing" >&2; exit 1; }
	sudo=sudo
fi
export DEBIAN_FRONTEND=noninteractive
$sudo apt-get update -q
# shellcheck disable=SC2086
exec $sudo apt-get install -y -q --no-install-recommends $missing
