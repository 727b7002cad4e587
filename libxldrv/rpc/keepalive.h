/* keepalive: the program 0x6b656570 of both sides. */
#pragma once

#include "libxldrv/rpc/client.h"

#define XLDRV_KEEPALIVE_PROGRAM 0x6b656570
#define XLDRV_KEEPALIVE_VERSION 1

enum { XLDRV_KEEPALIVE_PING = 1, XLDRV_KEEPALIVE_PONG = 2 };

/* Handles a message of the program. */
void xldrv_keepalive_receive(XldrvClient *client, const XldrvHeader *header);
/* Pings a silent client; FALSE if it has been silent for too long. */
gboolean xldrv_keepalive_tick(XldrvClient *client, gint64 now_us);
/* A PING or PONG has left. */
void xldrv_keepalive_sent(XldrvClient *client, const XldrvMessage *message);
