/* The list finds what was put in and nothing else; names and UUIDs are unique; jobs exclude each other. */
#include "config.h"

#include <string.h>

#include "libxldrv/driver/domains.h"

#define UUID_A "aaaaaaaa-0000-0000-0000-000000000001"
#define UUID_B "bbbbbbbb-0000-0000-0000-000000000002"
#define MANY   2000

static XldrvDomain *add(XldrvDomains *domains, const char *uuid, const char *name)
{
    g_autoptr(GError) why = NULL;
    g_autoptr(XldrvJobGuard) job = xldrv_domains_claim(domains, uuid, name, "test", &why);

    g_assert_no_error(why);
    xldrv_domains_publish(domains, job);
    return xldrv_domain_ref(job);
}

static gboolean is_found(XldrvDomains *domains, XldrvDomain *domain)
{
    g_autoptr(XldrvDomain) by_uuid = xldrv_domains_find_uuid(domains, domain->uuid);
    g_autoptr(XldrvDomain) by_name = xldrv_domains_find_name(domains, domain->name);

    g_assert_true(by_uuid == by_name);
    return by_uuid == domain;
}

static void test_find(void)
{
    XldrvDomains *domains = xldrv_domains_new();
    g_autoptr(XldrvDomain) a = add(domains, UUID_A, "a");
    g_autoptr(XldrvDomain) b = add(domains, UUID_B, "b");
    g_autoptr(XldrvDomain) by_id = NULL;

    g_assert_true(is_found(domains, a) && is_found(domains, b));
    g_assert_cmpuint(xldrv_domains_count(domains, FALSE), ==, 2);
    xldrv_domains_set_id(domains, a, 7);
    by_id = xldrv_domains_find_id(domains, 7);
    g_assert_true(by_id == a);
    g_assert_true(xldrv_domains_id_in_use(domains, 7));
    g_assert_cmpuint(xldrv_domains_count(domains, TRUE), ==, 1);
    g_assert_cmpuint(xldrv_domains_count(domains, FALSE), ==, 1);
    xldrv_domains_set_id(domains, a, -1);
    g_assert_null(xldrv_domains_find_id(domains, 7));
    xldrv_domains_remove(domains, a);
    g_assert_false(is_found(domains, a));
    g_assert_true(is_found(domains, b));
    g_assert_cmpuint(xldrv_domains_count(domains, FALSE), ==, 1);
    xldrv_domains_free(domains);
}

static void test_unique(void)
{
    static const struct {
        const char *uuid, *name, *culprit;
    } rows[] = {
        {UUID_A, "other", "'a' is already defined with uuid " UUID_A},
        {"cccccccc-0000-0000-0000-000000000003", "a", "'a' already exists with uuid " UUID_A},
        {UUID_B, "a", UUID_B},
        {"nonsense", "n", "nonsense"},
    };
    XldrvDomains *domains = xldrv_domains_new();
    g_autoptr(XldrvDomain) a = add(domains, UUID_A, "a");
    g_autoptr(XldrvDomain) b = add(domains, UUID_B, "b");
    g_autoptr(XldrvDomain) same = add(domains, UUID_A, "a");

    g_assert_true(same == a);
    for (gsize i = 0; i < G_N_ELEMENTS(rows); i++) {
        g_autoptr(GError) why = NULL;
        g_assert_null(xldrv_domains_claim(domains, rows[i].uuid, rows[i].name, "test", &why));
        g_assert_nonnull(strstr(why->message, rows[i].culprit));
    }
    xldrv_domains_free(domains);
}

static void test_rename(void)
{
    XldrvDomains *domains = xldrv_domains_new();
    g_autoptr(XldrvDomain) a = add(domains, UUID_A, "a");
    g_autoptr(XldrvDomain) b = add(domains, UUID_B, "b");
    g_autoptr(GError) why = NULL;

    g_assert_false(xldrv_domains_rename(domains, a, "b", &why));
    g_assert_error(why, XLDRV_ERROR, VIR_ERR_OPERATION_FAILED);
    g_clear_error(&why);
    g_assert_false(xldrv_domains_rename(domains, a, "a", &why));
    g_assert_nonnull(strstr(why->message, "to itself"));
    g_assert_true(xldrv_domains_rename(domains, a, "c", NULL));
    g_assert_null(xldrv_domains_find_name(domains, "a"));
    g_assert_true(is_found(domains, a));
    g_assert_cmpstr(a->name, ==, "c");
    xldrv_domains_free(domains);
}

/* A claimed domain is nobody's business until it is published, but its name and UUID are taken. */
static void test_claim(void)
{
    XldrvDomains *domains = xldrv_domains_new();
    g_autoptr(XldrvJobGuard) job = xldrv_domains_claim(domains, UUID_A, "a", "test", NULL);
    g_autoptr(GError) why = NULL;

    g_assert_false(is_found(domains, job));
    g_assert_cmpuint(xldrv_domains_count(domains, FALSE), ==, 0);
    g_assert_null(xldrv_domains_claim(domains, UUID_B, "a", "test", &why));
    g_assert_error(why, XLDRV_ERROR, VIR_ERR_OPERATION_FAILED);
    xldrv_domains_remove(domains, job);
    g_clear_pointer(&job, xldrv_job_end);
    job = xldrv_domains_claim(domains, UUID_B, "a", "test", NULL);
    g_assert_nonnull(job);
    xldrv_domains_free(domains);
}

