/* From a definition to a running domain and back. All of these are called with the domain's job. */
#pragma once

#include "libxldrv/driver/driver.h"
#include "libxldrv/state/status.h"

/* A domain that is not booted, but goes on from a stream (hv/stream). */
typedef struct {
    int fd;          /* a file, from where the stream begins on; -1: it comes through a socket, xldrv_start_receive */
    gboolean copy;   /* a file's memory is read, not mapped */
    int id;          /* that the guest knows itself by: its own if it is free; 0: any */
    GVariant *store; /* what it had in the store: xldrv_store_read_tree; NULL: told by xldrv_start_finish */
    int event_detail;           /* virDomainEventStartedDetailType */
    int run_reason;             /* virDomainRunningReason */
    int paused_reason;          /* virDomainPausedReason */
    int paused_detail;          /* virDomainEventSuspendedDetailType */
    gboolean *taken;            /* set when the domain is this host's, whatever fails later; or NULL */
} XldrvIncoming;

typedef struct {
    gboolean paused;
    guint64 owner; /* client whose end destroys it; 0: none */
    const XldrvIncoming *incoming; /* NULL: it boots */
} XldrvStartOptions;

/* Starts the claimed or published domain as @config says (which is copied) and publishes it. When a step
 * fails everything before it is undone, and the error names what was wrong. */
gboolean xldrv_start(XldrvDriver *driver, XldrvJob *job, XmlconfDomain *config,
                     const XldrvStartOptions *options, GError **error);

/* The same in two steps, for a domain that comes from elsewhere: begin makes it as far as nothing of it is used that the other
 * side still has (@job, @config and @options have to stay until the end), prepare (which may be left out) what can be there
 * before it comes, from what it has in the store of the other side, then receive gives it the socket, and finish,
 * which waits until all has come, or cancel ends it. */
typedef struct _XldrvStart XldrvStart;
XldrvStart *xldrv_start_begin(XldrvDriver *driver, XldrvJob *job, XmlconfDomain *config, const XldrvStartOptions *options,
                              GError **error);
gboolean xldrv_start_receive(XldrvStart *start, int fd, GError **error);
gboolean xldrv_start_prepare(XldrvStart *start, GVariant *store, GError **error); /* frees it when it fails */
/* @store is what it has there at the end; NULL: what prepare was told. Frees it. */
gboolean xldrv_start_finish(XldrvStart *start, GVariant *store, gboolean paused, GError **error);
void xldrv_start_cancel(XldrvStart *start);

/* Makes @config the definition of the claimed domain, on disk and here. define.c */
gboolean xldrv_set_definition(XldrvDriver *driver, XldrvJob *job, XmlconfDomain *config, GError **error);
/* Takes it away; @flags are those of undefine. define.c */
gboolean xldrv_remove_definition(XldrvDriver *driver, XldrvJob *job, guint flags, GError **error);

/* Ends a running domain: shut off for @reason (virDomainShutoffReason), event stopped with @detail. A
 * transient domain is gone afterwards unless @keep. */
void xldrv_stop(XldrvDriver *driver, XldrvJob *job, int reason, int detail, gboolean keep);

/* Ends a running domain at once and starts it again as it was, with the devices that it had; paused if it was. A failure
 * leaves it shut off. react.c */
gboolean xldrv_reset(XldrvDriver *driver, XldrvJob *job, GError **error);
/* Ends a running domain as above and starts it anew; if that fails it is shut off. react.c */
gboolean xldrv_restart(XldrvDriver *driver, XldrvJob *job, int reason, int detail, GError **error);

/* Its owner's end no longer matters: for a domain that was to be started again after a stop that kept it. */
void xldrv_forget_owner(XldrvDriver *driver, XldrvJob *job);

/* Removes what a domain has on the host beside its process: store, sockets, status. */
void xldrv_clean_up(XldrvDriver *driver, const XldrvStatus *status);

/* Unpauses what runs of the domain and puts its vCPUs, which may have threads only now, where they belong. */
gboolean xldrv_let_run(XldrvDriver *driver, XldrvJob *job, XldrvInstance *instance, const XmlconfDomainConfig *config,
                       GError **error);

/* What the guest may have from now on. */
gboolean xldrv_limit_memory(XldrvInstance *instance, guint64 kib, GError **error);

/* What the status file says of the state, for the next daemon. */
void xldrv_save_running_state(XldrvDriver *driver, XldrvJob *job, int state, int reason);
/* Sets the state, here and in the status file. */
void xldrv_set_running_state(XldrvDriver *driver, XldrvJob *job, int state, int reason);

/* Files in the run directory, by UUID: names never get too long for what has to hold them. */
char *xldrv_control_name(const XldrvDomain *domain);
char *xldrv_process_name(const XldrvDomain *domain);
char *xldrv_run_path(const XldrvDriver *driver, const char *name);

/* For xldrv_instance_watch, with a domain as its data: queues what has to be done. */
void xldrv_react_to_instance(XldrvInstance *instance, guint event, guint64 arg, gpointer domain);
/* Beside its events: what shows the domain (display.h) is gone. */
#define XLDRV_DISPLAY_LOST (XLDRV_INSTANCE_LOST - 2)
/* Watches the instance for the domain. */
gboolean xldrv_watch(XldrvDomain *domain, XldrvInstance *instance, GError **error);

/* Tells of disks that wait after an error, and that the domain is paused for them. FALSE: there are none. */
gboolean xldrv_pause_for_io_error(XldrvDriver *driver, XldrvJob *job);

/* Connects a running domain to the store daemon anew. */
gboolean xldrv_reattach_store(XldrvDriver *driver, XldrvInstance *instance, GError **error);

/* At daemon start: what is on disk. */
void xldrv_recover(XldrvDriver *driver);
