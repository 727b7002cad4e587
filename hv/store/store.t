#!/bin/sh
# domus-xenstored and Debian's xenstore-utils. TAP.
set -u
xenstored=${DOMUS_BUILD:-.}/hv/domus-xenstored
root=$(mktemp -d)
export XENSTORED_PATH="$root/run/xenstored/socket"
count=0

# ok DESCRIPTION COMMAND...: passes when the command does.
ok() {
	description=$1
	shift
	count=$((count + 1))
	if "$@"; then echo "ok $count - $description"; else echo "not ok $count - $description"; fi
}

# is DESCRIPTION WANT GOT: passes when the two are the same.
is() {
	ok "$1" [ "$3" = "$2" ]
	[ "$3" = "$2" ] || printf '%s\n' "got: $3" "want: $2" | sed 's/^/# /'
}

stop() {
	[ -s "$root/pid" ] && kill "$(cat "$root/pid")" 2>/dev/null
	rm -rf "$root"
}
trap stop EXIT

ok "it goes to the background when it is ready" "$xenstored" --root "$root" --daemon --pid-file "$root/pid"
ok "the socket is there" [ -S "$XENSTORED_PATH" ]
is "only its owner reaches it" 600 "$(stat -c %a "$XENSTORED_PATH")"

ok "xenstore-write" xenstore-write /a/b one /a/c two
is "xenstore-read" one "$(xenstore-read /a/b)"
is "xenstore-read of several" "one
two" "$(xenstore-read /a/b /a/c)"
is "xenstore-list" "b
c" "$(xenstore-list /a)"
ok "xenstore-exists" xenstore-exists /a/b
ok "xenstore-exists says no" sh -c '! xenstore-exists /a/d'
ok "xenstore-chmod" xenstore-chmod /a/b n0 r5 b6
is "xenstore-ls -p" 'b = "one"   (n0,r5,b6)
c = "two"   (n0)' "$(xenstore-ls -p /a | sed 's/ \. .*(/  (/')"
is "xenstore-ls -f" '/a/b = "one"
/a/c = "two"' "$(xenstore-ls -f /a)"
ok "xenstore-rm" xenstore-rm /a/c
is "what was removed cannot be read" "xenstore-read: couldn't read path /a/c" "$(xenstore-read /a/c 2>&1)"
is "a value with any bytes" 'caf\xc3\xa9' "$(xenstore-write /a/u "$(printf 'caf\303\251')" && xenstore-read -R /a/u |
	od -An -c | tr -d ' \n' | sed 's/caf303251/caf\\xc3\\xa9/')"

# One event for the watch itself, one for the change.
xenstore-watch -n 2 /w >"$root/watch" &
watcher=$!
for i in 1 2 3 4 5 6 7 8 9 10; do
	[ -s "$root/watch" ] && break
	sleep 0.2
done
xenstore-write /w/x 1
wait $watcher
is "xenstore-watch" "/w
/w/x" "$(cat "$root/watch")"

kill -9 "$(cat "$root/pid")"
ok "after kill -9 it starts again" "$xenstored" --root "$root" --daemon --pid-file "$root/pid"
is "with the tree and its permissions" 'b = "one"   (n0,r5,b6)' "$(xenstore-ls -p /a | sed 's/ \. .*(/  (/' | head -n 1)"

ok "an unknown option is refused" sh -c "! '$xenstored' --nonsense 2>/dev/null"
is "a socket path that is too long is refused by name" "File name too long" \
	"$("$xenstored" --root "$root/other" --socket "$root/$(printf '%0120d' 0)" 2>&1 | sed 's/.*: //')"
echo junk-that-is-no-state >"$root/junk"
is "a state file of another kind is refused by name" "is not a store's state file" \
	"$("$xenstored" --root "$root/other" --state "$root/junk" 2>&1 | cut -d: -f3 | sed 's/^ //')"
echo "1..$count"