/* ---- jobs */

static gpointer claim_again(gpointer domains)
{
    XldrvJob *job = xldrv_domains_claim(domains, UUID_A, "a", "second", NULL);
    guint8 *uuid = g_memdup2(job->uuid, XLDRV_UUID_BYTES);

    xldrv_domains_publish(domains, job);
    xldrv_job_end(job);
    return uuid;
}

/* Who waits for a domain whose making fails makes it himself. */
static void test_claim_after_failure(void)
{
    XldrvDomains *domains = xldrv_domains_new();
    XldrvJob *first = xldrv_domains_claim(domains, UUID_A, "a", "first", NULL);
    GThread *second = g_thread_new("second", claim_again, domains);
    g_autofree guint8 *uuid = NULL;

    g_usleep(50000);
    xldrv_domains_remove(domains, first);
    xldrv_job_end(first);
    uuid = g_thread_join(second);
    g_autoptr(XldrvDomain) found = xldrv_domains_find_uuid(domains, uuid);
    g_assert_nonnull(found);
    xldrv_domains_free(domains);
}

static gpointer claim_renamed(gpointer domains)
{
    GError *why = NULL;

    g_assert_null(xldrv_domains_claim(domains, UUID_A, "a", "second", &why));
    return why;
}

/* Who waits for a domain that gets another name meanwhile does not get that one instead. */
static void test_claim_after_rename(void)
{
    XldrvDomains *domains = xldrv_domains_new();
    g_autoptr(XldrvDomain) domain = add(domains, UUID_A, "a");
    XldrvJob *first = xldrv_job_begin(domain, "first", NULL);
    GThread *second = g_thread_new("second", claim_renamed, domains);
    g_autoptr(GError) why = NULL;

    g_usleep(50000);
    g_assert_true(xldrv_domains_rename(domains, first, "b", NULL));
    xldrv_job_end(first);
    why = g_thread_join(second);
    g_assert_nonnull(strstr(why->message, "'b' is already defined"));
    xldrv_domains_free(domains);
}

typedef struct {
    XldrvDomain *domain;
    int inside; /* how many hold the job */
    gint most;  /* atomic */
} Race;

static gpointer take_jobs(gpointer data)
{
    Race *race = data;

    for (int i = 0; i < 500; i++) {
        g_autoptr(XldrvJobGuard) job = xldrv_job_begin(race->domain, "race", NULL);
        int n = g_atomic_int_add(&race->inside, 1) + 1;
        if (n > g_atomic_int_get(&race->most))
            g_atomic_int_set(&race->most, n);
        g_atomic_int_add(&race->inside, -1);
    }
    return NULL;
}

static void test_jobs_exclude(void)
{
    XldrvDomains *domains = xldrv_domains_new();
    g_autoptr(XldrvDomain) domain = add(domains, UUID_A, "a");
    Race race = {.domain = domain};
    GThread *threads[4];

    for (gsize i = 0; i < G_N_ELEMENTS(threads); i++)
        threads[i] = g_thread_new("race", take_jobs, &race);
    for (gsize i = 0; i < G_N_ELEMENTS(threads); i++)
        g_thread_join(threads[i]);
    g_assert_cmpint(race.most, ==, 1);
    xldrv_domains_free(domains);
}

static void test_job_of_removed(void)
{
    XldrvDomains *domains = xldrv_domains_new();
    g_autoptr(XldrvDomain) domain = add(domains, UUID_A, "a");
    g_autoptr(GError) why = NULL;

    xldrv_domains_remove(domains, domain);
    g_assert_null(xldrv_job_begin(domain, "late", &why));
    g_assert_error(why, XLDRV_ERROR, VIR_ERR_NO_DOMAIN);
    g_assert_null(xldrv_job_begin_waiting(domain, "late"));
    xldrv_domains_free(domains);
}

/* Nothing but the listing itself looks at all domains: many more take hardly longer. */
static void test_many(void)
{
    XldrvDomains *domains = xldrv_domains_new();
    g_autoptr(GPtrArray) all = NULL;

    for (guint i = 0; i < MANY; i++) {
        g_autofree char *uuid = g_strdup_printf("aaaaaaaa-0000-0000-0000-%012x", i);
        g_autofree char *name = g_strdup_printf("domain-%u", i);
        g_autoptr(XldrvDomain) domain = add(domains, uuid, name);
        g_assert_true(is_found(domains, domain));
    }
    all = xldrv_domains_all(domains);
    g_assert_cmpuint(all->len, ==, MANY);
    g_assert_cmpuint(xldrv_domains_count(domains, FALSE), ==, MANY);
    xldrv_domains_free(domains);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/domains/find", test_find);
    g_test_add_func("/domains/unique", test_unique);
    g_test_add_func("/domains/rename", test_rename);
    g_test_add_func("/domains/claim", test_claim);
    g_test_add_func("/domains/claim-after-failure", test_claim_after_failure);
    g_test_add_func("/domains/claim-after-rename", test_claim_after_rename);
    g_test_add_func("/domains/jobs-exclude", test_jobs_exclude);
    g_test_add_func("/domains/job-of-removed", test_job_of_removed);
    g_test_add_func("/domains/many", test_many);
    return g_test_run();
}
