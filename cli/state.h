/* state: what a domain's state and its reason are called. A number that is not known is "no state", "unknown". */
#pragma once

#include <glib.h>
#include <libvirt/libvirt.h>

const char *cli_domain_state(int state);
const char *cli_domain_reason(int state, int reason);
