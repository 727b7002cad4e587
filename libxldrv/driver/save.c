/* Saving to files and restoring from them. */
#include "config.h"

#include "libxldrv/driver/save.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "libxldrv/driver/blockjob.h"
#include "libxldrv/driver/handlers.h"
#include "libxldrv/driver/hooks.h"
#include "libxldrv/driver/longjob.h"
#include "libxldrv/driver/saved.h"
#include "libxldrv/driver/target.h"
#include "libxldrv/driver/wire.h"
#include "libxldrv/state/files.h"

#define SAVE_FLAGS (VIR_DOMAIN_SAVE_BYPASS_CACHE | VIR_DOMAIN_SAVE_RUNNING | VIR_DOMAIN_SAVE_PAUSED)
#define SUFFIX     ".save"

/* What a client wants to become of it. */
static gboolean check_save_flags(guint flags, guint supported, const char *function, GError **error)
{
    return xldrv_check_flags(flags, supported, function, error) &&
           xldrv_check_exclusive(flags, VIR_DOMAIN_SAVE_RUNNING | VIR_DOMAIN_SAVE_PAUSED,
                                 "VIR_DOMAIN_SAVE_RUNNING and VIR_DOMAIN_SAVE_PAUSED", error);
}

static gboolean is_to_run(guint flags, gboolean otherwise)
{
    if (flags & (VIR_DOMAIN_SAVE_RUNNING | VIR_DOMAIN_SAVE_PAUSED))
        return (flags & VIR_DOMAIN_SAVE_RUNNING) != 0;
    return otherwise;
}

/* ---- saving */

static char *format_live(XmlconfDomain *domain, GError **error)
{
    g_autoptr(GError) why = NULL;
    char *xml = xmlconf_domain_format(domain, XMLCONF_FORMAT_SECURE | XMLCONF_FORMAT_STATUS, &why);

    if (!xml)
        xldrv_set_xml_error(error, g_steal_pointer(&why));
    return xml;
}

typedef struct {
    XldrvDriver *driver;
    XldrvJob *job;
    XldrvSaved *saved;
    gboolean live;
    struct domus_stream_status status;
} Saving;

static int save_domain(struct domctl *ctl, gpointer data)
{
    const Saving *saving = data;

    return (saving->live ? domctl_save_live : domctl_save)(ctl, saving->saved->fd);
}

static gboolean write_file(int fd, gpointer data, GError **error)
{
    Saving *saving = data;
    XldrvDriver *driver = saving->driver;
    XldrvJob *job = saving->job;
    XldrvSaved *saved = saving->saved;

    saved->fd = fd;
    if (lseek(saved->fd, (off_t)xldrv_saved_head_bytes(saved->xml), SEEK_SET) < 0)
        return xldrv_set_system_error(error, errno, "cannot write the saved domain");
    if (!xldrv_instance_control(job->instance, "save", save_domain, saving, error) ||
        !xldrv_stream_wait(job, "save", &saving->status, error))
        return FALSE;
    /* Nothing changes any more: what the domain has in the store now is what its memory knows of. */
    saved->store = xldrv_store_read_tree(driver->store, xldrv_instance_id(job->instance), error);
    return saved->store && xldrv_saved_write_head(saved->fd, saved, error);
}

gboolean xldrv_save_memory(XldrvDriver *driver, XldrvJob *job, const XldrvSaveTo *to, struct domus_stream_status *status,
                           GError **error)
{
    g_auto(XldrvSaved) saved = {.fd = -1, .running = to->running, .id = xldrv_instance_id(job->instance)};
    Saving saving = {.driver = driver, .job = job, .saved = &saved, .live = to->live};
    gboolean ok;

    saved.xml = to->xml ? g_strdup(to->xml) : format_live(job->live, error);
    if (!saved.xml)
        return FALSE;
    ok = xldrv_target_write(to->path, to->direct, write_file, &saving, error);
    saved.fd = -1; /* it was lent */
    *status = saving.status;
    if (!ok)
        xldrv_stream_end(job->instance);
    return ok;
}

