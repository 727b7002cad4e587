/* What the host's CPU says of itself. */
#pragma once

#include "xmlconf/xmlconf.h"

#define XLDRV_HOST_LEAVES 8

/* Those that carry features; @signature is that of leaf 0. */
void xldrv_host_cpuid(XmlconfCpuidLeaf leaves[XLDRV_HOST_LEAVES], char signature[13]);
