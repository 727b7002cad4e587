/* message: the header that starts every message, and messages on their way out. */
#pragma once

#include "libxldrv/rpc/rpc.h"

#define XLDRV_HEADER_SIZE 28 /* the length word included */
#define XLDRV_FDS_MAX     32 /* descriptors in one message */

typedef enum {
    XLDRV_TYPE_CALL = 0,
    XLDRV_TYPE_REPLY = 1,
    XLDRV_TYPE_MESSAGE = 2,
    XLDRV_TYPE_STREAM = 3,
    XLDRV_TYPE_CALL_WITH_FDS = 4,
    XLDRV_TYPE_REPLY_WITH_FDS = 5,
    XLDRV_TYPE_STREAM_HOLE = 6,
} XldrvType;

typedef enum {
    XLDRV_STATUS_OK = 0,
    XLDRV_STATUS_ERROR = 1,
    XLDRV_STATUS_CONTINUE = 2,
} XldrvStatus;

typedef struct {
    guint32 length; /* of the whole message */
    guint32 program, version;
    gint32 procedure;
    guint32 type, serial, status;
} XldrvHeader;

void xldrv_header_decode(const guint8 bytes[XLDRV_HEADER_SIZE], XldrvHeader *header);

/* What has to happen when a message has left. */
typedef enum {
    XLDRV_OUT_PLAIN,
    XLDRV_OUT_REPLY,     /* its call is answered */
    XLDRV_OUT_EVENT,     /* no longer counts as queued */
    XLDRV_OUT_STREAM,    /* its stream may send the next packet */
    XLDRV_OUT_KEEPALIVE, /* another one may be queued */
} XldrvOutKind;

typedef struct {
    XldrvOutKind kind;
    GByteArray *bytes; /* header and payload */
    gsize sent;        /* bytes of it that have left */
    GArray *fds;       /* int, owned; NULL for none */
    guint fds_sent;
    XldrvStream *stream; /* reference, for XLDRV_OUT_STREAM */
    gsize event_size;    /* what an event was counted as */
    GDestroyNotify done; /* called when it has left or is dropped; NULL for nothing */
    gpointer done_data;
    gboolean begins_layer; /* all behind it goes through the layer of SASL */
} XldrvMessage;

/* A message with @header (its length is filled in by xldrv_message_seal) and an empty payload. */
XldrvMessage *xldrv_message_new(XldrvOutKind kind, const XldrvHeader *header);
/* A message of @bytes (taken), header and payload, as they came from elsewhere. */
XldrvMessage *xldrv_message_new_whole(XldrvOutKind kind, GByteArray *bytes);
void xldrv_message_set_serial(XldrvMessage *message, guint32 serial);
/* Writes the length word once the payload is complete. */
void xldrv_message_seal(XldrvMessage *message);
void xldrv_message_free(XldrvMessage *message);

/* Closes the descriptors of an int array and frees it; takes NULL. */
void xldrv_fds_free(GArray *fds);
