/* Sockets, cores, threads and NUMA cells of the host. */
#pragma once

#include "xmlconf/xmlconf.h"

/* Fills the counts and the cells. */
void xldrv_topology_fill(XmlconfHost *host);
void xldrv_topology_clear(XmlconfHost *host);
