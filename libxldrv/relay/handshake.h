/* handshake: what a daemon asks of those who connect. */
#pragma once

#include "libxldrv/rpc/raw.h"
#include "libxldrv/rpc/server.h"

typedef struct _XldrvHandshake XldrvHandshake;

typedef enum { XLDRV_HANDSHAKE_GOES_ON, XLDRV_HANDSHAKE_DONE, XLDRV_HANDSHAKE_FAILED } XldrvHandshakeState;

/* For @client, with the daemon that is to open @uri; @compiled is program REMOTE. */
XldrvHandshake *xldrv_handshake_new(const XldrvCompiled *compiled, XldrvClient *client, const char *uri);
void xldrv_handshake_free(XldrvHandshake *handshake);

/* The next call, sealed; to be sent at first, and whenever it goes on. */
XldrvMessage *xldrv_handshake_next(XldrvHandshake *handshake);
/* Whether a message is the reply to it. */
gboolean xldrv_handshake_expects(const XldrvHandshake *handshake, const XldrvHeader *header);
/* That reply. An error is said here if the daemon's own, in @bytes, is not the reason to fail. */
XldrvHandshakeState xldrv_handshake_receive(XldrvHandshake *handshake, const XldrvHeader *header,
                                            const GByteArray *bytes, GError **error);
