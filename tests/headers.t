#!/bin/sh
# Every header compiles by itself: it includes what it uses. Fact: the compiler's word.
exec make -s -C "${DOMUS_BUILD:-.}" check-headers
