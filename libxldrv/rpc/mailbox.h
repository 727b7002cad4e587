/* mailbox: how other threads reach the main loop. Letters are opened in the order in which they
 * were posted. */
#pragma once

#include <glib.h>

typedef struct _XldrvMailbox XldrvMailbox; /* reference-counted */
typedef void (*XldrvLetterFn)(gpointer data);

XldrvMailbox *xldrv_mailbox_new(GMainContext *context);
XldrvMailbox *xldrv_mailbox_ref(XldrvMailbox *mailbox);
void xldrv_mailbox_unref(XldrvMailbox *mailbox);

/* Has @fn run on the main loop; at once on this thread if the mailbox is closed. Any thread. */
void xldrv_mailbox_post(XldrvMailbox *mailbox, XldrvLetterFn fn, gpointer data);
/* Opens all letters and stops using the main loop. Main loop only. */
void xldrv_mailbox_close(XldrvMailbox *mailbox);
