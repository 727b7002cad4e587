#!/bin/sh
# Live migration, seen from outside: two hosts (network namespaces with a cable between them, a domusd each), a guest that counts over
# a TCP connection, and stock virsh that moves it back and forth meanwhile. Not a byte is lost, and the connection is kept.
# As root. Needs Domus built (examples/quickstart.sh does that); takes all away again when it ends.
set -eu
top=$(cd "$(dirname "$0")/.." && pwd)
build=${DOMUS_BUILD:-$top/build}
moves=${1:-4}
work=$(mktemp -d "${TMPDIR:-/tmp}/domus-migrate.XXXXXX")
name=traveller guest=198.51.100.10 port=5000
a=domus-a-$$ b=domus-b-$$

say() {
	printf '\n==> %s\n' "$*"
}

uri() {
	echo "xen+unix:///system?socket=$work/$1/run/libvirt/virtxend-sock"
}

on() {
	host=$1
	shift
	virsh -q -c "$(uri "$host")" "$@"
}

end_process() {
	kill "$1" 2>/dev/null || return 0
	while kill -0 "$1" 2>/dev/null; do sleep 0.1; done
}

clean_up() {
	status=$?
	trap - EXIT INT TERM
	say "Cleaning up"
	[ -z "${client:-}" ] || end_process "$client"
	for host in a b; do
		on "$host" destroy "$name" >/dev/null 2>&1 || true
	done
	# domusd and its store daemon: all that has a folder of ours on its command line
	for pid in $(pgrep -f "^[^ ]*domus[^ ]* .*$work/"); do
		end_process "$pid"
	done
	ip netns del "$a" 2>/dev/null || true
	ip netns del "$b" 2>/dev/null || true
	rm -rf "$work"
	[ "$status" = 0 ] && say "Done: nothing was lost" || echo "migrate-demo.sh: failed" >&2
	exit "$status"
}
trap clean_up EXIT
trap 'exit 1' INT TERM

[ "$(id -u)" = 0 ] || { echo "migrate-demo.sh: namespaces and taps are root's" >&2; exit 1; }
[ -x "$build/libxldrv/domusd" ] || { echo "migrate-demo.sh: $build has no domusd: run examples/quickstart.sh first" >&2; exit 1; }

# A bridge on each side has the cable's end and, where the guest is, its tap: one network, as behind a switch.
say "Two hosts, 198.51.100.1 and 198.51.100.2, and a cable"
ip netns add "$a"
ip netns add "$b"
ip link add cable netns "$a" type veth peer name cable netns "$b"
for side in "$a 198.51.100.1" "$b 198.51.100.2"; do
	set -- $side
	ip -n "$1" link set lo up
	ip -n "$1" link add br0 type bridge
	ip -n "$1" link set cable master br0
	ip -n "$1" link set cable up
	ip -n "$1" link set br0 up
	ip -n "$1" addr add "$2/24" dev br0
done

say "A domusd on each, with everything it keeps under $work"
for side in "a $a" "b $b"; do
	set -- $side
	mkdir "$work/$1"
	ip netns exec "$2" "$build/libxldrv/domusd" --root "$work/$1" --daemon
done

say "A guest on the first, with a disk that both reach"
files=$("$top/examples/guest-files.sh")
truncate -s 64M "$work/disk.img"
sed -e "s|@NAME@|$name|" -e 's|@MEMORY_MIB@|256|' -e 's|@VCPUS@|2|' -e 's|@CMDLINE@|console=hvc0 guest.modules|' \
	-e "s|@KERNEL@|$files/vmlinuz|" -e "s|@INITRD@|$files/initrd.gz|" \
	-e "s|<console|<disk type='file'><source file='$work/disk.img'/><target dev='xvda'/></disk><interface type='bridge'><source bridge='br0'/></interface><console|" \
	"$top/examples/pvh.xml" >"$work/guest.xml"
on a define "$work/guest.xml"
on a start "$name"
(
	tries=0
	until grep -q 'guest: up' "$work/console.log" 2>/dev/null || [ "$tries" = 600 ]; do
		tries=$((tries + 1))
		sleep 0.5
	done
	sleep 1
	printf 'ip addr add %s/24 dev eth0; ip link set eth0 up\n' "$guest"
	printf '(n=0; while :; do n=$((n+1)); echo $n; usleep 1000; done | nc -l -p %s) >/dev/null 2>&1 &\n' "$port"
	sleep 2
	printf '\035'
) | script -qefc "virsh -c '$(uri a)' console $name" "$work/console.log" >/dev/null
grep -q 'guest: up' "$work/console.log"

say "A client on the first host reads what it counts, and looks at each number"
cat >"$work/client" <<'END'
exec 3<>"/dev/tcp/$1/$2"
exec awk -v status="$3" '$1 != n + 1 { print "lost: " $1 " after " n; exit 1 } { n = $1 } n % 100 == 0 { print n >status; close(status) }
	END { print "the connection ended after " n; exit 1 }' <&3
END
ip netns exec "$a" bash "$work/client" "$guest" "$port" "$work/count" &
client=$!

count() {
	cat "$work/count" 2>/dev/null || echo 0
}

# It has to go on from here.
check_client() {
	before=$(count)
	tries=0
	until [ "$(count)" -gt "$before" ] 2>/dev/null; do
		kill -0 "$client" 2>/dev/null || { echo "migrate-demo.sh: the client has ended" >&2; exit 1; }
		tries=$((tries + 1))
		[ "$tries" -lt 300 ] || { echo "migrate-demo.sh: nothing comes any more after $before" >&2; exit 1; }
		sleep 0.1
	done
	echo "    the client is at $(count)"
}
check_client

# The hosts are one machine, which virsh cannot know: that the disk is the same on both is for us to say (--unsafe).
from=a to=b address=198.51.100.2
move=0
while [ "$move" -lt "$moves" ]; do
	move=$((move + 1))
	say "Move $move of $moves: virsh migrate --live --verbose, from host $from to host $to"
	virsh -c "$(uri "$from")" migrate --live --verbose --persistent --undefinesource --unsafe "$name" "$(uri "$to")" \
		--migrateuri "tcp://$address"
	echo "    it runs on $to: $(on "$to" domstate "$name" | head -n 1); $(virsh -c "$(uri "$from")" list --all --name | grep -c . || true) domains are left on $from"
	check_client
	case $to in
	a) from=a to=b address=198.51.100.2 ;;
	b) from=b to=a address=198.51.100.1 ;;
	esac
done
