/* What domusd and a domus-migrate tell each other: on descriptor 3 of the latter, in GVariant's own form, the request and then,
 * when the migration is over, the reply; each ends with its direction of the socket. */
#pragma once

#define XLDRV_MIGRATE_FD 3
/* Tunnelled: a socket that the domain is sent to, and what its receiver says comes from. */
#define XLDRV_MIGRATE_TUNNEL_FD 4

/* URI of the domusd that asks, URI of the destination, UUID, typed parameters, virDomainMigrateFlags. */
#define XLDRV_MIGRATE_REQUEST "(sssa(sv)u)"
/* virErrorNumber (VIR_ERR_OK: it went well), virErrorDomain, the text. */
#define XLDRV_MIGRATE_REPLY "(iis)"
