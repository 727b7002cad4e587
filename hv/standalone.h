/* domus-hv run: one domain without a toolstack. */
#pragma once

#include "hv/standalone-nic.h"
#include "hv/types.h"

struct hv_engine_ops;

#define HV_STANDALONE_DISKS_MAX 16u /* xvda to xvdp */

struct hv_standalone_disk {
    char path[4096];
    bool read_only;
};

struct hv_standalone_options {
    const char *kernel, *ramdisk, *cmdline; /* ramdisk and cmdline may be NULL */
    const char *name;
    uint64_t memory_kib;
    unsigned vcpus;
    const struct hv_engine_ops *engine;
    uint64_t code_cache_bytes; /* 0: HV_CODE_CACHE_DEFAULT */
    const char *console; /* "stdio" or a path */
    bool stats;
    bool store; /* with a store of its own */
    struct hv_standalone_disk disks[HV_STANDALONE_DISKS_MAX];
    unsigned nr_disks;
    int control_fd; /* a socket to serve the control channel on; -1: none */
    struct hv_standalone_nic nics[HV_STANDALONE_NICS_MAX];
    unsigned nr_nics;
};

/* Exit statuses of `domus-hv run`; see domus-hv(8). */
enum hv_exit {
    HV_EXIT_POWEROFF = 0,
    HV_EXIT_FAILURE = 1,
    HV_EXIT_USAGE = 2,
    HV_EXIT_REBOOT = 3,
    HV_EXIT_CRASH = 4,
    HV_EXIT_WATCHDOG = 5,
    HV_EXIT_SUSPEND = 6,
    HV_EXIT_QUIT = 7, /* by the user, the guest was still running */
};

/* Builds and runs the domain; returns an enum hv_exit. */
int hv_standalone_run(const struct hv_standalone_options *options);
