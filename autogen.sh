#!/bin/sh
# Makes ./configure. Arguments are for autoreconf.
set -e
cd "$(dirname "$0")"
mkdir -p build-aux
exec autoreconf --install --force "$@"
