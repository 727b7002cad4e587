/* Runs qemu-img. */
#include "config.h"

#include "libxldrv/host/qemu-img.h"

#include <string.h>

#include "libxldrv/rpc/rpc.h"

#define PROGRAM "qemu-img"

/* What it complained about: the last line, without its name. */
static const char *complaint_of(char *text)
{
    char *line;

    g_strstrip(text);
    line = strrchr(text, '\n');
    line = line ? line + 1 : text;
    return g_str_has_prefix(line, PROGRAM ": ") ? line + strlen(PROGRAM ": ") : line;
}

gboolean xldrv_qemu_img(const char *const *arguments, char **output, GError **error)
{
    g_autofree char *program = g_find_program_in_path(PROGRAM);
    g_autoptr(GPtrArray) argv = g_ptr_array_new();
    g_autofree char *out = NULL, *err = NULL;
    g_autoptr(GError) why = NULL;
    int status = 0;

    if (!program)
        return xldrv_set_error(error, VIR_ERR_OPERATION_FAILED,
                               "cannot find program '" PROGRAM "', which images that are not raw need (Debian package "
                               "qemu-utils)");
    g_ptr_array_add(argv, program);
    for (; *arguments; arguments++)
        g_ptr_array_add(argv, (gpointer)*arguments);
    g_ptr_array_add(argv, NULL);
    if (!g_spawn_sync(NULL, (char **)argv->pdata, NULL, G_SPAWN_DEFAULT, NULL, NULL, &out, &err, &status, &why) ||
        !g_spawn_check_wait_status(status, &why))
        return xldrv_set_error(error, VIR_ERR_OPERATION_FAILED, "%s", err && *err ? complaint_of(err) : why->message);
    if (output)
        *output = g_steal_pointer(&out);
    return TRUE;
}
