/* A disk, past the page cache. */
#include "guestbench.h"

#include <linux/aio_abi.h>
#include <linux/fs.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>

#define DISK_SPAN (256 * MIB) /* the part of the disk that is used */

static int disk_open(struct res *r, int write_, uint64_t *span)
{
    struct stat st;
    uint64_t size = 0;
    if (!opt_disk) {
        skip(r, "no disk");
        return -1;
    }
    if (write_ && !opt_disk_write) {
        skip(r, "disk is read only here");
        return -1;
    }
    int fd = open(opt_disk, (write_ ? O_RDWR : O_RDONLY) | O_DIRECT);
    if (fd < 0 || fstat(fd, &st)) {
        skip(r, "cannot open disk with O_DIRECT");
        return -1;
    }
    if (S_ISBLK(st.st_mode))
        ioctl(fd, BLKGETSIZE64, &size);
    else
        size = st.st_size;
    *span = size < DISK_SPAN ? size & ~(MIB - 1) : DISK_SPAN;
    if (*span < 4 * MIB) {
        skip(r, "disk is too small");
        close(fd);
        return -1;
    }
    return fd;
}

static int disk_run(struct res *r, unsigned long n, int write_, size_t bs, int random_)
{
    uint64_t span = 0, bytes = 0;
    int fd = disk_open(r, write_, &span);
    if (fd < 0)
        return 1;
    char *b = aligned_alloc(4096, bs);
    memset(b, 0x6b, bs);
    rng_seed(4242);
    double t = now();
    for (unsigned long i = 0; i < n; i++) {
        off_t o = (random_ ? rng() % (span / bs) : i % (span / bs)) * bs;
        ssize_t k = write_ ? pwrite(fd, b, bs, o) : pread(fd, b, bs, o);
        if (k != (ssize_t)bs) {
            free(b);
            close(fd);
            return skip(r, strerror(errno));
        }
        bytes += k;
    }
    if (write_)
        fdatasync(fd);
    r->sec = now() - t;
    r->ops = n;
    r->mb = bytes / 1e6;
    free(b);
    close(fd);
    return 0;
}

int w_disk_seqwrite(struct res *r, unsigned long n)
{
    return disk_run(r, n, 1, MIB, 0);
}
int w_disk_seqread(struct res *r, unsigned long n)
{
    return disk_run(r, n, 0, MIB, 0);
}
int w_disk_randwrite(struct res *r, unsigned long n)
{
    return disk_run(r, n, 1, 4096, 1);
}
int w_disk_randread(struct res *r, unsigned long n)
{
    return disk_run(r, n, 0, 4096, 1);
}

/* Random 4 KiB reads, 32 in flight. */
int w_disk_randread_qd32(struct res *r, unsigned long n)
{
    enum { QD = 32 };
    aio_context_t ctx = 0;
    struct iocb cb[QD], *cp[QD];
    struct io_event ev[QD];
    uint64_t span = 0;
    int fd = disk_open(r, 0, &span);
    if (fd < 0)
        return 1;
    if (syscall(SYS_io_setup, QD, &ctx)) {
        close(fd);
        return skip(r, "no AIO");
    }
    char *b = aligned_alloc(4096, QD * 4096);
    rng_seed(777);
    unsigned long sent = 0, got = 0;
    int freel[QD], nfree = QD, bad = 0;
    for (int i = 0; i < QD; i++)
        freel[i] = i;
    double t = now();
    while (got < n && !bad) {
        int k = 0;
        while (nfree && sent < n) {
            int i = freel[--nfree];
            memset(&cb[i], 0, sizeof cb[i]);
            cb[i].aio_fildes = fd;
            cb[i].aio_lio_opcode = IOCB_CMD_PREAD;
            cb[i].aio_buf = (uintptr_t)(b + i * 4096);
            cb[i].aio_nbytes = 4096;
            cb[i].aio_offset = rng() % (span / 4096) * 4096;
            cb[i].aio_data = i;
            cp[k++] = &cb[i];
            sent++;
        }
        for (int s = 0; s < k;) {
            long m = syscall(SYS_io_submit, ctx, k - s, cp + s);
            if (m <= 0) {
                bad = 1;
                break;
            }
            s += m;
        }
        if (bad)
            break;
        long m = syscall(SYS_io_getevents, ctx, 1, QD, ev, NULL);
        if (m <= 0)
            break;
        for (long i = 0; i < m; i++) {
            bad |= ev[i].res != 4096;
            freel[nfree++] = ev[i].data;
        }
        got += m;
    }
    r->sec = now() - t;
    syscall(SYS_io_destroy, ctx);
    free(b);
    close(fd);
    if (bad || got < n)
        return skip(r, "AIO read failed");
    r->ops = n;
    r->mb = n * 4096 / 1e6;
    return 0;
}
