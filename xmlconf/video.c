/* video: the rows of <video> and <input>, and those that come with graphics. */
#include "config.h"

#include "xmlconf/fields.h"

#define VIDEO(member) .offset = G_STRUCT_OFFSET(XmlconfVideo, member)
#define INPUT(member) .offset = G_STRUCT_OFFSET(XmlconfInput, member)

/* What Linux's driver takes in any case, for 800 x 600 pixels, and libvirt's default of Xen's framebuffer. */
#define VRAM_MIN_KIB     2048
#define VRAM_DEFAULT_KIB 4096
#define SIDE_MAX         8192

#define MODELS "a PVH guest has Xen's framebuffer"
static const XmlconfChoice models[] = {
    {"xen", 0, NULL},      {"vga", 0, MODELS}, {"cirrus", 0, MODELS}, {"vmvga", 0, MODELS}, {"qxl", 0, MODELS},
    {"virtio", 0, MODELS}, {"vbox", 0, MODELS}, {"gop", 0, MODELS},   {"bochs", 0, MODELS}, {"ramfb", 0, MODELS},
    {"none", 0, "without <graphics> there is no framebuffer, and with it there has to be one"},
    {NULL, 0, NULL},
};

/* A number of which 0 says nothing. */
static gboolean read_number(const XmlconfField *field, xmlNode *element, const char *text, gpointer value,
                            GError **error)
{
    return xmlconf_value_uint.read(field, element, text, value, error);
}

static char *write_number(const XmlconfField *field, gconstpointer value, gboolean live)
{
    return *(const guint *)value ? xmlconf_value_uint.write(field, value, live) : NULL;
}

static const XmlconfValueType value_number = {read_number, write_number, FALSE};

static const XmlconfField video_fields[] = {
    {"model@type", &xmlconf_value_word, VIDEO(model), .choices = models},
    {"model@vram", &value_number, VIDEO(vram_kib), .min = VRAM_MIN_KIB, .max = XMLCONF_MAX_VRAM_KIB},
    {"model@heads", &xmlconf_value_fixed, .fallback = "1"},
    {"model@primary", &xmlconf_value_fixed, .fallback = "yes"},
    {"model/resolution@x", &value_number, VIDEO(width), .min = 1, .max = SIDE_MAX},
    {"model/resolution@y", &value_number, VIDEO(height), .min = 1, .max = SIDE_MAX},
    XMLCONF_REFUSED("model/acceleration", "a Xen framebuffer has no acceleration"),
    {"alias@name", &xmlconf_value_string, VIDEO(alias), .flags = XMLCONF_FIELD_LIVE},
};

const XmlconfRecord xmlconf_video_record = {
    .element = "video",
    .size = sizeof(XmlconfVideo),
    .fields = video_fields,
    .n_fields = G_N_ELEMENTS(video_fields),
};

#define INPUT_TYPES "a PVH guest has Xen's keyboard and pointer"
static const XmlconfChoice input_types[] = {
    {"mouse", XMLCONF_INPUT_MOUSE, NULL},     {"tablet", XMLCONF_INPUT_TABLET, NULL},
    {"keyboard", XMLCONF_INPUT_KEYBOARD, NULL}, {"passthrough", 0, INPUT_TYPES},
    {"evdev", 0, INPUT_TYPES},                {NULL, 0, NULL},
};

/* A USB tablet is what virt-manager gives every guest with graphics: taken for Xen's pointer, which knows places, too. */
static const XmlconfChoice buses[] = {
    {"xen", 0, NULL},           {"usb", 0, NULL},         {"ps2", 0, INPUT_TYPES},
    {"virtio", 0, INPUT_TYPES}, {"none", 0, INPUT_TYPES}, {"parallels", 0, INPUT_TYPES},
    {NULL, 0, NULL},
};

static const XmlconfField input_fields[] = {
    {"@type", &xmlconf_value_enum, INPUT(type), .flags = XMLCONF_FIELD_REQUIRED, .choices = input_types},
    {"@bus", &xmlconf_value_word, INPUT(bus), .fallback = "xen", .choices = buses},
    {"alias@name", &xmlconf_value_string, INPUT(alias), .flags = XMLCONF_FIELD_LIVE},
};

const XmlconfRecord xmlconf_input_record = {
    .element = "input",
    .size = sizeof(XmlconfInput),
    .fields = input_fields,
    .n_fields = G_N_ELEMENTS(input_fields),
};

/* ---- all of it */

static gboolean complete_video(XmlconfVideo *video, GError **error)
{
    if (!video->model)
        video->model = g_strdup("xen");
    if (!video->vram_kib)
        video->vram_kib = VRAM_DEFAULT_KIB;
    if (!video->width != !video->height || (guint64)video->width * video->height * 4 > (guint64)video->vram_kib * 1024) {
        g_set_error(error, XMLCONF_ERROR, XMLCONF_ERROR_XML,
                    "a resolution of %u x %u pixels does not fit into video memory of %u KiB", video->width,
                    video->height, video->vram_kib);
        return FALSE;
    }
    return TRUE;
}

static GPtrArray *ensure(GPtrArray **list)
{
    if (!*list)
        *list = xmlconf_record_list_new();
    return *list;
}

/* Whether there is one of that kind: a pointer or a keyboard. */
gboolean xmlconf_has_input(const XmlconfDomainConfig *config, gboolean keyboard)
{
    for (guint i = 0; config->inputs && i < config->inputs->len; i++) {
        const XmlconfInput *input = config->inputs->pdata[i];
        if ((input->type == XMLCONF_INPUT_KEYBOARD) == keyboard)
            return TRUE;
    }
    return FALSE;
}

static void ensure_input(XmlconfDomainConfig *config, XmlconfInputType type)
{
    XmlconfInput *input;

    if (xmlconf_has_input(config, type == XMLCONF_INPUT_KEYBOARD))
        return;
    input = xmlconf_record_list_add(ensure(&config->inputs), &xmlconf_input_record);
    input->type = type;
}

static void complete_input(XmlconfInput *input)
{
    g_free(input->bus);
    input->bus = g_strdup("xen");
}

/* With graphics come, as libvirt has it, what is shown, a mouse and a keyboard. */
gboolean xmlconf_video_complete(XmlconfDomainConfig *config, gboolean live, GError **error)
{
    for (guint i = 0; config->graphics && i < config->graphics->len; i++) {
        if (!xmlconf_graphics_complete(config->graphics->pdata[i], live, error))
            return FALSE;
    }
    if (config->graphics && config->graphics->len) {
        ensure_input(config, XMLCONF_INPUT_MOUSE);
        ensure_input(config, XMLCONF_INPUT_KEYBOARD);
        if (!config->videos || !config->videos->len)
            xmlconf_record_list_add(ensure(&config->videos), &xmlconf_video_record);
    }
    for (guint i = 0; config->inputs && i < config->inputs->len; i++)
        complete_input(config->inputs->pdata[i]);
    for (guint i = 0; config->videos && i < config->videos->len; i++) {
        if (!complete_video(config->videos->pdata[i], error))
            return FALSE;
    }
    return TRUE;
}
