/* peer: who is at the other end of a socket. */
#pragma once

#include "libxldrv/rpc/client.h"

/* Of a connected UNIX socket: the process that connected; of another: its address. Also makes TCP say what it has at
 * once, and notice peers that are gone. */
void xldrv_peer_find(XldrvPeer *peer, int fd);
