/* domain: what an XmlconfDomain is made of. */
#pragma once

#include "xmlconf/document.h"
#include "xmlconf/xmlconf.h"

struct _XmlconfDomain {
    gatomicrefcount refs;
    guint64 serial;
    /* Under the owner's lock, as is all of config. */
    xmlDoc *doc; /* what the user wrote; the values in it are config's */
    XmlconfDomainConfig config;
};
