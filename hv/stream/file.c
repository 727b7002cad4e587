/* Files that streams are written to. */
#include "config.h"

#include "hv/stream/file.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

int hv_stream_write(const struct hv_stream *s, const void *bytes, size_t count, off_t offset)
{
    const uint8_t *from = bytes;

    while (count) {
        ssize_t done = pwrite(s->fd, from, count, offset);

        if (done < 0 && errno == EINTR)
            continue;
        if (done <= 0)
            return done < 0 ? -errno : -EIO;
        from += done;
        offset += done;
        count -= (size_t)done;
    }
    return 0;
}

static size_t round_up(size_t bytes)
{
    return (bytes + HV_PAGE_MASK) & ~(size_t)HV_PAGE_MASK;
}

int hv_stream_write_padded(struct hv_stream *s, const void *bytes, size_t count, off_t offset)
{
    size_t whole = round_up(count);
    void *copy;
    int error;

    if (posix_memalign(&copy, HV_PAGE_SIZE, whole))
        return -ENOMEM;
    memcpy(copy, bytes, count);
    memset((uint8_t *)copy + count, 0, whole - count);
    error = hv_stream_write(s, copy, whole, offset);
    free(copy);
    s->status.transferred_bytes += whole;
    return error;
}

void hv_stream_cannot_write(struct hv_stream *s, int error)
{
    hv_stream_fail(s, error, "cannot write the file: %s", strerror(-error));
}

int hv_stream_file_begin(int fd, off_t *base)
{
    struct stat st;

    if (fstat(fd, &st) < 0 || !S_ISREG(st.st_mode))
        return -EINVAL;
    *base = lseek(fd, 0, SEEK_CUR);
    if (*base < 0 || *base % HV_PAGE_SIZE)
        return -EINVAL;
    return ftruncate(fd, *base) < 0 ? -errno : 0;
}

off_t hv_stream_file_place(off_t base, uint64_t index)
{
    return base + (off_t)((index + 1) * HV_PAGE_SIZE);
}

static int write_header(struct hv_stream *s, off_t base, uint64_t pages, size_t state_bytes)
{
    struct hv_stream_header header;

    hv_stream_header_init(&header, HV_STREAM_FILE);
    header.memory_offset = HV_PAGE_SIZE;
    header.memory_pages = pages;
    header.state_offset = (pages + 1) * HV_PAGE_SIZE;
    header.state_bytes = state_bytes;
    hv_stream_header_seal(&header);
    return hv_stream_write_padded(s, &header, sizeof(header), base);
}

int hv_stream_file_end(struct hv_stream *s, off_t base, uint64_t pages, const struct hv_encoder *checksums)
{
    struct hv_encoder state = {0};
    int error = checksums->failed ? -ENOMEM : hv_stream_encode_state(s->domain, checksums, &state);

    if (!error)
        error = hv_stream_write_padded(s, state.data, state.used, hv_stream_file_place(base, pages));
    if (!error)
        error = write_header(s, base, pages, state.used);
    hv_encoder_fini(&state);
    return error;
}
