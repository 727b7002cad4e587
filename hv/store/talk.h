/* Talking to a store in the same process, for its tests: a request as bytes in, answers and events out. */
#pragma once

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "hv/store/connection.h"
#include "hv/store/request.h"

struct talk_message {
    struct xsd_sockmsg header;
    char payload[XENSTORE_PAYLOAD_MAX + 1];
};

/* Takes the next message that waits to be sent to @c. */
static inline bool talk_next(struct hv_xs_conn *c, struct talk_message *m)
{
    size_t count;
    const uint8_t *bytes = hv_xs_conn_output(c, &count);

    if (!bytes)
        return false;
    memset(m, 0, sizeof(*m));
    memcpy(&m->header, bytes, sizeof(m->header));
    memcpy(m->payload, bytes + sizeof(m->header), m->header.len);
    hv_xs_conn_sent(c, count);
    return true;
}

static inline void talk_send(struct hv_xs_conn *c, uint32_t type, uint32_t tx_id, const void *payload, size_t bytes)
{
    uint8_t message[sizeof(struct xsd_sockmsg) + XENSTORE_PAYLOAD_MAX];
    struct xsd_sockmsg header = {.type = type, .req_id = 77, .tx_id = tx_id, .len = (uint32_t)bytes};

    memcpy(message, &header, sizeof(header));
    if (bytes)
        memcpy(message + sizeof(header), payload, bytes);
    if (hv_xs_conn_input(c, message, sizeof(header) + bytes) != sizeof(header) + bytes)
        abort();
}

/* Sends a request and takes its answer; events that come before it are dropped. Gives what was answered: the
 * payload, or the name of the error. Good until the next call. */
static inline const char *talk_bytes(struct hv_xs_conn *c, uint32_t type, uint32_t tx_id, const void *payload,
                                     size_t bytes)
{
    static struct talk_message m;

    talk_send(c, type, tx_id, payload, bytes);
    do {
        if (!talk_next(c, &m))
            return "(no answer)";
    } while (m.header.type == XS_WATCH_EVENT);
    if (m.header.req_id != 77 || m.header.tx_id != tx_id || (m.header.type != type && m.header.type != XS_ERROR))
        return "(wrong answer)";
    return m.payload;
}

/* The same for strings: a NUL follows each '|' and the end of @text. */
static inline const char *talk(struct hv_xs_conn *c, uint32_t type, uint32_t tx_id, const char *text)
{
    char payload[XENSTORE_PAYLOAD_MAX];
    size_t bytes = strlen(text) + 1;

    if (bytes > sizeof(payload))
        return "(too long)";
    memcpy(payload, text, bytes);
    for (size_t i = 0; i < bytes; i++)
        if (payload[i] == '|')
            payload[i] = '\0';
    /* The value of XS_WRITE has no NUL. */
    return talk_bytes(c, type, tx_id, payload, type == XS_WRITE ? bytes - 1 : bytes);
}

/* All events that wait, as "path=token ", in order. Good until the next call. */
static inline const char *talk_events(struct hv_xs_conn *c)
{
    static char text[16384];
    struct talk_message m;

    text[0] = '\0';
    while (talk_next(c, &m)) {
        size_t used = strlen(text);
        const char *path = m.header.type == XS_WATCH_EVENT ? m.payload : "(answer)";
        const char *token = strlen(m.payload) < m.header.len ? m.payload + strlen(m.payload) + 1 : "";

        if (snprintf(text + used, sizeof(text) - used, "%s%s=%s", used ? " " : "", path, token) < 0)
            abort();
    }
    return text;
}

/* A connection that speaks for @domid. */
static inline struct hv_xs_conn *talk_connect(struct hv_xs *xs, uint16_t domid)
{
    struct hv_xs_conn *c = hv_xs_conn_new(xs, NULL);

    if (!c)
        abort();
    if (domid)
        hv_xs_conn_become(c, domid);
    return c;
}
