/* The list of engines. */
#include "config.h"

#include "hv/engine/engine.h"

#include <string.h>

/* The best first. */
static const struct hv_engine_ops *const engines[] = {
    &hv_engine_bt,
    &hv_engine_interp,
};

const struct hv_engine_ops *hv_engine_find(const char *name)
{
    bool any = strcmp(name, "auto") == 0;

    for (size_t i = 0; i < HV_ARRAY_LEN(engines); i++)
        if (any ? !engines[i]->available || engines[i]->available()
                : strcmp(engines[i]->name, name) == 0)
            return engines[i];
    return NULL;
}

const char *hv_engine_name(size_t index)
{
    return index < HV_ARRAY_LEN(engines) ? engines[index]->name : NULL;
}
