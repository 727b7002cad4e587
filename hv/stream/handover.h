/* After a domain was sent: whose it is. */
#pragma once

#include "hv/stream/job.h"

/* What is said on the socket, once the reply is there. */
enum hv_stream_word_type {
    HV_WORD_ASK = 1,   /* the receiver: may it run here? */
    HV_WORD_YOURS = 2, /* the sender: it does not run here any more, whatever happens */
    HV_WORD_MINE = 3,  /* the receiver: it heard that */
};

struct hv_stream_word {
    char magic[8];
    uint32_t type; /* enum hv_stream_word_type */
    uint32_t reserved;
};

/* Ends the stream as done, but for the socket. */
void hv_stream_done_sending(struct hv_stream *s);
void hv_stream_done_receiving(struct hv_stream *s);

/* Receiver: asks for the domain; the status's owner tells the answer. 0, -ENOENT: it was not received, or -EPIPE: the sender
 * keeps it. */
int hv_stream_claim(struct hv_domain *d) HV_MUST_CHECK;
/* Sender: keeps it from now on. 0, also for what was not sent; -EBUSY: it was given up, unless @recall says that the other side
 * is known not to run it; -EPERM: the other side took it. */
int hv_stream_keep(struct hv_domain *d, bool recall) HV_MUST_CHECK;
/* Whether it is another's: it was received and not taken, or was given up. */
bool hv_stream_is_foreign(const struct hv_domain *d);
