/* The picture and its clients. */
#include "config.h"

#include "libxldrv/vnc/screen.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/input-event-codes.h>
#include <netdb.h>
#include <pthread.h>
#include <rfb/rfb.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#include "hv/hv.h"

#define SIDE_MAX     8192u
#define REGION_BYTES ((size_t)SIDE_MAX * SIDE_MAX * 4)
#define BLANK_WIDTH  800 /* while the guest has no picture */
#define BLANK_HEIGHT 600
#define WAIT_MS      5000 /* for a client that does not take or finish a message */

enum phase { CONNECT, INITIALIZE, DISCONNECT }; /* virDomainEventGraphicsPhase */

struct client {
    int fd;
    bool without_password, initialized;
    uint8_t pressed[(KEY_CNT + 7) / 8];
    int buttons;
    struct xldrv_vnc_message about; /* its events */
};

static struct {
    struct vnc_screen_config config;
    rfbScreenInfoPtr rfb;
    /* Where the picture is mapped, always: memory that reads as black beyond and without one, so that a client's thread
     * that still works on an earlier, larger picture reads no wild memory. */
    void *region;

    pthread_mutex_t lock; /* of all below, and of what is sent on the channel for keys */
    bool has_password;
    char password[sizeof(((struct xldrv_vnc_message *)0)->password)];
    int64_t valid_to;
    unsigned clients, watching;
} screen = {.lock = PTHREAD_MUTEX_INITIALIZER};

static void tell_hypervisor(uint32_t type, int32_t a, int32_t b, int32_t c)
{
    const struct hv_display_message message = {type, {a, b, c, 0}};

    /* What does not go now is lost, as keys are that nobody looks at. */
    (void)!send(screen.config.display_fd, &message, sizeof(message), MSG_NOSIGNAL | MSG_DONTWAIT);
}

static void report_locked(struct client *client, enum phase phase)
{
    client->about.value = phase;
    screen.config.event(&client->about);
}

/* ---- the picture */

static bool map_region(int fd, size_t bytes)
{
    return mmap(screen.region, REGION_BYTES, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED, -1, 0) !=
               MAP_FAILED &&
           (fd < 0 || mmap(screen.region, bytes, PROT_READ, MAP_SHARED | MAP_FIXED, fd, 0) != MAP_FAILED);
}

/* A file that cannot get smaller, and has all of the picture. */
static bool is_surface(int fd, size_t bytes)
{
    int seals = fcntl(fd, F_GET_SEALS);
    struct stat about;

    return seals >= 0 && (seals & F_SEAL_SHRINK) && fstat(fd, &about) == 0 && about.st_size >= 0 &&
           (size_t)about.st_size >= bytes;
}

void vnc_screen_set_surface(uint32_t width, uint32_t height, int fd)
{
    bool ok = fd >= 0 && width && height && width <= SIDE_MAX && height <= SIDE_MAX &&
              is_surface(fd, (size_t)width * height * 4);

    if (!map_region(ok ? fd : -1, (size_t)width * height * 4))
        exit(1); /* domusd starts another */
    if (fd >= 0)
        close(fd);
    if (!ok) {
        width = BLANK_WIDTH;
        height = BLANK_HEIGHT;
    }
    rfbNewFramebuffer(screen.rfb, screen.region, (int)width, (int)height, 8, 3, 4);
}

void vnc_screen_damage(int32_t x, int32_t y, int32_t width, int32_t height)
{
    if (x >= 0 && y >= 0 && width > 0 && height > 0 && x < (int)SIDE_MAX && y < (int)SIDE_MAX &&
        width <= (int)SIDE_MAX && height <= (int)SIDE_MAX)
        rfbMarkRectAsModified(screen.rfb, x, y, x + width, y + height);
}

/* ---- passwords */

void vnc_screen_set_password(const char *password, int64_t valid_to)
{
    pthread_mutex_lock(&screen.lock);
    screen.has_password = password != NULL;
    strncpy(screen.password, password ? password : "", sizeof(screen.password) - 1);
    screen.valid_to = valid_to;
    pthread_mutex_unlock(&screen.lock);
    screen.rfb->authPasswdData = password ? &screen : NULL; /* the library only asks whether it is there */
}

