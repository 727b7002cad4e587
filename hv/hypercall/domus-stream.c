/* domus_op on streams. ABI: hv/hv.h. */
#include "config.h"

#include "hv/hypercall/domus-stream.h"

#include <stdio.h>
#include <string.h>

#include "hv/control/control.h"
#include "hv/stream/handover.h"
#include "hv/stream/job.h"

/* The one descriptor of a call, for a domain that runs, or is to be made. */
static long check(const struct hv_caller *c, bool built)
{
    if (!c->domain)
        return -XEN_ESRCH;
    if (c->nr_fds != 1)
        return -XEN_EINVAL;
    if (c->control->built == built)
        return 0;
    return built ? -XEN_EINVAL : -XEN_EEXIST;
}

static long hand_over(struct hv_caller *c, long error)
{
    if (!error)
        c->fds[0] = -1;
    return error;
}

long hv_domus_save(struct hv_caller *c, const uint64_t args[5], void *arg)
{
    long error = check(c, true);

    (void)args, (void)arg;
    return error ? error : hand_over(c, hv_stream_save(c->domain, c->fds[0]));
}

long hv_domus_save_live(struct hv_caller *c, const uint64_t args[5], void *arg)
{
    long error = check(c, true);

    (void)args, (void)arg;
    return error ? error : hand_over(c, hv_stream_save_live(c->domain, c->fds[0]));
}

long hv_domus_dump(struct hv_caller *c, const uint64_t args[5], void *arg)
{
    const struct domus_dump *dump = arg;
    long error = check(c, true);

    (void)args;
    if (!error && (dump->flags & ~(uint32_t)DOMUS_DUMP_LIVE || dump->reserved))
        error = -XEN_EINVAL;
    return error ? error : hand_over(c, hv_stream_dump(c->domain, c->fds[0], dump->flags));
}

static bool limits_valid(const struct domus_stream_limits *limits)
{
    const uint32_t known = DOMUS_STREAM_CONVERGE | DOMUS_STREAM_COMPRESS | DOMUS_STREAM_SWITCHABLE;
    const uint32_t not_both = DOMUS_STREAM_COMPRESS | DOMUS_STREAM_SWITCHABLE;

    return !(limits->flags & ~known) && (limits->flags & not_both) != not_both && !limits->reserved;
}

long hv_domus_send(struct hv_caller *c, const uint64_t args[5], void *arg)
{
    long error = check(c, true);

    (void)args;
    if (!error && !limits_valid(arg))
        error = -XEN_EINVAL;
    return error ? error : hand_over(c, hv_stream_send(c->domain, c->fds[0], arg));
}

/* A domain that was read half is good for nothing but destroydomain. */
long hv_domus_restore(struct hv_caller *c, const uint64_t args[5], void *arg)
{
    struct domus_restore *restore = arg;
    long error = check(c, false);

    (void)args;
    memset(restore->error, 0, sizeof(restore->error));
    if (!error && (restore->flags & ~(uint32_t)DOMUS_RESTORE_COPY || restore->reserved || !c->domain->nr_vcpus ||
                   c->domain->frozen))
        error = -XEN_EINVAL;
    if (!error)
        error = hv_stream_restore(c->domain, c->fds[0], restore->flags, restore->error);
    if (!error)
        c->control->built = true;
    return error; /* the file is mapped, or read */
}

long hv_domus_receive(struct hv_caller *c, const uint64_t args[5], void *arg)
{
    long error = check(c, false);

    (void)args, (void)arg;
    if (!error && (!c->domain->nr_vcpus || c->domain->frozen))
        error = -XEN_EINVAL;
    return error ? error : hand_over(c, hv_stream_receive(c->domain, c->fds[0]));
}

long hv_domus_stream_status(struct hv_caller *c, const uint64_t args[5], void *arg)
{
    (void)args;
    if (!c->domain)
        return -XEN_ESRCH;
    hv_stream_get_status(c->domain, arg);
    return 0;
}

long hv_domus_stream_limits(struct hv_caller *c, const uint64_t args[5], void *arg)
{
    struct hv_stream *s = c->domain ? c->domain->stream : NULL;

    (void)args;
    if (!s || !s->own || !s->ops->set_limits)
        return -XEN_ENOENT;
    return limits_valid(arg) ? s->ops->set_limits(s, arg) : -XEN_EINVAL;
}

long hv_domus_stream_end(struct hv_caller *c, const uint64_t args[5], void *arg)
{
    (void)args, (void)arg;
    if (!c->domain)
        return -XEN_ESRCH;
    return hv_stream_end(c->domain);
}

long hv_domus_stream_switch(struct hv_caller *c, const uint64_t args[5], void *arg)
{
    (void)args, (void)arg;
    return c->domain ? hv_stream_switch(c->domain) : -XEN_ESRCH;
}

long hv_domus_stream_claim(struct hv_caller *c, const uint64_t args[5], void *arg)
{
    (void)args, (void)arg;
    return c->domain ? hv_stream_claim(c->domain) : -XEN_ESRCH;
}

long hv_domus_stream_keep(struct hv_caller *c, const uint64_t args[5], void *arg)
{
    (void)args, (void)arg;
    return c->domain ? hv_stream_keep(c->domain, false) : -XEN_ESRCH;
}

long hv_domus_stream_recall(struct hv_caller *c, const uint64_t args[5], void *arg)
{
    (void)args, (void)arg;
    return c->domain ? hv_stream_keep(c->domain, true) : -XEN_ESRCH;
}
