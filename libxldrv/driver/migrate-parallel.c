/* Migration over several connections. */
#include "config.h"

#include <unistd.h>

#include "libxldrv/driver/migrate.h"
#include "libxldrv/host/stripes.h"
#include "libxldrv/rpc/rpc.h"

G_STATIC_ASSERT(XLDRV_COOKIE_WORD_CHARS == XLDRV_STRIPES_WORD_CHARS);

/* One after the other; the first one is there. */
static gboolean connect_all(const XldrvMigration *migration, const char *word, int *fds, GError **error)
{
    guint count = (guint)migration->connections;

    for (guint i = 0; i < count; i++) {
        if (fds[i] < 0)
            fds[i] = xldrv_migration_connect(migration->uri, error);
        if (fds[i] < 0 || !xldrv_stripes_greet(fds[i], i, count, word, error))
            return FALSE;
    }
    return TRUE;
}

int xldrv_migration_spread(const XldrvMigration *migration, const XldrvCookie *prepared, int fd, GError **error)
{
    guint count = (guint)migration->connections;
    int fds[XLDRV_STRIPES_MAX] = {fd};

    for (guint i = 1; i < count; i++)
        fds[i] = -1;
    if (!*prepared->word)
        xldrv_set_error(error, VIR_ERR_OPERATION_FAILED, "the destination has not prepared for several connections");
    else if (connect_all(migration, prepared->word, fds, error))
        return xldrv_stripes_send(fds, count, error);
    xldrv_stripes_close(fds, count);
    return -1;
}

int xldrv_migration_gather(int listen_fd, guint connections, const char *word, const gint *stop, GError **error)
{
    int fds[XLDRV_STRIPES_MAX];

    if (!xldrv_stripes_gather(listen_fd, word, fds, connections, stop))
        return -1;
    for (guint i = 0; i < connections; i++)
        xldrv_migration_tune_socket(fds[i]);
    return xldrv_stripes_receive(fds, connections, error);
}
