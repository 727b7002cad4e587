/* Kernel files with random damage: whatever the bytes, the loader gives an error or a loaded kernel, and
 * touches nothing outside the domain's memory (which the sanitizers and the end of the mapping watch).
 *
 * loader-fuzz [SEED [ROUNDS]] is deterministic; `make check` replays a short run.
 */
#include "config.h"

#include <stdio.h>

#include "hv/fuzz.h"
#include "hv/loader/loader.h"
#include "hv/loader/sample.h"
#include "hv/tap.h"

#define RAM_PAGES 4096u

/* Values that tend to be on some edge. */
static uint32_t edge(void)
{
    static const uint32_t edges[] = {0, 1, 0x7fffffff, 0x80000000, 0xffffffff, 0xfffff000, 0x1000, 0x10000};

    return edges[fuzz_random(HV_ARRAY_LEN(edges))];
}

static void damage(uint8_t *bytes, size_t *count, size_t interesting)
{
    unsigned changes = 1 + fuzz_random(4);

    while (changes--) {
        uint32_t where = fuzz_random(fuzz_random(4) ? (uint32_t)interesting : (uint32_t)*count);
        uint32_t value = edge();

        switch (fuzz_random(4)) {
        case 0:
            bytes[where] ^= (uint8_t)(1u << fuzz_random(8));
            break;
        case 1:
            bytes[where] = (uint8_t)fuzz_random(256);
            break;
        case 2:
            if (where + 4 <= *count)
                memcpy(bytes + where, &value, 4);
            break;
        default:
            if (fuzz_random(8) == 0)
                *count = 1 + where;
            break;
        }
        if (*count < interesting)
            return;
    }
}

static size_t make_kernel(uint8_t *out)
{
    static uint8_t elf[SAMPLE_MAX_BYTES];
    bool wide = fuzz_random(4) != 0;
    size_t bytes = wide ? sample_elf64(elf, XEN_ELFNOTE_PHYS32_ENTRY) : sample_elf32(elf, XEN_ELFNOTE_PHYS32_ENTRY);
    size_t packed;

    if (fuzz_random(2) == 0) { /* damage the ELF file, then perhaps pack it */
        damage(elf, &bytes, SAMPLE_NOTE_OFFSET + 64 < bytes ? SAMPLE_NOTE_OFFSET + 64 : bytes);
        if (fuzz_random(2) == 0) {
            memcpy(out, elf, bytes);
            return bytes;
        }
        return sample_bzimage(elf, bytes, sample_packers[fuzz_random(HV_ARRAY_LEN(sample_packers))].pack, out);
    }
    packed = sample_bzimage(elf, bytes, sample_packers[fuzz_random(HV_ARRAY_LEN(sample_packers))].pack, out);
    damage(out, &packed, SAMPLE_PAYLOAD_AT + 64 < packed ? SAMPLE_PAYLOAD_AT + 64 : packed);
    return packed;
}

int main(int argc, char **argv)
{
    static uint8_t bytes[SAMPLE_MAX_BYTES];
    unsigned long seed = argc > 1 ? strtoul(argv[1], NULL, 0) : 1;
    unsigned long rounds = argc > 2 ? strtoul(argv[2], NULL, 0) : 1500, loaded_count = 0;
    struct hv_domain *d = calloc(1, sizeof(*d));

    if (!d || pthread_mutex_init(&d->lock, NULL) || hv_memory_init(&d->mem) < 0)
        return 99;
    d->nr_vcpus = 1;
    d->mem.max_pages = RAM_PAGES;
    if (hv_memory_populate(&d->mem, hv_gfn_of(0), RAM_PAGES) < 0)
        return 99;
    fuzz_seed(seed);
    for (unsigned long i = 0; i < rounds; i++) {
        struct hv_loaded out;
        char error[256];
        int fd = sample_file(bytes, make_kernel(bytes));
        int err = hv_loader_pvh(d, fd, fuzz_random(8) ? -1 : fd, "x", &out, error);

        close(fd);
        if (err == 0)
            loaded_count++;
        else if (!error[0] || memchr(error, 0, sizeof(error)) == NULL) {
            TAP_OK(false, "seed %lu round %lu: error %d without a message", seed, i, err);
            break;
        }
    }
    TAP_OK(loaded_count > 0 && loaded_count < rounds, "%lu rounds from seed %lu, %lu of them loaded", rounds, seed,
           loaded_count);
    hv_memory_fini(&d->mem);
    free(d);
    return tap_done();
}
