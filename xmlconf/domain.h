/* domain: what an XmlconfDomain is made of. */
#pragma once

#include "xmlconf/document.h"
#include "xmlconf/xmlconf.h"

struct _XmlconfDomain {
    gatomicrefcount refs;
    /* Under the owner's lock, as is all of config. */
    xmlDoc *doc; /* what the user wrote; the values in it are config's */
    XmlconfDomainConfig config;
};

/* Writes config into @doc, domain->doc or a copy of it, and gives its text. */
char *xmlconf_domain_render(XmlconfDomain *domain, xmlDoc *doc, gboolean live);
