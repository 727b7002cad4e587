/* What a guest has with the store daemon, beyond one connection: requests in flight, watches, transactions.
 * Private to the ring.
 *
 * A new connection knows nothing of the one before. So watches are remembered when the daemon has acknowledged
 * them and set again; requests that were in flight are sent once more (to do one of them twice is to do it once);
 * a transaction of the old connection fails with EAGAIN, which its owner takes as a conflict and starts anew.
 */
#pragma once

#include "hv/types.h"
#include "hv/xen-abi.h"

#define HV_STORE_IN_FLIGHT 32u

/* One whole message: header and payload. */
struct hv_store_message {
    union {
        struct xsd_sockmsg header;
        uint8_t bytes[sizeof(struct xsd_sockmsg) + XENSTORE_PAYLOAD_MAX];
    };
};

struct hv_store_session;

enum hv_store_verdict {
    HV_STORE_DELIVER, /* for the guest */
    HV_STORE_SWALLOW, /* not for the guest */
    HV_STORE_BROKEN,  /* the daemon said something that it must not */
};

int hv_store_session_new(struct hv_store_session **out) HV_MUST_CHECK;
void hv_store_session_free(struct hv_store_session *s);

/* Whether another request can be in flight. */
bool hv_store_session_has_room(const struct hv_store_session *s);
/* A request of the guest is about to be sent. False: it is not, there is an answer here (hv_store_session_answer). */
bool hv_store_session_request(struct hv_store_session *s, const struct hv_store_message *m);
/* The daemon's next message has arrived. */
enum hv_store_verdict hv_store_session_reply(struct hv_store_session *s, const struct hv_store_message *m);

/* The next message that this side sends by itself (for a new connection: watches, then requests once more), or
 * false. It is in flight then. */
bool hv_store_session_own(struct hv_store_session *s, struct hv_store_message *m);
/* The next answer to the guest that does not come from the daemon, or false. */
bool hv_store_session_answer(struct hv_store_session *s, struct hv_store_message *m);

/* The connection is lost, or replaced. @last_not_sent: the guest's last request was not sent completely, so the
 * daemon did not see it; it will come again through hv_store_session_request. */
void hv_store_session_lost(struct hv_store_session *s, bool last_not_sent);
/* The guest starts anew: nothing of what it had is left. */
void hv_store_session_reset(struct hv_store_session *s);

struct hv_decoder;
struct hv_encoder;
/* State for a stream, of a session whose connection is lost: watches, requests that are to be sent once more, answers,
 * transactions that are over. Decoding is into a new session, whose next connection goes on with them. */
void hv_store_session_encode(const struct hv_store_session *s, struct hv_encoder *e);
int hv_store_session_decode(struct hv_store_session *s, struct hv_decoder *d) HV_MUST_CHECK;