/* The time that it takes says nothing of where they differ. */
static bool same_bytes(const unsigned char *a, const unsigned char *b, size_t count)
{
    unsigned char differ = 0;

    for (size_t i = 0; i < count; i++)
        differ |= a[i] ^ b[i];
    return !differ;
}

static rfbBool check_password(rfbClientPtr cl, const char *response, int length)
{
    unsigned char expected[CHALLENGESIZE];
    bool ok;

    memcpy(expected, cl->authChallenge, sizeof(expected));
    pthread_mutex_lock(&screen.lock);
    rfbEncryptBytes(expected, screen.password);
    ok = screen.has_password && screen.password[0] && (!screen.valid_to || time(NULL) <= screen.valid_to);
    pthread_mutex_unlock(&screen.lock);
    return ok && length == CHALLENGESIZE && same_bytes(expected, (const unsigned char *)response, CHALLENGESIZE);
}

/* ---- keys and pointer */

/* A key is down as long as one client holds it: what goes up when a client goes, it had pressed. */
static void pass_key(struct client *client, uint32_t key, bool down)
{
    uint8_t *byte = &client->pressed[key / 8], bit = (uint8_t)(1u << key % 8);

    *byte = down ? *byte | bit : *byte & (uint8_t)~bit;
    tell_hypervisor(HV_DISPLAY_KEY, (int32_t)key, down, 0);
}

static void key_event(rfbBool down, rfbKeySym symbol, rfbClientPtr cl)
{
    uint32_t key = vnc_keys_find(screen.config.keys, symbol);

    if (!key || key >= KEY_CNT)
        return;
    pthread_mutex_lock(&screen.lock);
    pass_key(cl->clientData, key, down);
    pthread_mutex_unlock(&screen.lock);
}

/* Bits of VNC's mask of buttons. 3 and 4 are the wheel's. */
static const uint16_t buttons[] = {BTN_LEFT, BTN_MIDDLE, BTN_RIGHT, 0, 0, 0, 0, BTN_SIDE};

static void pointer_event(int mask, int x, int y, rfbClientPtr cl)
{
    struct client *client = cl->clientData;
    int changed = mask ^ client->buttons;
    int wheel = changed & mask & 1 << 3 ? -1 : changed & mask & 1 << 4 ? 1 : 0;

    pthread_mutex_lock(&screen.lock);
    tell_hypervisor(HV_DISPLAY_MOVE, x, y, wheel);
    for (unsigned i = 0; i < sizeof(buttons) / sizeof(buttons[0]); i++)
        if (buttons[i] && changed >> i & 1)
            pass_key(client, buttons[i], mask >> i & 1);
    client->buttons = mask;
    pthread_mutex_unlock(&screen.lock);
}

/* ---- clients */

static void watch_locked(int more)
{
    bool before = screen.watching > 0;

    screen.watching += (unsigned)more;
    if (before != (screen.watching > 0))
        tell_hypervisor(HV_DISPLAY_WATCH, screen.watching > 0, 0, 0);
}

static void client_gone(rfbClientPtr cl)
{
    struct client *client = cl->clientData;

    if (!client)
        return;
    cl->clientData = NULL;
    pthread_mutex_lock(&screen.lock);
    for (uint32_t key = 0; key < KEY_CNT; key++)
        if (client->pressed[key / 8] >> key % 8 & 1)
            pass_key(client, key, false);
    if (client->initialized)
        watch_locked(-1);
    report_locked(client, DISCONNECT);
    screen.clients--;
    pthread_mutex_unlock(&screen.lock);
    free(client);
}

/* It asks for a picture, so it has been let in. */
static void update_requested(rfbClientPtr cl, rfbFramebufferUpdateRequestMsg *request)
{
    struct client *client = cl->clientData;

    (void)request;
    if (client->initialized)
        return;
    client->initialized = true;
    pthread_mutex_lock(&screen.lock);
    watch_locked(1);
    report_locked(client, INITIALIZE);
    pthread_mutex_unlock(&screen.lock);
}

static void describe(const struct sockaddr_storage *address, socklen_t bytes, struct xldrv_vnc_address *out)
{
    const struct sockaddr_un *local = (const struct sockaddr_un *)address;

    out->family = address->ss_family == AF_INET ? 0 : address->ss_family == AF_INET6 ? 1 : 2;
    if (out->family == 2)
        snprintf(out->node, sizeof(out->node), "%.107s", bytes > sizeof(local->sun_family) ? local->sun_path : "");
    else if (getnameinfo((const struct sockaddr *)address, bytes, out->node, sizeof(out->node), out->service,
                         sizeof(out->service), NI_NUMERICHOST | NI_NUMERICSERV))
        out->node[0] = out->service[0] = '\0';
}

