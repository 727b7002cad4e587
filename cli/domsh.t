#!/bin/sh
# domsh against libvirt's own test driver, which lives in the client library. Each domsh process meets a fresh
# "host" with one running domain, "test"; a line of several commands meets one host. What virsh prints is the
# standard: where it is installed, both are compared, errors and exit status included.
domsh=${DOMSH:-./cli/domsh}
uri=test:///default
dir=$(mktemp -d) || exit 1
trap 'rm -rf "$dir"' EXIT
n=0
LC_ALL=C
export LC_ALL

report() # STATUS NAME
{
    n=$((n + 1))
    if [ "$1" = 0 ]; then echo "ok $n - $2"; else echo "not ok $n - $2"; fi
}

run() # PROGRAM LINE: into out, err and $status; without the time used, which is never the same
{
    "$1" -c "$uri" "$2" </dev/null >"$dir/all" 2>"$dir/err"
    status=$?
    grep -v '^CPU time:' "$dir/all" >"$dir/out"
}

# LINE STATUS OUTPUT ERRORS, the latter two without empty lines at the end
expect()
{
    run "$domsh" "$1"
    [ "$status" = "$2" ] && [ "$(cat "$dir/out")" = "$3" ] && [ "$(cat "$dir/err")" = "$4" ]
    result=$?
    report $result "$1"
    [ $result = 0 ] || sed 's/^/# /' "$dir/out" "$dir/err"
}

same_as_virsh() # LINE
{
    if ! command -v virsh >/dev/null; then
        n=$((n + 1))
        echo "ok $n - as virsh: $1 # SKIP virsh is not installed"
        return
    fi
    run virsh "$1"
    mv "$dir/out" "$dir/out.virsh"
    mv "$dir/err" "$dir/err.virsh"
    virsh_status=$status
    run "$domsh" "$1"
    [ "$status" = "$virsh_status" ] && cmp -s "$dir/out" "$dir/out.virsh" && cmp -s "$dir/err" "$dir/err.virsh"
    result=$?
    report $result "as virsh: $1"
    [ $result = 0 ] || diff "$dir/out.virsh" "$dir/out" | sed 's/^/# /'
    [ $result = 0 ] || diff "$dir/err.virsh" "$dir/err" | sed 's/^/# /'
}

cat >"$dir/new.xml" <<END
<domain type='test'>
  <name>new</name>
  <uuid>4dea22b3-1d52-d8f3-2516-782e98ab3fa0</uuid>
  <title>a title</title>
  <memory unit='MiB'>64</memory>
  <os><type>hvm</type></os>
</domain>
END
printf '<domain type="test">\n<name>x</nam>\n</domain>' >"$dir/bad.xml"

expect 'domid test' 0 '1' ''
expect 'suspend test; domstate test --reason; resume test; domstate test' 0 "Domain 'test' suspended

paused (user)

Domain 'test' resumed

running" ''
expect "define $dir/new.xml; start new; list --all; destroy new; undefine new; list --all --name" 0 \
"Domain 'new' defined from $dir/new.xml

Domain 'new' started

 Id   Name   State
----------------------
 1    test   running
 2    new    running

Domain 'new' destroyed

Domain 'new' has been undefined

test" ''
expect 'nonsense' 1 '' "error: unknown command: 'nonsense'"
expect 'domid nonsense; domid test' 0 "
1" "error: failed to get domain 'nonsense'"
expect 'start test' 1 '' 'error: Domain is already active'
expect "define $dir/missing.xml" 1 '' "error: Failed to open file '$dir/missing.xml': No such file or directory"
expect 'console test' 1 '' "error: Failed to open the console of domain 'test'
error: this function is not supported by the connection driver: virDomainOpenConsole"
expect 'help domid' 0 '  NAME
    domid - convert a domain name or UUID to domain id

  SYNOPSIS
    domid <domain>

  OPTIONS
    [--domain] <string>  name, UUID or id of a domain' ''
expect 'help nonsense' 1 '' "error: command or command group 'nonsense' doesn't exist"
expect 'connect test:///default --readonly; destroy test' 1 '' "error: Failed to destroy domain 'test'
error: operation forbidden: read only access prevents virDomainDestroyFlags"

while read -r line; do
    same_as_virsh "$line"
done <<END
list
list --all
list --inactive
list --all --title
list --name
list --uuid
list --name --uuid
define $dir/new.xml; list --all; list --inactive --name; list --all --title; dominfo new; domid new; domstate new --reason
create $dir/new.xml; list --title; domstate new --reason
create $dir/new.xml --paused; domstate new --reason
define $dir/bad.xml
create $dir/bad.xml
define $dir/new.xml --validate
domstate test
domstate test --reason
domid test
domid 6695eb01-f6a4-8304-79aa-97f2502e193f
domuuid test
domuuid 1
domname 1
domname test
dumpxml test
dumpxml test --inactive
suspend test; suspend test
resume test
shutdown test; domstate test --reason; start test; domstate test --reason
reboot test
destroy test; destroy test
start nonsense
undefine nonsense
domstate
domstate test extra
domstate --domain
domstate --nonsense test
domstate test --reason=1
uri
version
nodeinfo
END

printf 'domid test\n\n  \nnonsense\ndomid test\n' | "$domsh" -q -c "$uri" >"$dir/out" 2>"$dir/err"
status=$?
[ $status = 0 ] && [ "$(cat "$dir/out")" = "1
1" ] && [ "$(cat "$dir/err")" = "error: unknown command: 'nonsense'" ]
report $? 'commands from standard input'

[ "$(printf 'domid test\nquit\ndomid test\n' | "$domsh" -q -c "$uri")" = 1 ]
report $? 'quit'

[ "$(LIBVIRT_DEFAULT_URI=$uri "$domsh" -q uri)" = "$uri" ]
report $? 'URI of the environment'

"$domsh" --root "$dir/a b" uri 2>"$dir/err"
grep -qF "socket=$dir/a%20b/run/libvirt/virtxend-sock'" "$dir/err"
report $? '--root'

"$domsh" -r -c "$uri" destroy test >/dev/null 2>"$dir/err"
grep -q 'read only access' "$dir/err"
report $? '--readonly'

"$domsh" --root x -c "$uri" uri 2>"$dir/err"
[ $? = 1 ] && grep -q 'mutually exclusive' "$dir/err"
report $? '--root and --connect'

[ "$("$domsh" -q -c "$uri" complete -- domstate --r)" = --reason ]
report $? 'completion'

echo "1..$n"
