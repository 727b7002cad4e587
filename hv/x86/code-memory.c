/* Memory for generated code: one memory file, mapped twice. */
#include "config.h"

#include "hv/x86/code-memory.h"

#include <errno.h>
#include <sys/mman.h>
#include <unistd.h>

static int map_twice(struct hv_code_memory *code, int fd, size_t bytes)
{
    void *write, *exec;

    if (ftruncate(fd, (off_t)bytes) < 0)
        return -errno;
    write = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_NORESERVE, fd, 0);
    if (write == MAP_FAILED)
        return -errno;
    exec = mmap(NULL, bytes, PROT_READ | PROT_EXEC, MAP_SHARED | MAP_NORESERVE, fd, 0);
    if (exec == MAP_FAILED) {
        int error = errno;

        munmap(write, bytes);
        return -error;
    }
    *code = (struct hv_code_memory){.write = write, .exec = exec, .bytes = bytes};
    return 0;
}

int hv_code_memory_init(struct hv_code_memory *code, size_t bytes)
{
    int fd = memfd_create("hv-code", MFD_CLOEXEC);
    int ret;

    *code = (struct hv_code_memory){0};
    if (fd < 0)
        return -errno;
    ret = map_twice(code, fd, bytes);
    close(fd);
    return ret;
}

void hv_code_memory_fini(struct hv_code_memory *code)
{
    if (!code->write)
        return;
    munmap(code->write, code->bytes);
    munmap(code->exec, code->bytes);
    *code = (struct hv_code_memory){0};
}