static void describe_client(struct client *client)
{
    struct sockaddr_storage address = {0};
    socklen_t bytes = sizeof(address);
    bool asks = screen.has_password && !client->without_password;

    client->about.type = XLDRV_VNC_EVENT;
    strcpy(client->about.auth, asks ? "vnc" : "none");
    if (getsockname(client->fd, (struct sockaddr *)&address, &bytes) == 0)
        describe(&address, bytes, &client->about.local);
    memset(&address, 0, sizeof(address));
    bytes = sizeof(address);
    if (getpeername(client->fd, (struct sockaddr *)&address, &bytes) == 0)
        describe(&address, bytes, &client->about.remote);
}

static void forget_client(struct client *client)
{
    pthread_mutex_lock(&screen.lock);
    report_locked(client, DISCONNECT);
    screen.clients--;
    pthread_mutex_unlock(&screen.lock);
    free(client);
}

/* On a thread of its own, because the library looks, and waits, for a browser's first words. */
static void *serve_client(void *opaque)
{
    struct client *client = opaque;
    rfbClientPtr cl;

    pthread_mutex_lock(&screen.lock);
    describe_client(client);
    report_locked(client, CONNECT);
    pthread_mutex_unlock(&screen.lock);
    cl = rfbNewClient(screen.rfb, client->fd);
    if (!cl) {
        forget_client(client);
        return NULL;
    }
    cl->clientData = client;
    cl->clientGoneHook = client_gone;
    cl->clientFramebufferUpdateRequestHook = update_requested;
    cl->reverseConnection = client->without_password;
    rfbStartOnHoldClient(cl);
    return NULL;
}

static bool count_client(void)
{
    bool ok;

    pthread_mutex_lock(&screen.lock);
    ok = screen.clients < VNC_CLIENTS_MAX;
    screen.clients += ok;
    pthread_mutex_unlock(&screen.lock);
    return ok;
}

void vnc_screen_add_client(int fd, bool without_password)
{
    struct client *client = count_client() ? calloc(1, sizeof(*client)) : NULL;
    pthread_t thread;

    if (!client) {
        close(fd);
        return;
    }
    client->fd = fd;
    client->without_password = without_password;
    if (pthread_create(&thread, NULL, serve_client, client)) {
        close(fd);
        forget_client(client);
        return;
    }
    pthread_detach(thread);
}

/* ---- the beginning */

static void set_share(rfbScreenInfoPtr rfb, enum vnc_share share)
{
    rfb->alwaysShared = share == VNC_SHARE_IGNORE;
    rfb->neverShared = FALSE;
    rfb->dontDisconnect = share == VNC_SHARE_FORCE_SHARED;
}

/* What is set up when it is used first must be, before files can no longer be opened. */
static void warm_up(void)
{
    unsigned char bytes[CHALLENGESIZE] = {0};

    rfbRandomBytes(bytes);
    rfbEncryptBytes(bytes, (char[]){"warm"});
}

int vnc_screen_init(const struct vnc_screen_config *config)
{
    screen.config = *config;
    rfbLogEnable(FALSE); /* what strangers can fill it with */
    screen.region = mmap(NULL, REGION_BYTES, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    screen.rfb = screen.region == MAP_FAILED ? NULL : rfbGetScreen(NULL, NULL, BLANK_WIDTH, BLANK_HEIGHT, 8, 3, 4);
    if (!screen.rfb) {
        fprintf(stderr, "domus-vnc: error: no memory for a screen\n");
        return -1;
    }
    screen.rfb->frameBuffer = screen.region;
    screen.rfb->desktopName = config->name;
    screen.rfb->backgroundLoop = TRUE; /* threads for each client */
    screen.rfb->maxClientWait = WAIT_MS;
    screen.rfb->cursor = NULL; /* the guest draws its own, and nobody draws into the picture */
    screen.rfb->kbdAddEvent = key_event;
    screen.rfb->ptrAddEvent = pointer_event;
    screen.rfb->passwordCheck = check_password;
    set_share(screen.rfb, config->share);
    warm_up();
    return 0;
}
