/* What the groups of the guest's self-check share; selfcheck.c tells what it is. */
#pragma once

#define _GNU_SOURCE
#include <signal.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <ucontext.h>
#include <unistd.h>

#define PAGE         4096ul
#define ARRAY_LEN(a) (sizeof(a) / sizeof(*(a)))

/* One test point: a line of TAP. Gives @condition back. May be called by any thread or child. */
bool ok(bool condition, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* ok(), with both numbers in the message when they differ. */
bool equal(uint64_t got, uint64_t want, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

/* A line that is no test point; skip() says that something cannot be tested here. */
void note(const char *format, ...) __attribute__((format(printf, 1, 2)));
void skip(const char *format, ...) __attribute__((format(printf, 1, 2)));

/* The groups, one a file. */
void check_signals(void), check_trace(void), check_threads(void), check_jit(void), check_fork(void),
    check_fpu(void), check_faults(void), check_strings(void), check_tlb(void), check_time(void),
    check_compat(void), check_avx(void), check_help(void), check_patching(void);

/* What a signal handler was told. */
struct trap {
    int signal, code;
    uintptr_t addr;
    uint64_t regs[NGREG]; /* REG_RIP ... */
};

/* Calls @fn(@arg). True if a synchronous signal ended it: @trap tells which. The handler runs on a
 * stack of its own, and the machine's flags, FPU control and signal mask are as before afterwards.
 */
bool trapped(void (*fn)(void *), void *arg, struct trap *trap);

/* Fresh memory; fails the group if there is none. */
void *pages(unsigned count, int prot);

/* Binds the calling thread to a CPU, modulo how many there are; gives how many there are. */
unsigned pin(unsigned cpu);
unsigned cpus(void);

/* Runs @fn in a child; its exit status, or -signal if one ended it. */
int in_child(void (*fn)(void *), void *arg);

/* Runs @fn in @count children at once, each given the address of its number (unsigned, from 1);
 * how many did not exit with 0. */
unsigned in_children(unsigned count, void (*fn)(void *));

/* Nanoseconds of CLOCK_MONOTONIC. */
uint64_t now_ns(void);