/* On failure the guest goes on as if nothing had been asked. */
static gboolean save(XldrvDriver *driver, XldrvJob *job, const char *path, const char *xml, guint flags, GError **error)
{
    const XldrvSaveTo to = {
        .path = path,
        .xml = xml,
        .running = is_to_run(flags, job->state == VIR_DOMAIN_RUNNING),
        .direct = (flags & VIR_DOMAIN_SAVE_BYPASS_CACHE) != 0,
    };
    struct domus_stream_status status;
    gboolean ok;

    xldrv_longjob_begin(job, VIR_DOMAIN_JOB_OPERATION_SAVE);
    ok = xldrv_save_memory(driver, job, &to, &status, error);
    xldrv_longjob_end(driver, job, ok ? &status : NULL);
    if (ok)
        xldrv_stop(driver, job, VIR_DOMAIN_SHUTOFF_SAVED, VIR_DOMAIN_EVENT_STOPPED_SAVED, FALSE);
    return ok;
}

static XldrvJob *begin_save(GVariant *args, GError **error)
{
    g_autoptr(XldrvDomain) domain = xldrv_args_domain(args, error);
    g_autoptr(XldrvJobGuard) job = domain ? xldrv_job_begin(domain, "save", error) : NULL;

    if (!job)
        return NULL;
    if (job->instance && (job->state == VIR_DOMAIN_RUNNING || job->state == VIR_DOMAIN_PAUSED))
        return xldrv_blockjob_check_domain(job, error) ? g_steal_pointer(&job) : NULL;
    xldrv_set_error(error, VIR_ERR_OPERATION_INVALID, "domain is not running");
    return NULL;
}

/* Another configuration for the same domain. */
static char *check_xml(const XmlconfDomainConfig *now, const char *xml, GError **error)
{
    g_autoptr(XmlconfDomain) domain = xldrv_parse_xml(xml, FALSE, error);
    const XmlconfDomainConfig *wanted = domain ? xmlconf_domain_config(domain) : NULL;

    if (!wanted)
        return NULL;
    if (strcmp(wanted->uuid, now->uuid) || strcmp(wanted->name, now->name) || wanted->max_vcpus != now->max_vcpus ||
        wanted->memory_kib != now->memory_kib) {
        xldrv_set_error(error, VIR_ERR_CONFIG_UNSUPPORTED,
                        "the XML is of another domain than '%s', or of other vCPUs or memory: a domain that goes on keeps "
                        "these",
                        now->name);
        return NULL;
    }
    return format_live(domain, error);
}

static GVariant *handle_save(GVariant *args, const char *to, const char *xml, guint flags, const char *function,
                             GError **error)
{
    g_autoptr(XldrvJobGuard) job = NULL;
    g_autofree char *checked = NULL;

    if (!check_save_flags(flags, SAVE_FLAGS, function, error) || !xldrv_target_check(to, error))
        return NULL;
    job = begin_save(args, error);
    if (!job)
        return NULL;
    if (xml && !(checked = check_xml(xmlconf_domain_config(job->live), xml, error)))
        return NULL;
    return save(xldrv_driver_get(), job, to, checked, flags, error) ? xldrv_reply_void() : NULL;
}

GVariant *xldrv_handle_domain_save(XldrvCall *call G_GNUC_UNUSED, GVariant *args, GError **error)
{
    return handle_save(args, xldrv_args_string(args, 1), NULL, 0, G_STRFUNC, error);
}

GVariant *xldrv_handle_domain_save_flags(XldrvCall *call G_GNUC_UNUSED, GVariant *args, GError **error)
{
    return handle_save(args, xldrv_args_string(args, 1), xldrv_args_optional_string(args, 2), xldrv_args_u32(args, 3),
                       G_STRFUNC, error);
}

