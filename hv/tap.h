/* Test Anything Protocol for unit tests of this room. TAP_OK counts; return tap_done() from main. */
#pragma once

#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>

static unsigned tap_count, tap_failures;

__attribute__((format(printf, 4, 5), unused)) static bool tap_ok(bool ok, const char *file, int line,
                                                                 const char *format, ...)
{
    va_list args;

    printf("%sok %u - ", ok ? "" : "not ", ++tap_count);
    va_start(args, format);
    vprintf(format, args);
    va_end(args);
    printf("\n");
    if (!ok) {
        tap_failures++;
        printf("# failed at %s:%d\n", file, line);
    }
    fflush(stdout);
    return ok;
}

#define TAP_OK(cond, ...) tap_ok(cond, __FILE__, __LINE__, __VA_ARGS__)

__attribute__((unused)) static int tap_done(void)
{
    printf("1..%u\n", tap_count);
    return tap_failures ? 1 : 0;
}
