/* A stream of bytes over several connections, its stripes: for those that speak to a socket and know nothing of it.
 *
 * What comes first arrives first, whichever connection it takes, so the stream inside needs no care of its own: a page that was
 * sent twice never ends as its older copy. What goes back (little) takes the first connection.
 *
 *   stripes.c         moves bytes
 *   stripes-gather.c  finds the connections of one stream together
 */
#pragma once

#include <glib.h>

#define XLDRV_STRIPES_MAX        64u
#define XLDRV_STRIPES_WORD_CHARS 32

/* What the sender says on each connection: the word that both know, which connection it is, and of how many. The receiver
 * answers with one byte, or ends it. */
#define XLDRV_STRIPE_MAGIC "DomusST"
#define XLDRV_STRIPE_TAKEN 0x06
typedef struct {
    char magic[8];
    char word[XLDRV_STRIPES_WORD_CHARS];
    guint32 number, count; /* little-endian, as all here */
} XldrvStripeHello;

/* Each piece of the stream. */
#define XLDRV_STRIPE_FRAME_MAGIC 0x46745344u
#define XLDRV_STRIPE_FRAME_BYTES (128u << 10)
typedef struct {
    guint32 magic;
    guint32 bytes;  /* that follow: 1 to XLDRV_STRIPE_FRAME_BYTES */
    guint64 number; /* from 0 on, in the order of the stream */
} XldrvStripeFrame;

/* The sender: says hello on connection @number of @count, and waits some seconds at most until it is taken: before the
 * next one is made, so that many of them neither overrun the receiver nor share one limit. FALSE with an error. */
gboolean xldrv_stripes_greet(int fd, guint number, guint count, const char *word, GError **error);
/* The receiver: waits at @listen_fd for @count connections that know the word, until *@stop. Others are dropped, also those that
 * say nothing for long. FALSE: it was stopped. */
gboolean xldrv_stripes_gather(int listen_fd, const char *word, int *fds, guint count, const gint *stop);

/* The socket that is returned carries what is inside, and is moved by threads until either end of it or any of the connections
 * breaks, for as long as this process lives. Takes the sockets in any case. -1 with an error. */
int xldrv_stripes_send(const int *fds, guint count, GError **error);
int xldrv_stripes_receive(const int *fds, guint count, GError **error);
void xldrv_stripes_close(const int *fds, guint count);
