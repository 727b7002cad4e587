/* After a domain was sent: whose it is. */
#pragma once

#include "hv/stream/job.h"

/* What is said on the socket, once the reply is there. */
enum hv_stream_word_type {
    HV_WORD_ASK = 1,   /* the receiver: may it run here? */
    HV_WORD_YOURS = 2, /* the sender: it does not run here any more, whatever happens */
    HV_WORD_MINE = 3,  /* the receiver: it heard that */
    /* After a channel was switched all is said in words but that the state cannot be taken, these too: */
    HV_WORD_READY = 4,   /* the receiver: it has the state */
    HV_WORD_WANTED = 5,   /* the receiver: somebody waits for the page of that number */
    HV_WORD_ALL = 6,     /* the receiver: nothing is missing any more */
};

struct hv_stream_word {
    char magic[8];
    uint32_t type; /* enum hv_stream_word_type */
    uint32_t value; /* 0 where nothing else is said */
};
_Static_assert(sizeof(struct hv_stream_word) == sizeof(struct hv_stream_record), "either can come next");

/* Says that. False: the connection is lost. Any thread. */
bool hv_stream_say(int fd, enum hv_stream_word_type type, uint32_t value);
bool hv_stream_is_word(const struct hv_stream_word *word);

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
/* Whether a part of its memory is elsewhere: it still comes, or is lost. */
bool hv_stream_is_torn(const struct hv_domain *d);
