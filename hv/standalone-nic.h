/* Network interfaces of a domain without a toolstack: a tap, or passt as a user's network in a process of its own. */
#pragma once

#include <sys/types.h>

#include "hv/hv.h"
#include "hv/store/store.h"

#define HV_STANDALONE_NICS_MAX 8u

/* What --nic says. */
struct hv_standalone_nic {
    bool user;
    char tap[16];
    uint8_t mac[6]; /* all zeroes: one is made */
    unsigned mtu, queues;
};

/* Reads "user|tap=NAME[,mac=MAC][,mtu=N][,queues=N]". NULL, or what is wrong with it. */
const char *hv_standalone_nic_parse(const char *text, struct hv_standalone_nic *out) HV_MUST_CHECK;

/* An interface while the domain runs. */
struct hv_standalone_port {
    struct domus_vif vif;
    int fds[DOMUS_VIF_QUEUES_MAX]; /* vif.queues of them */
    pid_t child;                   /* passt; 0: none */
};

/* Opens interface @devid, before privileges are given up and before there are threads. @uuid is what MAC addresses are
 * made from. 0 or negative errno, which was logged. */
int hv_standalone_nic_open(const struct hv_standalone_nic *nic, unsigned devid, const uint8_t uuid[16],
                           struct hv_standalone_port *out) HV_MUST_CHECK;
/* Gives it to the domain; the descriptors are closed. 0 or negative errno, which was logged. */
int hv_standalone_nic_attach(struct domctl *ctl, struct hv_standalone_port *port) HV_MUST_CHECK;
/* Closes what is open; waits for the child, which ends with the last descriptor. */
void hv_standalone_nic_close(struct hv_standalone_port *port);