/* File and XML of typed parameters; others are refused. Borrowed from @params. */
static gboolean read_params(GVariant *params, const char **file, const char **xml, GError **error)
{
    GVariantIter iter;
    const char *name;
    GVariant *value;

    g_variant_iter_init(&iter, params);
    while (g_variant_iter_next(&iter, "(&sv)", &name, &value)) {
        gboolean is_string = g_variant_is_of_type(value, G_VARIANT_TYPE_STRING);
        const char *text = is_string ? g_variant_get_string(value, NULL) : NULL;
        gboolean known = TRUE;

        if (is_string && strcmp(name, VIR_DOMAIN_SAVE_PARAM_FILE) == 0)
            *file = text;
        else if (is_string && strcmp(name, VIR_DOMAIN_SAVE_PARAM_DXML) == 0)
            *xml = text;
        else
            known = FALSE;
        g_variant_unref(value); /* the list keeps it */
        if (!known)
            return xldrv_set_error(error, VIR_ERR_INVALID_ARG, "parameter '%s' not supported", name);
    }
    return TRUE;
}

GVariant *xldrv_handle_domain_save_params(XldrvCall *call G_GNUC_UNUSED, GVariant *args, GError **error)
{
    g_autoptr(GVariant) params = g_variant_get_child_value(args, 1);
    const char *file = NULL, *xml = NULL;

    if (!read_params(params, &file, &xml, error))
        return NULL;
    return handle_save(args, file, xml, xldrv_args_u32(args, 2), G_STRFUNC, error);
}

/* ---- restoring */

XmlconfDomain *xldrv_saved_parse(const char *xml, GError **error)
{
    g_autoptr(GError) why = NULL;
    XmlconfDomain *domain = xmlconf_domain_parse(xml, XMLCONF_PARSE_LIVE, &why);

    if (!domain)
        xldrv_set_xml_error(error, g_steal_pointer(&why));
    return domain;
}

static gboolean start_saved(XldrvDriver *driver, XldrvJob *job, XmlconfDomain *domain, const XldrvSaved *saved, gboolean direct,
                            gboolean running, const XldrvStartOptions *options, GError **error)
{
    const XldrvIncoming incoming = {
        .fd = saved->fd,
        .copy = direct,
        .id = saved->id,
        .store = saved->store,
        .event_detail = VIR_DOMAIN_EVENT_STARTED_RESTORED,
        .run_reason = VIR_DOMAIN_RUNNING_RESTORED,
        .paused_reason = VIR_DOMAIN_PAUSED_USER,
        .paused_detail = VIR_DOMAIN_EVENT_SUSPENDED_RESTORED,
    };
    XldrvStartOptions with = *options;

    with.paused = !running;
    with.incoming = &incoming;
    return xldrv_start(driver, job, domain, &with, error);
}

static gboolean restore(XldrvCall *call, GVariant *args, const char *path, const char *xml, guint flags, GError **error)
{
    XldrvDriver *driver = xldrv_driver_get();
    gboolean direct = flags & VIR_DOMAIN_SAVE_BYPASS_CACHE;
    const XldrvStartOptions options = {0};
    g_auto(XldrvSaved) saved = {.fd = -1};
    g_autoptr(XmlconfDomain) domain = NULL;
    g_autoptr(XldrvJobGuard) job = NULL;
    g_autofree char *checked = NULL;
    const XmlconfDomainConfig *config;

    if (!xldrv_saved_open(path, direct, &saved, error))
        return FALSE;
    domain = xldrv_saved_parse(saved.xml, error);
    if (domain && xml) {
        checked = check_xml(xmlconf_domain_config(domain), xml, error);
        g_clear_pointer(&domain, xmlconf_domain_unref);
        domain = checked ? xldrv_saved_parse(checked, error) : NULL;
    }
    if (!domain)
        return FALSE;
    if (!xldrv_access_check_config(call, args, xmlconf_domain_config(domain), error) ||
        !xldrv_hooks_change(driver, &domain, "restore", error))
        return FALSE;
    config = xmlconf_domain_config(domain);
    job = xldrv_domains_claim(driver->domains, config->uuid, config->name, "restore", error);
    if (!job)
        return FALSE;
    if (job->instance)
        return xldrv_set_error(error, VIR_ERR_OPERATION_INVALID, "domain '%s' is already active", job->name);
    if (start_saved(driver, job, domain, &saved, direct, is_to_run(flags, saved.running), &options, error))
        return TRUE;
    if (!job->config)
        xldrv_domains_remove(driver->domains, job);
    return FALSE;
}

