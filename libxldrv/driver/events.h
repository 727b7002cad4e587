/* Events for clients: who asked for which, and sending them. */
#pragma once

#include "libxldrv/driver/access.h"
#include "libxldrv/driver/domain.h"
#include "libxldrv/rpc/rpc.h"

typedef struct _XldrvEvents XldrvEvents;

/* With @access (borrowed; or NULL) clients hear only of the domains that they may see. */
XldrvEvents *xldrv_events_new(XldrvAccess *access);
void xldrv_events_free(XldrvEvents *events);

/* Registers for event @id, of all domains (@uuid NULL) or one. Counts once the reply to @call is on its way, so
 * that no event overtakes it. The callback id, or -1 with an error. */
int xldrv_events_register(XldrvEvents *events, XldrvCall *call, int id, const guint8 *uuid,
                          GError **error);
gboolean xldrv_events_deregister(XldrvEvents *events, XldrvClient *client, int callback, GError **error);

/* The older interface: one registration per event and client, without callback id. */
gboolean xldrv_events_register_legacy(XldrvEvents *events, XldrvCall *call, int id, GError **error);
gboolean xldrv_events_deregister_legacy(XldrvEvents *events, XldrvClient *client, int id, GError **error);

/* Ends all registrations of a client that is gone. */
void xldrv_events_forget_client(XldrvEvents *events, XldrvClient *client);

/* @event and @detail are of virDomainEventType. Any thread; a client gets the events in the order of the
 * calls, so whoever changes a domain sends under its job. */
void xldrv_event_lifecycle(XldrvEvents *events, XldrvDomain *domain, int event, int detail);
/* The domain as @wire (xldrv_domain_to_wire) had it, which may have had another name. */
void xldrv_event_lifecycle_as(XldrvEvents *events, XldrvDomain *domain, GVariant *wire, int event, int detail);
void xldrv_event_reboot(XldrvEvents *events, XldrvDomain *domain);
void xldrv_event_control_error(XldrvEvents *events, XldrvDomain *domain);
void xldrv_event_metadata_change(XldrvEvents *events, XldrvDomain *domain, int type, const char *uri);
/* A migration has begun pass @iteration, from 1 on, through memory. */
void xldrv_event_migration_iteration(XldrvEvents *events, XldrvDomain *domain, int iteration);
/* A long job was completed: its statistics, a(sv); floating. */
void xldrv_event_job_completed(XldrvEvents *events, XldrvDomain *domain, GVariant *params);
/* Limits were changed: @params is a list of typed parameters, a(sv); floating. */
void xldrv_event_tunable(XldrvEvents *events, XldrvDomain *domain, GVariant *params);
/* A drive's tray: @open or closed. */
void xldrv_event_tray(XldrvEvents *events, XldrvDomain *domain, const char *alias, gboolean open);
/* What became of a block job: @type is of virDomainBlockJobType, @status of virConnectDomainEventBlockJobStatus. Both events of
 * libvirt's, the one by the image's path, the other by the disk's target. */
void xldrv_event_block_job(XldrvEvents *events, XldrvDomain *domain, const char *path, const char *target, int type, int status);
/* The file at @path, of disk @target, was written @excess bytes beyond @threshold. */
void xldrv_event_block_threshold(XldrvEvents *events, XldrvDomain *domain, const char *target, const char *path,
                                 guint64 threshold, guint64 excess);
/* An image failed and the domain waits; both events of libvirt's. @reason is "enospc" or "". */
void xldrv_event_io_error(XldrvEvents *events, XldrvDomain *domain, const char *source, const char *alias,
                          const char *reason);
/* A guest's watchdog has fired: @action is of virDomainEventWatchdogAction. */
void xldrv_event_watchdog(XldrvEvents *events, XldrvDomain *domain, int action);
/* A VNC client came, was let in, or went. */
struct xldrv_vnc_message;
void xldrv_event_graphics(XldrvEvents *events, XldrvDomain *domain, const struct xldrv_vnc_message *what);
/* The guest gave or took memory and has @kib now. */
void xldrv_event_balloon_change(XldrvEvents *events, XldrvDomain *domain, guint64 kib);
/* A guest's agent came or went: @state and @reason are of virConnectDomainEventAgentLifecycle{State,Reason}. */
void xldrv_event_agent_lifecycle(XldrvEvents *events, XldrvDomain *domain, int state, int reason);
/* A device came, went, or did not go: @id is VIR_DOMAIN_EVENT_ID_DEVICE_ADDED, _REMOVED or _REMOVAL_FAILED. */
void xldrv_event_device(XldrvEvents *events, XldrvDomain *domain, int id, const char *alias);
