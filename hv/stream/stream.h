/* Streams: a domain as bytes, in a save file or on the way to another host.
 *
 * A stream is a header, the contents of the guest's memory, and state: a row of records. What a record holds is the
 * business of the part of the machine that it is about; parts are listed in one table (state.c), in the order in which
 * they are loaded. Inside a record, structures are lists of numbered fields, made and read from tables (codec.h), so
 * that what is saved and what is loaded cannot differ.
 *
 * Two layouts:
 *
 *      file        header | memory, a page of the file for each page of RAM, holes for zeroes | state
 *      channel     header | record "RAM" ... | record "pages" ... | state
 *
 * A file's header is written last, so a file that was not finished has none; its memory lies at multiples of the page
 * size, so that a restored domain runs with the file mapped and pages come in when they are touched. In a channel, where
 * there is RAM is told first, so that the receiver makes it in one piece; pages are sent again when the guest changed them
 * meanwhile, and are read from the socket to where they belong.
 *
 * A channel may be switched (post-copy): the guest stops, and its state goes before the rest of memory. Where a record "missing"
 * comes before the state, it tells which pages are still to come; these follow the state, and a record "end" them.
 *
 * Everything is little-endian and checked: the header, each record and each page have a CRC-32C of their own. A reader
 * refuses what is damaged, cut short, not a stream, or of another version, says which, and leaves a domain that cannot be
 * run. A peer is not trusted: counts are capped, and no value gets into the machine that the guest could not have put
 * there itself.
 *
 * How a domain is written: save.c (file), send.c (channel, while it runs), push.c (after it was switched). How it comes back:
 * restore.c, receive.c, fetch.c. All of these are machines on the event loop; freeze.c stops a domain's vCPUs and backends in a state that can be written.
 * Devices are not made by a stream: the toolstack attaches them as at the start of a domain, and each finds its state
 * (devices.c) and goes on where it was, with no help from the guest.
 */
#pragma once

#include "hv/domain.h"
#include "hv/stream/codec.h"

#define HV_STREAM_MAGIC   "DomusHV"
#define HV_STREAM_VERSION 1u

enum hv_stream_layout { HV_STREAM_FILE = 1, HV_STREAM_CHANNEL = 2 };

struct hv_stream_header {
    char magic[8]; /* HV_STREAM_MAGIC */
    uint32_t version;
    uint32_t layout;
    uint32_t page_bytes;
    uint32_t header_bytes;
    uint64_t memory_offset, memory_pages; /* file: from the header's start; pages of RAM */
    uint64_t state_offset, state_bytes;   /* file */
    uint32_t reserved;
    uint32_t crc; /* of what is before it */
};
_Static_assert(sizeof(struct hv_stream_header) == 64, "header of a stream");

/* Kinds of records. Numbers are never used again for something else. */
enum hv_stream_record_type {
    HV_RECORD_END = 1, /* in a channel: after the pages that were missing */
    HV_RECORD_PAGES = 2, /* channel: struct hv_stream_pages */
    HV_RECORD_STATE = 3, /* channel: all records from here on */
    HV_RECORD_RAM = 4,   /* channel: how many pages are rings and tables; runs of RAM, as it is now: first page, how many */
    HV_RECORD_MARK = 5, /* channel: a number, not 0, which the receiver sends back when it has all that was before it */
    HV_RECORD_CODE = 6, /* channel: which code the guest will want (code.c); of no consequence but for time */
    HV_RECORD_PACKED = 7, /* channel: as "pages", what follows the entries by zstd, of which it is one frame */
    /* Channel: pages that come after the state, at least 0; only such records, and the state, follow. The number of a word of 64
     * pages, and such words, a bit for each page. */
    HV_RECORD_MISSING = 8,
    HV_RECORD_SPARSE = 9, /* channel: as "pages", what follows the entries is as sparse.h has it */
    HV_RECORD_DOMAIN = 16,
    HV_RECORD_CPUID = 17,
    HV_RECORD_MEMORY = 18, /* which pages there are */
    HV_RECORD_CHECKSUMS = 19, /* file: of the pages */
    HV_RECORD_TIME = 20,
    HV_RECORD_PARAMS = 21,
    HV_RECORD_SHARED_INFO = 22,
    HV_RECORD_GRANTS = 23,
    HV_RECORD_EVTCHN = 24,
    HV_RECORD_SCHED = 25,
    HV_RECORD_VCPU = 26, /* instance: the vCPU's number */
    HV_RECORD_CONSOLE = 27,
    HV_RECORD_STORE = 28,
    HV_RECORD_DEVICES = 29,
};

