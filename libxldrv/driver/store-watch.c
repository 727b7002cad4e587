/* The end of the store daemon, which running domains notice and have repaired; where none runs we notice it here. */
#include "config.h"

#include <glib-unix.h>
#include <unistd.h>

#include "libxldrv/driver/driver.h"

/* A daemon that ends again and again is started once in so long. */
#define REVIVE_SECONDS 1
#define RETRY_SECONDS  10

static void revive(XldrvDriver *driver, const XldrvReaction *reaction);

static gboolean revive_now(gpointer driver)
{
    const XldrvReaction reaction = {.fn = revive};

    xldrv_driver_react(driver, &reaction);
    return G_SOURCE_REMOVE;
}

static gboolean ended(int fd, GIOCondition condition G_GNUC_UNUSED, gpointer data)
{
    XldrvDriver *driver = data;

    g_message("the store daemon ended, starting it again");
    g_clear_pointer(&driver->store_watch, g_source_unref);
    close(fd);
    driver->store_fd = -1;
    g_timeout_add_seconds(REVIVE_SECONDS, revive_now, driver);
    return G_SOURCE_REMOVE;
}

gboolean xldrv_store_watch(XldrvDriver *driver, GError **error)
{
    driver->store_fd = xldrv_store_connect(driver->store, error);
    if (driver->store_fd < 0)
        return FALSE;
    driver->store_watch = g_unix_fd_source_new(driver->store_fd, G_IO_IN | G_IO_HUP | G_IO_ERR);
    g_source_set_callback(driver->store_watch, G_SOURCE_FUNC(ended), driver, NULL);
    g_source_attach(driver->store_watch, NULL);
    return TRUE;
}

void xldrv_store_unwatch(XldrvDriver *driver)
{
    if (!driver->store_watch)
        return;
    g_source_destroy(driver->store_watch);
    g_clear_pointer(&driver->store_watch, g_source_unref);
    close(driver->store_fd);
}

/* On the reactor: a start takes a while. */
static void revive(XldrvDriver *driver, const XldrvReaction *reaction G_GNUC_UNUSED)
{
    g_autoptr(GError) why = NULL;

    if (xldrv_store_ensure(driver->store, &why) && xldrv_store_watch(driver, &why))
        return;
    g_warning("%s", why->message);
    g_timeout_add_seconds(RETRY_SECONDS, revive_now, driver);
}
