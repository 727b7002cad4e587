/* filter-binding: the rows of <filterbinding>, and of the parameters that it shares with <interface>. */
#include "config.h"

#include "xmlconf/document.h"
#include "xmlconf/fields.h"

#define PARAMETER(member) .offset = G_STRUCT_OFFSET(XmlconfFilterParameter, member)
static const XmlconfField parameter_fields[] = {
    {"@name", &xmlconf_value_string, PARAMETER(name), .flags = XMLCONF_FIELD_REQUIRED},
    {"@value", &xmlconf_value_string, PARAMETER(value), .flags = XMLCONF_FIELD_REQUIRED},
};

const XmlconfRecord xmlconf_filter_parameter_record = {.element = "parameter",
                                                       .size = sizeof(XmlconfFilterParameter),
                                                       .fields = parameter_fields,
                                                       .n_fields = G_N_ELEMENTS(parameter_fields)};

#define BINDING(member) .offset = G_STRUCT_OFFSET(XmlconfFilterBinding, member)
static const XmlconfField fields[] = {
    {"owner/name", &xmlconf_value_string, BINDING(owner_name)},
    {"owner/uuid", &xmlconf_value_string, BINDING(owner_uuid)},
    {"portdev@name", &xmlconf_value_string, BINDING(port)},
    {"linkdev@name", &xmlconf_value_string, BINDING(link)},
    {"mac@address", &xmlconf_value_string, BINDING(mac)},
    {"filterref@filter", &xmlconf_value_string, BINDING(filter)},
    {"filterref/parameter", .flags = XMLCONF_FIELD_LIST, BINDING(parameters),
     .record = &xmlconf_filter_parameter_record, .max = XMLCONF_MAX_FILTER_PARAMETERS},
};

static const XmlconfRecord binding_record = {.element = "filterbinding",
                                             .size = sizeof(XmlconfFilterBinding),
                                             .fields = fields,
                                             .n_fields = G_N_ELEMENTS(fields)};

char *xmlconf_filter_binding_format(const XmlconfFilterBinding *binding)
{
    return xmlconf_record_format(&binding_record, binding);
}