struct hv_stream_record {
    uint16_t type;     /* enum hv_stream_record_type */
    uint16_t instance; /* which vCPU, or 0 */
    uint32_t crc;      /* of type, instance, bytes and what follows */
    uint64_t bytes;    /* that follow */
};
_Static_assert(sizeof(struct hv_stream_record) == 16, "header of a record");

/* The payload of a PAGES record: the number of pages, an entry for each (page number << 12, with HV_STREAM_PAGE_ZERO for one
 * of zeroes), and the contents of those that are not zero. */
#define HV_STREAM_PAGES_MAX  256u
#define HV_STREAM_PAGE_ZERO  1u
#define HV_STREAM_PAGES_BYTES_MAX (8u + HV_STREAM_PAGES_MAX * (8u + HV_PAGE_SIZE))
#define HV_STREAM_RAM_RUNS_MAX    4096u /* in one record; a balloon may have left more */
#define HV_STREAM_MISSING_MAX     4096u /* words in one record */

/* What who receives answers to a mark, when it has all, or when it cannot go on. */
struct hv_stream_reply {
    char magic[8]; /* HV_STREAM_MAGIC */
    int32_t error; /* 0, or a negative errno */
    uint32_t mark; /* 0: it has all */
    char text[240];
};

/* What a reader takes of state at most: all shared pages, and room for the rest; in a file also 5 bytes for each page. */
#define HV_STREAM_STATE_MAX (64u << 20)

#define HV_STREAM_ERROR_BYTES 256

/* header.c */
void hv_stream_header_init(struct hv_stream_header *header, enum hv_stream_layout layout);
void hv_stream_header_seal(struct hv_stream_header *header);
/* 0, or a negative errno with the reason in @error. */
int hv_stream_header_check(const struct hv_stream_header *header, enum hv_stream_layout layout,
                           char error[HV_STREAM_ERROR_BYTES]) HV_MUST_CHECK;
uint32_t hv_stream_record_crc(const struct hv_stream_record *record, const void *payload);
/* The same for a payload in pieces: this, and then hv_crc32c over each of them. */
uint32_t hv_stream_record_crc_begin(const struct hv_stream_record *record);

/* state.c. The domain is frozen. Appends all of its state, records and all, to @e; @checksums (may be NULL) is what the
 * record of that name has. 0 or -ENOMEM. */
int hv_stream_encode_state(struct hv_domain *d, const struct hv_encoder *checksums, struct hv_encoder *e) HV_MUST_CHECK;
/* Appends one record. */
void hv_stream_encode_record(struct hv_encoder *e, enum hv_stream_record_type type, const void *payload, size_t bytes);
/* Called when the domain has its RAM, still without contents or with those that came before. @checksums: of the pages
 * that a file has, empty otherwise. */
typedef int hv_stream_memory_fn(struct hv_domain *d, struct hv_decoder *checksums, void *opaque);
/* The opposite, for a new domain that has its vCPUs. A negative errno with the reason in @error leaves a domain that
 * must not run. */
int hv_stream_decode_state(struct hv_domain *d, const void *state, size_t bytes, hv_stream_memory_fn *memory, void *opaque,
                           char error[HV_STREAM_ERROR_BYTES]) HV_MUST_CHECK;
