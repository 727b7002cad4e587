/* Looks into a guest's memory. */
#include "config.h"

#include <errno.h>

#include "libxldrv/driver/driver.h"
#include "libxldrv/driver/handlers.h"
#include "libxldrv/driver/lookup.h"
#include "libxldrv/driver/wire.h"

/* As many as a reply may have. */
#define PEEK_MAX 4194304

typedef struct {
    guint64 address;
    guint32 bytes, flags; /* of domctl_peek */
    guint8 *buffer;
    gboolean absent; /* not all of it is memory */
} Peek;

static int peek(struct domctl *ctl, gpointer data)
{
    Peek *p = data;
    int error = domctl_peek(ctl, p->address, p->buffer, p->bytes, p->flags);

    p->absent = error == -EFAULT || error == -EINVAL;
    return p->absent ? 0 : error;
}

static gboolean check(guint32 bytes, guint32 flags, GError **error)
{
    if (flags != VIR_MEMORY_VIRTUAL && flags != VIR_MEMORY_PHYSICAL)
        return xldrv_set_error(error, VIR_ERR_INVALID_ARG,
                               "flags parameter must be VIR_MEMORY_VIRTUAL or VIR_MEMORY_PHYSICAL");
    if (bytes > PEEK_MAX)
        return xldrv_set_error(error, VIR_ERR_INVALID_ARG, "%u bytes are more than the %d of one call", bytes, PEEK_MAX);
    return TRUE;
}

GVariant *xldrv_handle_domain_memory_peek(XldrvCall *call G_GNUC_UNUSED, GVariant *args, GError **error)
{
    guint32 flags = xldrv_args_u32(args, 3);
    Peek what = {.address = xldrv_args_u64(args, 1), .bytes = xldrv_args_u32(args, 2),
                 .flags = flags == VIR_MEMORY_VIRTUAL ? DOMUS_PEEK_VIRTUAL : 0};
    g_autoptr(XldrvDomain) domain = NULL;
    g_autoptr(XldrvInstance) instance = NULL;
    g_autofree guint8 *buffer = NULL;

    if (!check(what.bytes, flags, error))
        return NULL;
    domain = xldrv_args_domain(args, error);
    instance = domain ? xldrv_domain_get_instance(domain, error) : NULL;
    if (!instance)
        return NULL;
    what.buffer = buffer = g_malloc(what.bytes);
    if (!xldrv_instance_control(instance, "memory peek", peek, &what, error))
        return NULL;
    if (what.absent) {
        xldrv_set_error(error, VIR_ERR_INVALID_ARG, "domain '%s' has no memory at all of the %u bytes from %s address 0x%llx on",
                        domain->name, what.bytes, what.flags ? "virtual" : "physical", (unsigned long long)what.address);
        return NULL;
    }
    return g_variant_new("(@ay)", g_variant_new_fixed_array(G_VARIANT_TYPE_BYTE, buffer, what.bytes, 1));
}
