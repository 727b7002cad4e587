/* What domusd and domus-vnc say to each other, over a UNIX SOCK_SEQPACKET socket that domus-vnc listens on: one struct a
 * packet. Each request is answered by one REPLY; whoever sent SUBSCRIBE gets EVENTs from then on as well. Both ends are of
 * one build. */
#pragma once

#include <stdint.h>

/* Descriptors that domus-vnc is started with. */
#define XLDRV_VNC_DISPLAY_FD 3 /* the channel to the hypervisor: hv/hv.h, struct hv_display_message */
#define XLDRV_VNC_CONTROL_FD 4 /* listens for this protocol */
#define XLDRV_VNC_LISTEN_FD  5 /* the first that VNC clients come to; those that follow likewise */

enum xldrv_vnc_type {
    XLDRV_VNC_SET_PASSWORD = 1, /* value: 1: password and valid_to count; 0: none is asked for. Clients are let in from
                                   the first of these on */
    XLDRV_VNC_ADD_CLIENT = 2,   /* with a descriptor: a connected VNC client; value: 1: no password is asked of it */
    XLDRV_VNC_SUBSCRIBE = 3,
    XLDRV_VNC_REPLY = 16, /* value: 0 or an errno */
    XLDRV_VNC_EVENT = 17, /* value: phase, as virDomainEventGraphicsPhase; local, remote, auth */
};

struct xldrv_vnc_address {
    uint32_t family; /* as virDomainEventGraphicsAddressType */
    char node[108], service[12];
};

struct xldrv_vnc_message {
    uint32_t type, value;
    int64_t valid_to; /* seconds since 1970 after which the password is not taken; 0: always is */
    char password[12];
    char auth[12]; /* "vnc" or "none" */
    struct xldrv_vnc_address local, remote;
};
