/* admin: the program that virt-admin speaks: who is connected, limits, threads, certificates. */
#pragma once

#include "libxldrv/rpc/rpc.h"

typedef struct _XldrvAdmin XldrvAdmin;

/* Of the log's filters and its outputs: as text, and how many there are; and the other way round. */
typedef struct {
    struct {
        char *(*get)(guint *n);
        gboolean (*set)(const char *text, GError **error);
    } filters, outputs;
} XldrvAdminLog;

typedef struct {
    XldrvServer *server;          /* that is administered, beside the admin server itself */
    XldrvTls *tls;                /* what it listens with, or NULL */
    const XldrvAdminLog *log;     /* NULL: there is none that can be changed */
    void (*quit)(gpointer data);  /* ends the daemon: nobody was connected for as long as asked for */
    gpointer data;
} XldrvAdminOptions;

/* A server of its own, named "admin", to be listened with; what @options points to must stay. Main loop. */
XldrvAdmin *xldrv_admin_new(const XldrvLimits *limits, const XldrvAdminOptions *options);
/* Before the server that it administers. Takes NULL. */
void xldrv_admin_free(XldrvAdmin *admin);
/* Borrowed. */
XldrvServer *xldrv_admin_server(XldrvAdmin *admin);