static GVariant *handle_restore(XldrvCall *call, GVariant *args, const char *from, const char *xml, guint flags,
                                const char *function, GError **error)
{
    if (!check_save_flags(flags, SAVE_FLAGS, function, error))
        return NULL;
    if (!from) {
        xldrv_set_error(error, VIR_ERR_INVALID_ARG, "the saved domain's file is missing");
        return NULL;
    }
    return restore(call, args, from, xml, flags, error) ? xldrv_reply_void() : NULL;
}

GVariant *xldrv_handle_domain_restore(XldrvCall *call, GVariant *args, GError **error)
{
    return handle_restore(call, args, xldrv_args_string(args, 0), NULL, 0, G_STRFUNC, error);
}

GVariant *xldrv_handle_domain_restore_flags(XldrvCall *call, GVariant *args, GError **error)
{
    return handle_restore(call, args, xldrv_args_string(args, 0), xldrv_args_optional_string(args, 1),
                          xldrv_args_u32(args, 2), G_STRFUNC, error);
}

GVariant *xldrv_handle_domain_restore_params(XldrvCall *call, GVariant *args, GError **error)
{
    g_autoptr(GVariant) params = g_variant_get_child_value(args, 0);
    const char *file = NULL, *xml = NULL;

    if (!read_params(params, &file, &xml, error))
        return NULL;
    return handle_restore(call, args, file, xml, xldrv_args_u32(args, 1), G_STRFUNC, error);
}

/* ---- the XML in a file */

static char *image_xml(XldrvCall *call, GVariant *args, const char *path, guint flags, GError **error)
{
    g_auto(XldrvSaved) saved = {.fd = -1};
    g_autoptr(XmlconfDomain) domain = NULL;
    g_autoptr(GError) why = NULL;
    char *xml;

    if (!xldrv_saved_open(path, FALSE, &saved, error))
        return NULL;
    domain = xldrv_saved_parse(saved.xml, error);
    if (!domain || !xldrv_access_check_config(call, args, xmlconf_domain_config(domain), error))
        return NULL;
    xml = xmlconf_domain_format(domain, XMLCONF_FORMAT_INACTIVE |
                                            (flags & VIR_DOMAIN_SAVE_IMAGE_XML_SECURE ? XMLCONF_FORMAT_SECURE : 0),
                                &why);
    if (!xml)
        xldrv_set_xml_error(error, g_steal_pointer(&why));
    return xml;
}

static gboolean define_image(XldrvCall *call, GVariant *args, const char *path, const char *xml, guint flags,
                             const char *function, GError **error)
{
    g_auto(XldrvSaved) saved = {.fd = -1};
    g_autoptr(XmlconfDomain) domain = NULL;
    g_autofree char *checked = NULL;

    if (!check_save_flags(flags, VIR_DOMAIN_SAVE_RUNNING | VIR_DOMAIN_SAVE_PAUSED, function, error) ||
        !xldrv_saved_open(path, FALSE, &saved, error))
        return FALSE;
    domain = xldrv_saved_parse(saved.xml, error);
    if (!domain || !xldrv_access_check_config(call, args, xmlconf_domain_config(domain), error))
        return FALSE;
    checked = check_xml(xmlconf_domain_config(domain), xml, error);
    return checked && xldrv_saved_change(path, checked, is_to_run(flags, saved.running), error);
}

