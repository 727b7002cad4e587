#!/bin/sh
# The main job in one command: build Domus, make a guest from Debian's kernel, and with stock virsh
# define it, start it, watch it boot on its console and shut it down. Safe to run again.
set -eu
top=$(cd "$(dirname "$0")/.." && pwd)
cd "$top"
build=$top/build
root=${DOMUS_ROOT:-${XDG_CACHE_HOME:-$HOME/.cache}/domus/quickstart}
uri="xen+unix:///system?socket=$root/run/libvirt/virtxend-sock"
name=quickstart

say() {
	printf '\n==> %s\n' "$*"
}

say "Packages"
sh examples/packages.sh run

say "Build, in $build"
[ -x configure ] || ./autogen.sh
mkdir -p "$build"
[ -e "$build/Makefile" ] || (cd "$build" && "$top/configure" -q)
make -s -C "$build" -j"$(nproc)"

say "Guest files, from Debian's packages"
files=$(examples/guest-files.sh)
ls -l "$files/vmlinuz" "$files/initrd.gz"

say "The daemon, domusd, with everything it keeps under $root"
mkdir -p "$root"
if virsh -c "$uri" version >/dev/null 2>&1; then
	echo "runs already"
else
	"$build/libxldrv/domusd" --root "$root" --daemon
fi
virsh -c "$uri" version

# virsh console wants a terminal: script(1) gives it one. Its input stays open until the guest is up.
watch_console() {
	log=$root/console.log
	: >"$log"
	(
		tries=0
		until grep -q 'guest: up' "$log" || [ "$tries" = 600 ]; do
			tries=$((tries + 1))
			sleep 0.5
		done
		printf 'uname -sr; cat /sys/hypervisor/type; free -m\n'
		sleep 3
		printf '\035'
	) | script -qefc "virsh -c '$uri' console $name" "$log"
	grep -q 'guest: up' "$log"
}

state() {
	virsh -c "$uri" domstate "$name" 2>/dev/null
}

say "virsh define, start, console: the guest boots"
[ "$(state)" != running ] || virsh -c "$uri" destroy "$name"
[ -z "$(state)" ] || virsh -c "$uri" undefine "$name"
sed -e "s|@NAME@|$name|" -e 's|@MEMORY_MIB@|256|' -e 's|@VCPUS@|1|' -e 's|@CMDLINE@|console=hvc0|' \
	-e "s|@KERNEL@|$files/vmlinuz|" -e "s|@INITRD@|$files/initrd.gz|" examples/pvh.xml >"$root/$name.xml"
virsh -c "$uri" define "$root/$name.xml"
virsh -c "$uri" start "$name"
watch_console
virsh -c "$uri" list --all
virsh -c "$uri" dominfo "$name"

say "virsh shutdown"
virsh -c "$uri" shutdown "$name"
tries=0
until [ "$(state)" = "shut off" ]; do
	tries=$((tries + 1))
	[ "$tries" -lt 240 ] || { echo "quickstart.sh: the guest does not shut down" >&2; exit 1; }
	sleep 0.5
done
virsh -c "$uri" domstate --reason "$name"

say "Done. The daemon still runs; go on by hand with"
cat <<EOF
    virsh -c '$uri' start --console $name      (Ctrl-] leaves the console)
    virsh -c '$uri' list --all
and stop the daemon with
    kill \$(cat $root/run/domusd.pid)
EOF
