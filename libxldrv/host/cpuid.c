/* CPUID of the host. */
#include "config.h"

#include "libxldrv/host/cpuid.h"

#include <cpuid.h>
#include <string.h>

void xldrv_host_cpuid(XmlconfCpuidLeaf leaves[XLDRV_HOST_LEAVES], char signature[13])
{
    static const guint32 which[XLDRV_HOST_LEAVES][2] = {
        {1, 0}, {7, 0}, {7, 1}, {0xd, 1}, {0x14, 0}, {0x80000001, 0}, {0x80000007, 0}, {0x80000008, 0},
    };
    guint32 max, b, c, d;

    __cpuid(0, max, b, c, d);
    memcpy(signature, &b, 4);
    memcpy(signature + 4, &d, 4);
    memcpy(signature + 8, &c, 4);
    signature[12] = '\0';
    for (guint i = 0; i < XLDRV_HOST_LEAVES; i++) {
        guint32 *regs = leaves[i].regs;
        leaves[i].leaf = which[i][0];
        leaves[i].subleaf = which[i][1];
        memset(regs, 0, sizeof(leaves[i].regs));
        __get_cpuid_count(leaves[i].leaf, leaves[i].subleaf, &regs[0], &regs[1], &regs[2], &regs[3]);
    }
}