GVariant *xldrv_handle_domain_save_image_get_xml_desc(XldrvCall *call, GVariant *args, GError **error)
{
    guint flags = xldrv_args_u32(args, 1);
    g_autofree char *xml = xldrv_check_flags(flags, VIR_DOMAIN_SAVE_IMAGE_XML_SECURE, G_STRFUNC, error)
                               ? image_xml(call, args, xldrv_args_string(args, 0), flags, error)
                               : NULL;

    return xml ? xldrv_reply_string(xml) : NULL;
}

GVariant *xldrv_handle_domain_save_image_define_xml(XldrvCall *call, GVariant *args, GError **error)
{
    return define_image(call, args, xldrv_args_string(args, 0), xldrv_args_string(args, 1), xldrv_args_u32(args, 2), G_STRFUNC,
                        error)
               ? xldrv_reply_void()
               : NULL;
}

/* ---- managed saves */

static char *managed_dir(const XldrvDriver *driver)
{
    return g_build_filename(driver->paths->state_dir, "save", NULL);
}

char *xldrv_managed_path(const XldrvDriver *driver, const char *name)
{
    g_autofree char *dir = managed_dir(driver);

    return xldrv_file_path(dir, name, SUFFIX, NULL);
}

gboolean xldrv_managed_has(const XldrvDriver *driver, const char *name)
{
    g_autofree char *path = xldrv_managed_path(driver, name);

    return path && access(path, F_OK) == 0;
}

gboolean xldrv_managed_remove(const XldrvDriver *driver, const char *name, GError **error)
{
    g_autofree char *path = xldrv_managed_path(driver, name);

    return !path || xldrv_file_remove(path, error);
}

void xldrv_managed_rename(const XldrvDriver *driver, const char *from, const char *to)
{
    g_autofree char *old_path = xldrv_managed_path(driver, from), *new_path = xldrv_managed_path(driver, to);

    if (old_path && new_path && rename(old_path, new_path) < 0 && errno != ENOENT)
        g_warning("managed save '%s': %s", old_path, g_strerror(errno));
}

static gboolean start_managed(XldrvDriver *driver, XldrvJob *job, const char *path, const XldrvStartOptions *options,
                              gboolean direct, GError **error)
{
    g_auto(XldrvSaved) saved = {.fd = -1};
    g_autoptr(XmlconfDomain) domain = NULL;

    if (!xldrv_saved_open(path, direct, &saved, error))
        return FALSE;
    domain = xldrv_saved_parse(saved.xml, error);
    if (!domain)
        return FALSE;
    if (strcmp(xmlconf_domain_config(domain)->uuid, job->uuid_text))
        return xldrv_set_error(error, VIR_ERR_OPERATION_FAILED, "managed save '%s' is of another domain", path);
    if (!start_saved(driver, job, domain, &saved, direct, saved.running && !options->paused, options, error))
        return FALSE;
    if (unlink(path) < 0)
        g_warning("managed save '%s': %s", path, g_strerror(errno));
    return TRUE;
}

gboolean xldrv_managed_start(XldrvDriver *driver, XldrvJob *job, const XldrvStartOptions *options, gboolean force_boot,
                             gboolean direct, GError **error)
{
    g_autofree char *path = xldrv_managed_path(driver, job->name);

    if (force_boot && !xldrv_managed_remove(driver, job->name, error))
        return FALSE;
    if (!path || access(path, F_OK) < 0)
        return xldrv_start(driver, job, job->config, options, error);
    return start_managed(driver, job, path, options, direct, error);
}

