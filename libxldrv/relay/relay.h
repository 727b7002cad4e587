/* relay: what libvirt's own daemons do for the clients of xen:///system.
 *
 * Networks, storage pools and volumes, node devices, interfaces, secrets and network filters are not ours: a client
 * that asks for them has its messages passed to virtnetworkd, virtstoraged, virtnodedevd, virtinterfaced, virtsecretd
 * or virtnwfilterd, or to a libvirtd that does it all, and gets their answers, events and streams as they come. Only
 * serials are changed. Nothing is decoded, so there is no code for any procedure.
 *
 *   daemons.c    which daemon a procedure belongs to, and where its socket is
 *   upstream.c   the bytes of a connection to a daemon
 *   handshake.c  its beginning: authentication, opening, telling who the client is
 *   link.c       one client's connection to one daemon: calls, replies, events, streams
 *   relay.c      the links of each client, made when it first asks
 *
 * A link is made for a client's first call to a daemon, through the daemon's read-only socket if the client may only
 * read, and ends with the client. When a daemon ends, the calls in progress fail and the next one connects again; event
 * registrations are then lost, as they are for the daemon's own clients.
 *
 * All of it belongs to the main loop and waits for nothing. A client that does not read its download stops the reading
 * of its link, and one whose upload is not taken is not read itself.
 */
#pragma once

#include "libxldrv/relay/daemons.h"
#include "libxldrv/rpc/rpc.h"

typedef struct _XldrvRelay XldrvRelay;

/* Passes calls of program REMOTE, which @server serves as @program, on to the daemons that listen in @socket_dir. To be
 * freed after the server. */
XldrvRelay *xldrv_relay_new(XldrvServer *server, const XldrvProgram *program, const char *socket_dir);
void xldrv_relay_free(XldrvRelay *relay);
/* To be told of every client that is gone. */
void xldrv_relay_client_closed(XldrvRelay *relay, XldrvClient *client);
