/* cputune: where vCPUs run and how much they may, beyond what the rows say. */
#include "config.h"

#include "xmlconf/domain.h"
#include "xmlconf/fields.h"

static XmlconfVcpuPin *find_pin(const XmlconfCputune *tune, guint vcpu, guint *index)
{
    for (guint i = 0; tune->pins && i < tune->pins->len; i++) {
        XmlconfVcpuPin *pin = tune->pins->pdata[i];
        *index = i;
        if (pin->vcpu == vcpu)
            return pin;
    }
    return NULL;
}

gboolean xmlconf_cputune_check(const XmlconfCputune *tune, guint max_vcpus, GError **error)
{
    guint64 seen = 0;

    for (guint i = 0; tune->pins && i < tune->pins->len; i++) {
        const XmlconfVcpuPin *pin = tune->pins->pdata[i];
        const char *problem = pin->vcpu >= max_vcpus              ? "is of a vCPU that the domain does not have"
                              : seen >> pin->vcpu & 1 ? "is there more than once"
                                                      : NULL;
        if (problem) {
            g_set_error(error, XMLCONF_ERROR, XMLCONF_ERROR_XML, "element <vcpupin vcpu='%u'> %s", pin->vcpu, problem);
            return FALSE;
        }
        seen |= (guint64)1 << pin->vcpu;
    }
    return TRUE;
}

const char *xmlconf_vcpu_cpuset(const XmlconfDomainConfig *config, guint vcpu)
{
    guint index;
    const XmlconfVcpuPin *pin = find_pin(&config->cputune, vcpu, &index);

    return pin ? pin->cpuset : config->cpuset;
}

void xmlconf_domain_set_vcpu_pin(XmlconfDomain *domain, guint vcpu, const char *cpuset)
{
    XmlconfCputune *tune = &domain->config.cputune;
    guint index;
    XmlconfVcpuPin *pin = find_pin(tune, vcpu, &index);

    if (pin && !cpuset) {
        g_ptr_array_remove_index(tune->pins, index);
        return;
    }
    if (!cpuset)
        return;
    if (!pin) {
        if (!tune->pins)
            tune->pins = xmlconf_record_list_new();
        pin = xmlconf_record_list_add(tune->pins, &xmlconf_vcpu_pin_record);
        pin->vcpu = vcpu;
    }
    g_free(pin->cpuset);
    pin->cpuset = g_strdup(cpuset);
}
