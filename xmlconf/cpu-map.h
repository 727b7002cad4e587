/* cpu-map: what the names of CPU models and features stand for. */
#pragma once

#include "xmlconf/xmlconf.h"

typedef struct {
    char *name;
    XmlconfCpuidLeaf bits; /* all of them set: there; none: not a feature of CPUID */
    gboolean migratable;
} XmlconfCpuMapFeature;

typedef struct {
    char *name, *vendor; /* vendor: or NULL */
    gboolean guest;      /* may be given to a guest */
    XmlconfCpuFeatures features;
} XmlconfCpuMapModel;

typedef struct {
    char *name, *signature;
} XmlconfCpuMapVendor;

struct _XmlconfCpuMap {
    GArray *features; /* of XmlconfCpuMapFeature */
    GArray *models;   /* of XmlconfCpuMapModel */
    GArray *vendors;  /* of XmlconfCpuMapVendor */
};

/* -1: there is none of that name. */
int xmlconf_cpu_map_feature(const XmlconfCpuMap *map, const char *name);
const XmlconfCpuMapModel *xmlconf_cpu_map_model(const XmlconfCpuMap *map, const char *name);
const char *xmlconf_cpu_map_vendor(const XmlconfCpuMap *map, const char *signature);
static inline const XmlconfCpuMapFeature *xmlconf_cpu_map_get(const XmlconfCpuMap *map, guint feature)
{
    return &g_array_index(map->features, XmlconfCpuMapFeature, feature);
}

static inline gboolean xmlconf_cpu_has(const XmlconfCpuFeatures *set, guint feature)
{
    return set->bits[feature / 64] >> feature % 64 & 1;
}

static inline void xmlconf_cpu_add(XmlconfCpuFeatures *set, guint feature)
{
    set->bits[feature / 64] |= (guint64)1 << feature % 64;
}

static inline void xmlconf_cpu_remove(XmlconfCpuFeatures *set, guint feature)
{
    set->bits[feature / 64] &= ~((guint64)1 << feature % 64);
}
