/* mailbox: a queue of functions to run, and the source that runs them. */
#include "config.h"

#include "libxldrv/rpc/mailbox.h"

typedef struct {
    XldrvLetterFn fn;
    gpointer data;
} Letter;

struct _XldrvMailbox {
    gatomicrefcount refs;
    GMutex lock;
    GQueue letters;  /* under lock */
    gboolean closed; /* under lock */
    GSource *source; /* under lock; NULL once closed */
};

/* Letters posted while these are opened wait for the next turn of the loop, so that others get
 * theirs. */
static void open_letters(XldrvMailbox *mailbox)
{
    g_mutex_lock(&mailbox->lock);
    GQueue letters = mailbox->letters;
    g_queue_init(&mailbox->letters);
    g_mutex_unlock(&mailbox->lock);

    Letter *letter;
    while ((letter = g_queue_pop_head(&letters))) {
        letter->fn(letter->data);
        g_free(letter);
    }
}

static gboolean on_ready(gpointer data)
{
    XldrvMailbox *mailbox = data;
    /* First, so that a letter posted from here on wakes the loop again. */
    g_source_set_ready_time(mailbox->source, -1);
    open_letters(mailbox);
    return G_SOURCE_CONTINUE;
}

static gboolean dispatch_source(GSource *source G_GNUC_UNUSED, GSourceFunc callback, gpointer data)
{
    return callback(data);
}

static GSourceFuncs source_funcs = {.dispatch = dispatch_source};

XldrvMailbox *xldrv_mailbox_new(GMainContext *context)
{
    XldrvMailbox *mailbox = g_new0(XldrvMailbox, 1);
    g_atomic_ref_count_init(&mailbox->refs);
    g_mutex_init(&mailbox->lock);
    g_queue_init(&mailbox->letters);
    mailbox->source = g_source_new(&source_funcs, sizeof(GSource));
    g_source_set_static_name(mailbox->source, "xldrv-mailbox");
    g_source_set_callback(mailbox->source, on_ready, mailbox, NULL);
    g_source_attach(mailbox->source, context);
    return mailbox;
}

XldrvMailbox *xldrv_mailbox_ref(XldrvMailbox *mailbox)
{
    g_atomic_ref_count_inc(&mailbox->refs);
    return mailbox;
}

void xldrv_mailbox_unref(XldrvMailbox *mailbox)
{
    if (!g_atomic_ref_count_dec(&mailbox->refs))
        return;
    g_mutex_clear(&mailbox->lock);
    g_free(mailbox);
}

void xldrv_mailbox_post(XldrvMailbox *mailbox, XldrvLetterFn fn, gpointer data)
{
    g_mutex_lock(&mailbox->lock);
    gboolean closed = mailbox->closed;
    if (!closed) {
        Letter *letter = g_new(Letter, 1);
        *letter = (Letter){fn, data};
        g_queue_push_tail(&mailbox->letters, letter);
        g_source_set_ready_time(mailbox->source, 0);
    }
    g_mutex_unlock(&mailbox->lock);
    if (closed)
        fn(data);
}

void xldrv_mailbox_close(XldrvMailbox *mailbox)
{
    open_letters(mailbox);
    g_mutex_lock(&mailbox->lock);
    mailbox->closed = TRUE;
    g_source_destroy(mailbox->source);
    g_clear_pointer(&mailbox->source, g_source_unref);
    g_mutex_unlock(&mailbox->lock);
    open_letters(mailbox);
}
