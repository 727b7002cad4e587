/* api-name: what users know a procedure as. */
#pragma once

/* The function of libvirt's API behind procedure @procedure, "virDomainGetXMLDesc" of "DOMAIN_GET_XML_DESC". New. */
char *xldrv_api_name(const char *procedure);