GVariant *xldrv_handle_domain_managed_save(XldrvCall *call G_GNUC_UNUSED, GVariant *args, GError **error)
{
    XldrvDriver *driver = xldrv_driver_get();
    guint flags = xldrv_args_u32(args, 1);
    g_autoptr(XldrvJobGuard) job = NULL;
    g_autofree char *dir = managed_dir(driver), *path = NULL;

    if (!check_save_flags(flags, SAVE_FLAGS, G_STRFUNC, error) || !(job = begin_save(args, error)))
        return NULL;
    if (!job->config) {
        xldrv_set_error(error, VIR_ERR_OPERATION_INVALID, "cannot do managed save for transient domain");
        return NULL;
    }
    path = xldrv_managed_path(driver, job->name);
    if (g_mkdir_with_parents(dir, 0700) < 0) {
        xldrv_set_system_error(error, errno, "cannot make '%s'", dir);
        return NULL;
    }
    return save(driver, job, path, NULL, flags, error) ? xldrv_reply_void() : NULL;
}

/* The path of the managed save of a call's domain, which has to be there. */
static char *managed_of(GVariant *args, GError **error)
{
    g_autoptr(XldrvDomain) domain = xldrv_args_domain(args, error);
    g_autofree char *name = domain ? xldrv_domain_get_name(domain) : NULL;

    if (!name)
        return NULL;
    if (xldrv_managed_has(xldrv_driver_get(), name))
        return xldrv_managed_path(xldrv_driver_get(), name);
    xldrv_set_error(error, VIR_ERR_OPERATION_INVALID, "domain does not have managed save image");
    return NULL;
}

GVariant *xldrv_handle_domain_has_managed_save_image(XldrvCall *call G_GNUC_UNUSED, GVariant *args, GError **error)
{
    g_autoptr(XldrvDomain) domain = NULL;
    g_autofree char *name = NULL;

    if (!xldrv_check_flags(xldrv_args_u32(args, 1), 0, G_STRFUNC, error))
        return NULL;
    domain = xldrv_args_domain(args, error);
    if (!domain)
        return NULL;
    name = xldrv_domain_get_name(domain);
    return xldrv_reply_int(xldrv_managed_has(xldrv_driver_get(), name));
}

GVariant *xldrv_handle_domain_managed_save_remove(XldrvCall *call G_GNUC_UNUSED, GVariant *args, GError **error)
{
    g_autoptr(XldrvDomain) domain = NULL;
    g_autoptr(XldrvJobGuard) job = NULL;

    if (!xldrv_check_flags(xldrv_args_u32(args, 1), 0, G_STRFUNC, error))
        return NULL;
    domain = xldrv_args_domain(args, error);
    job = domain ? xldrv_job_begin(domain, "remove the managed save of", error) : NULL;
    return job && xldrv_managed_remove(xldrv_driver_get(), job->name, error) ? xldrv_reply_void() : NULL;
}

GVariant *xldrv_handle_domain_managed_save_get_xml_desc(XldrvCall *call, GVariant *args, GError **error)
{
    guint flags = xldrv_args_u32(args, 1);
    g_autofree char *path = NULL, *xml = NULL;

    if (!xldrv_check_flags(flags, VIR_DOMAIN_SAVE_IMAGE_XML_SECURE, G_STRFUNC, error) || !(path = managed_of(args, error)))
        return NULL;
    xml = image_xml(call, args, path, flags, error);
    return xml ? xldrv_reply_string(xml) : NULL;
}

GVariant *xldrv_handle_domain_managed_save_define_xml(XldrvCall *call, GVariant *args, GError **error)
{
    const char *xml = xldrv_args_optional_string(args, 1);
    g_autofree char *path = managed_of(args, error);

    if (!path)
        return NULL;
    if (!xml) {
        xldrv_set_error(error, VIR_ERR_INVALID_ARG, "the XML is missing");
        return NULL;
    }
    return define_image(call, args, path, xml, xldrv_args_u32(args, 2), G_STRFUNC, error) ? xldrv_reply_void() : NULL;
}
