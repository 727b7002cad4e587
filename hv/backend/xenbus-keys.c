/* The frontend's keys: all of its directory and of its queue-N directories, read at once before a backend connects.
 *
 * The guest chooses names, values and how many there are: a frontend with more than MAX_KEYS is not served.
 */
#include "config.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "hv/backend/xenbus.h"
#include "hv/store/client.h"

#define MAX_KEYS  512u /* 8 queues with 16 ring pages each, and more */
#define NAME_MAX_ 64u  /* "queue-0/event-channel-rx" and the like are shorter; longer ones are of no interest */
#define VALUE_MAX 128u

struct hv_xenbus_key {
    struct hv_xenbus_key *next;
    struct hv_xenbus_device *dev;
    char *value; /* NULL until it is read */
    char name[NAME_MAX_];
};

void hv_xenbus_drop_keys(struct hv_xenbus_device *dev)
{
    while (dev->keys) {
        struct hv_xenbus_key *key = dev->keys;

        dev->keys = key->next;
        hv_store_client_forget(hv_xenbus_store(dev), key);
        free(key->value);
        free(key);
    }
    dev->nr_keys = dev->keys_pending = 0;
}

/* One more answer is there, or was not asked for. */
static void done(struct hv_xenbus_device *dev, bool ok)
{
    dev->keys_failed |= !ok;
    if (--dev->keys_pending == 0)
        hv_xenbus_keys_read(dev, !dev->keys_failed);
}

static void value_read(void *opaque, int error, const char *value, size_t bytes)
{
    struct hv_xenbus_key *key = opaque;

    if (!error && bytes <= VALUE_MAX)
        key->value = strdup(value);
    done(key->dev, true); /* a key that went away meanwhile is missing, no more */
}

static struct hv_xenbus_key *add_key(struct hv_xenbus_device *dev, const char *prefix, const char *name)
{
    struct hv_xenbus_key *key;

    if (dev->nr_keys >= MAX_KEYS)
        return NULL;
    key = calloc(1, sizeof(*key));
    if (!key)
        return NULL;
    key->dev = dev;
    snprintf(key->name, sizeof(key->name), "%s%s%s", prefix, prefix[0] ? "/" : "", name);
    key->next = dev->keys;
    dev->keys = key;
    dev->nr_keys++;
    return key;
}

static void read_directory(struct hv_xenbus_device *dev, const char *name);

static bool is_queue(const char *name)
{
    return !strncmp(name, "queue-", 6);
}

/* Asks for key @name in directory @prefix, and if it is a queue's directory, for what is in it. */
static void ask(struct hv_xenbus_device *dev, const char *prefix, const char *name)
{
    char path[HV_XENBUS_PATH_MAX];
    struct hv_xenbus_key *key;

    if (strlen(prefix) + 1 + strlen(name) >= NAME_MAX_)
        return;
    if (!prefix[0] && is_queue(name)) {
        read_directory(dev, name);
        return;
    }
    dev->keys_pending++;
    key = add_key(dev, prefix, name);
    if (key)
        hv_xenbus_frontend_path(dev, key->name, path);
    if (!key || hv_store_client_read(hv_xenbus_store(dev), path, value_read, key))
        done(dev, false);
}

static void directory_read(void *opaque, int error, const char *names, size_t bytes)
{
    struct hv_xenbus_key *directory = opaque;

    for (size_t at = 0; !error && at < bytes; at += strlen(names + at) + 1)
        ask(directory->dev, directory->name, names + at);
    done(directory->dev, !error);
}

/* The directory has a place in the list of keys too, without a value. */
static void read_directory(struct hv_xenbus_device *dev, const char *name)
{
    char path[HV_XENBUS_PATH_MAX];
    struct hv_xenbus_key *key = add_key(dev, "", name);

    dev->keys_pending++;
    hv_xenbus_frontend_path(dev, name, path);
    if (!key || hv_store_client_directory(hv_xenbus_store(dev), path, directory_read, key))
        done(dev, false);
}

void hv_xenbus_read_keys(struct hv_xenbus_device *dev)
{
    hv_xenbus_drop_keys(dev);
    dev->keys_failed = false;
    read_directory(dev, "");
}

const char *hv_xenbus_key(const struct hv_xenbus_device *dev, const char *name)
{
    for (const struct hv_xenbus_key *key = dev->keys; key; key = key->next)
        if (!strcmp(key->name, name))
            return key->value;
    return NULL;
}

int hv_xenbus_number(const struct hv_xenbus_device *dev, const char *name, uint64_t max, uint64_t *out)
{
    const char *text = hv_xenbus_key(dev, name);
    char *end;

    if (!text)
        return -ENOENT;
    errno = 0;
    *out = strtoull(text, &end, 10);
    return text[0] >= '0' && text[0] <= '9' && *end == '\0' && !errno && *out <= max ? 0 : -EINVAL;
}

bool hv_xenbus_is_set(const struct hv_xenbus_device *dev, const char *key)
{
    uint64_t value;

    return hv_xenbus_number(dev, key, UINT32_MAX, &value) == 0 && value != 0;
}
