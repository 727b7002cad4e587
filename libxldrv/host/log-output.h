/* Where the log goes. */
#pragma once

#include <glib.h>

typedef struct _XldrvLogOutput XldrvLogOutput;

/* Of "LEVEL:KIND[:WHAT]", opened; NULL with an error that names it. */
XldrvLogOutput *xldrv_log_output_new(const char *text, GError **error);
void xldrv_log_output_free(XldrvLogOutput *output);
/* As it was made. */
const char *xldrv_log_output_text(const XldrvLogOutput *output);
/* Writes a message of @level (log.h) if it takes such. */
void xldrv_log_output_write(XldrvLogOutput *output, guint level, GLogLevelFlags flags, const GLogField *fields,
                            gsize n_fields, const char *message);
