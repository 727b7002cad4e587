/* What the files of guestbench share. guestbench.c tells what it is; work-*.c hold the workloads.
 */
#pragma once

#define _GNU_SOURCE
#include <cpuid.h>
#include <errno.h>
#include <fcntl.h>
#include <immintrin.h>
#include <sched.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define NOINLINE  __attribute__((noinline, noclone))
#define TARGET(x) __attribute__((target(x)))
#define MIB       (1UL << 20)

/* What a workload hands back. */
struct res {
    double sec; /* the timed part */
    uint64_t ops;
    uint64_t sum;
    double mb;    /* megabytes moved, 0 if it means nothing */
    char why[80]; /* reason of a skip */
};

/* The command line. */
extern const char *opt_disk;
extern int opt_disk_write;
extern const char *opt_busybox;
extern char opt_true[512];

/* CPUs that this process may use. */
extern int ncpu;

/* Seconds of CLOCK_MONOTONIC. */
double now(void);

/* Notes why a workload cannot run here and returns 1, which is what the workload returns then. */
int skip(struct res *r, const char *why);

/* One step of the checksum. */
uint64_t mix(uint64_t h, uint64_t v);

/* A generator of numbers that are the same on every machine. */
void rng_seed(uint64_t s);
uint64_t rng(void);

/* Touched anonymous memory with a stated page size: @thp 0 is 4 KiB pages, 1 asks for huge ones.
 * NULL: none left. */
void *big(size_t len, int thp);

/* Binds the calling thread to one CPU, or to those that it started with. */
void pin(int cpu);
void unpin(void);

/* Sum and maximum of the Collatz lengths of @from to @to. */
uint64_t collatz(uint64_t from, uint64_t to);

/* The round constants of SHA-256. */
extern const uint32_t K256[64];

/* The workloads: @n is how much work. 0, or 1 after skip(). */
typedef int workload_fn(struct res *r, unsigned long n);
extern workload_fn w_int_sieve, w_int_collatz, w_int_muldiv, w_int_sha256, w_mem_chase;
extern workload_fn w_mem_chase_thp, w_mem_copy, w_mem_random, w_fp_nbody, w_fp_x87;
extern workload_fn w_fp_sse2_dot, w_fp_avx2_dot, w_fp_fma_dot, w_fp_sse2_mandel, w_fp_avx2_mandel;
extern workload_fn w_simd_sse2, w_simd_avx2, w_aes_ni, w_pclmul, w_sha_ni;
extern workload_fn w_call_fib, w_ind_interp, w_ind_call, w_str_rep, w_str_libc;
extern workload_fn w_jit_rewrite, w_jit_fresh, w_jit_mprotect, w_code_cold, w_sys_getppid;
extern workload_fn w_sys_read4k, w_sys_clock, w_sys_signal, w_sys_segv, w_sys_pgfault;
extern workload_fn w_proc_forkexec, w_ctxsw_same, w_ctxsw_cross, w_sh_loop, w_atom_1t;
extern workload_fn w_atom_2t, w_mutex_2t, w_par_2t, w_tlb_shoot, w_disk_seqwrite;
extern workload_fn w_disk_seqread, w_disk_randwrite, w_disk_randread, w_disk_randread_qd32;
