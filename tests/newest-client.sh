#!/bin/sh
# newest-client.sh TEST...: runs tests with virsh of the Debian release after this one, from a folder of its own.
#   DOMUS_CLIENT_RELEASE   trixie
# The folder, made once from Debian's packages, is /var/tmp/domus-client-RELEASE. Needs root.
set -eu

release=${DOMUS_CLIENT_RELEASE:-trixie}
root=/var/tmp/domus-client-$release
if ! [ -d "$root" ]; then
	mirror=$(apt-get indextargets --format '$(SITE)' 'Created-By: Packages' | grep debian | head -1)
	trap 'rm -rf --one-file-system "$root.part"' EXIT
	mmdebstrap --quiet --variant=extract --include=base-files,libc-bin,libvirt-clients "$release" "$root.part" "$mirror"
	mv "$root.part" "$root"
fi
echo "# virsh $(LC_ALL=C chroot "$root" virsh --version)"
export DOMUS_CLIENT_ROOT="$root"
exec prove -f -e '' "$@"
