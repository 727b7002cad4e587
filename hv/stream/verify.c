/* The checksums of a saved domain's memory: strips of pages, which whoever has nothing to do takes next. */
#include "config.h"

#include "hv/stream/verify.h"

#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "hv/hypercall/physmap.h"

#define STRIP_PAGES 512u
#define LOOK_PAGES  32u /* read aside at a time: they stay in the processor's cache */
#define HELPERS_MAX 3u

struct strip {
    uint64_t gfn, index, count, sum; /* from its first page on: in memory, in the file, and its first checksum */
};

struct work {
    const struct hv_domain *domain;
    const struct hv_verify *what;
    struct strip *strips;
    size_t count, room;
    _Atomic size_t next;
    pthread_mutex_t lock; /* of what follows */
    struct hv_decoder *dec;
    int error; /* the first */
};

int hv_stream_read(int fd, void *bytes, size_t count, off_t offset)
{
    uint8_t *to = bytes;

    while (count) {
        ssize_t done = pread(fd, to, count, offset);

        if (done < 0 && errno == EINTR)
            continue;
        if (done <= 0)
            return done < 0 ? -errno : -ENODATA;
        to += done;
        offset += done;
        count -= (size_t)done;
    }
    return 0;
}

/* ------------------------------------------------------------------ what there is to do */

static bool is_present(const struct hv_verify *what, uint64_t index)
{
    return what->present[index / 8] >> (index % 8) & 1;
}

static uint64_t count_present(const struct hv_verify *what, uint64_t index, uint64_t count)
{
    uint64_t found = 0;

    for (uint64_t i = 0; i < count; i++)
        found += is_present(what, index + i);
    return found;
}

static bool add_strip(struct work *w, const struct strip *strip)
{
    if (w->count == w->room) {
        size_t room = w->room ? 2 * w->room : 1024;
        struct strip *strips = realloc(w->strips, room * sizeof(*strips));

        if (!strips)
            return false;
        w->strips = strips;
        w->room = room;
    }
    w->strips[w->count++] = *strip;
    return true;
}

/* Those that have a page. How many checksums they need in *@sums. */
static int make_strips(struct work *w, uint64_t *sums)
{
    uint64_t gfn = 0, index = 0, run;

    for (; (run = hv_physmap_next_run(w->domain, &gfn)); gfn += run, index += run)
        for (uint64_t i = 0, n; i < run; i += n) {
            struct strip strip = {gfn + i, index + i, n = run - i < STRIP_PAGES ? run - i : STRIP_PAGES, *sums};
            uint64_t present = count_present(w->what, strip.index, n);

            if (present && !add_strip(w, &strip))
                return -ENOMEM;
            *sums += present;
        }
    return 0;
}

/* ------------------------------------------------------------------ doing it */

__attribute__((format(printf, 2, 3))) static int fail(struct work *w, const char *format, ...)
{
    char why[HV_STREAM_ERROR_BYTES];
    va_list args;

    va_start(args, format);
    vsnprintf(why, sizeof(why), format, args);
    va_end(args);
    pthread_mutex_lock(&w->lock);
    if (!w->error)
        w->error = hv_decode_fail(w->dec, "%s", why);
    pthread_mutex_unlock(&w->lock);
    atomic_store(&w->next, w->count); /* nobody needs the rest */
    return -EBADMSG;
}

/* @pages: what there is of @count pages from @strip->index on; *@sum is the next checksum. */
static int check_pages(struct work *w, const struct strip *strip, uint64_t first, uint64_t count, const uint8_t *pages,
                       uint64_t *sum)
{
    for (uint64_t i = 0; i < count; i++) {
        uint32_t wanted;

        if (!is_present(w->what, strip->index + first + i))
            continue;
        memcpy(&wanted, w->what->sums + 4 * (*sum)++, sizeof(wanted));
        if (wanted != hv_crc32c(0, pages + i * HV_PAGE_SIZE, HV_PAGE_SIZE))
            return fail(w, "page 0x%llx is damaged", (unsigned long long)(strip->gfn + first + i));
    }
    return 0;
}

static int check_strip(struct work *w, const struct strip *strip, uint8_t *aside)
{
    uint64_t sum = strip->sum;
    int error = 0;

    if (w->what->fd < 0)
        return check_pages(w, strip, 0, strip->count, w->domain->mem.base + (strip->gfn << HV_PAGE_SHIFT), &sum);
    for (uint64_t at = 0, n; !error && at < strip->count; at += n) {
        n = strip->count - at < LOOK_PAGES ? strip->count - at : LOOK_PAGES;
        if (!count_present(w->what, strip->index + at, n))
            continue;
        error = hv_stream_read(w->what->fd, aside, n * HV_PAGE_SIZE,
                               w->what->offset + (off_t)((strip->index + at) * HV_PAGE_SIZE));
        if (error)
            return fail(w, "page 0x%llx cannot be read: %s", (unsigned long long)(strip->gfn + at), strerror(-error));
        error = check_pages(w, strip, at, n, aside, &sum);
    }
    return error;
}

static void *check_strips(void *opaque)
{
    struct work *w = opaque;
    void *aside;
    size_t i;

    if (posix_memalign(&aside, HV_PAGE_SIZE, LOOK_PAGES * HV_PAGE_SIZE)) { /* the file may be open for direct I/O */
        fail(w, "out of memory");
        return NULL;
    }
    while ((i = atomic_fetch_add(&w->next, 1)) < w->count && !check_strip(w, &w->strips[i], aside))
        ;
    free(aside);
    return NULL;
}

static unsigned helpers_for(const struct work *w)
{
    cpu_set_t cpus;
    unsigned n = sched_getaffinity(0, sizeof(cpus), &cpus) < 0 ? 0 : (unsigned)CPU_COUNT(&cpus) - 1;

    n = n < HELPERS_MAX ? n : HELPERS_MAX;
    return n < w->count ? n : 0;
}

static void check_all(struct work *w)
{
    pthread_t helpers[HELPERS_MAX];
    unsigned wanted = helpers_for(w), n = 0;

    while (n < wanted && !pthread_create(&helpers[n], NULL, check_strips, w))
        n++;
    check_strips(w);
    while (n)
        pthread_join(helpers[--n], NULL);
}

int hv_stream_verify(struct hv_domain *d, const struct hv_verify *what, struct hv_decoder *dec)
{
    struct work w = {.domain = d, .what = what, .lock = PTHREAD_MUTEX_INITIALIZER, .dec = dec};
    uint64_t sums = 0;
    int error = make_strips(&w, &sums);

    if (error)
        error = hv_decode_fail(dec, "out of memory");
    else if (sums != what->nr_sums)
        error = hv_decode_fail(dec, sums < what->nr_sums ? "there are too many checksums" : "checksums are missing");
    else
        check_all(&w);
    free(w.strips);
    return error ? error : w.error;
}
