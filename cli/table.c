/* table: columns as wide as their widest cell. */
#include "config.h"

#include "cli/cli.h"

#include <string.h>

struct _CliTable {
    guint n_columns;
    GPtrArray *rows; /* of GStrv; the first is the titles */
};

char *cli_printable(const char *text)
{
    g_autofree char *valid = g_utf8_make_valid(text, -1);
    GString *out = g_string_new(NULL);

    for (const char *p = valid; *p; p = g_utf8_next_char(p)) {
        gunichar c = g_utf8_get_char(p);
        if (g_unichar_iscntrl(c))
            g_string_append_printf(out, "\\x%02x", c);
        else
            g_string_append_unichar(out, c);
    }
    return g_string_free(out, FALSE);
}

static guint text_width(const char *text)
{
    guint width = 0;

    for (const char *p = text; *p; p = g_utf8_next_char(p)) {
        gunichar c = g_utf8_get_char(p);
        width += g_unichar_iszerowidth(c) ? 0 : g_unichar_iswide(c) ? 2 : 1;
    }
    return width;
}

static void free_row(gpointer row)
{
    g_strfreev(row);
}

CliTable *cli_table_new(const char *const *titles)
{
    CliTable *table = g_new0(CliTable, 1);

    table->n_columns = g_strv_length((char **)titles);
    table->rows = g_ptr_array_new_with_free_func(free_row);
    cli_table_add(table, titles);
    return table;
}

void cli_table_add(CliTable *table, const char *const *cells)
{
    char **row = g_new0(char *, table->n_columns + 1);

    for (guint i = 0; i < table->n_columns; i++)
        row[i] = cli_printable(cells[i]);
    g_ptr_array_add(table->rows, row);
}

void cli_table_free(CliTable *table)
{
    if (!table)
        return;
    g_ptr_array_unref(table->rows);
    g_free(table);
}

static guint column_width(const CliTable *table, guint column)
{
    guint width = 0;

    for (guint i = 0; i < table->rows->len; i++) {
        char **row = g_ptr_array_index(table->rows, i);
        guint cell = text_width(row[column]);
        width = MAX(width, cell);
    }
    return width;
}

char *cli_table_format(const CliTable *table)
{
    g_autofree guint *widths = g_new(guint, table->n_columns);
    GString *out = g_string_new(NULL);
    guint total = 0;

    for (guint c = 0; c < table->n_columns; c++) {
        widths[c] = column_width(table, c);
        total += widths[c] + 3;
    }
    for (guint i = 0; i < table->rows->len; i++) {
        char **row = g_ptr_array_index(table->rows, i);
        for (guint c = 0; c < table->n_columns; c++) {
            int pad = c + 1 < table->n_columns ? (int)(widths[c] - text_width(row[c]) + 2) : 0;
            g_string_append_printf(out, " %s%*s", row[c], pad, "");
        }
        g_string_append_c(out, '\n');
        if (i == 0) {
            g_autofree char *line = g_strnfill(total, '-');
            g_string_append_printf(out, "%s\n", line);
        }
    }
    return g_string_free(out, FALSE);
}
