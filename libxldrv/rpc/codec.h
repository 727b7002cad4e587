/* codec: XDR to GVariant and back, driven by signatures.
 *
 * A signature is compiled once into a tree of nodes; decoding and encoding walk the tree. The
 * letters, what is on the wire, and the GVariant type that a handler sees:
 *
 *   letter        wire                                   GVariant
 *   i u           4 bytes (also every enum)              i u
 *   x t d         8 bytes                                x t d
 *   b             4 bytes, 0 or 1                        b
 *   c             a character widened to 4 bytes         y
 *   q             a short widened to 4 bytes             q
 *   s             length, bytes, padding                 s
 *   ay            length, bytes, padding                 ay
 *   ac            count, 4 bytes for each character      ay
 *   c[n]          4 bytes for each character             ay of n bytes
 *   aX            count, elements                        aX
 *   X[n]          exactly n elements                     aX of n elements
 *   mX            0, or 1 and X                          mX
 *   (..)          members                                (..)
 *   U             16 bytes                               ay of 16 bytes
 *   D             sUi                                    (sayi): name, uuid, id
 *   N P F         sU                                     (say)
 *   V             sss                                    (sss): pool, name, key
 *   I B           ss                                     (ss)
 *   E             s                                      (s)
 *   S             Uis                                    (ayis)
 *   O             NU                                     ((say)ay)
 *   H K           sD                                     (s(sayi))
 *   T             name, type, value by type              (sv), the value one of i u x t d b s
 *
 * The whole is a tuple: "Du" is ((sayi)u), "" is ().
 *
 * Every count and length is checked against its limit and against the bytes that are left before
 * anything is allocated for it. Strings must be UTF-8 without NUL, as GVariant demands. Bytes after
 * the last field are accepted, as libvirt's own decoder does; padding is not looked at.
 */
#pragma once

#include <glib.h>

/* Largest string, payload and whole message (the length word included), from libvirt's protocol. */
#define XLDRV_STRING_MAX  4194304
#define XLDRV_PAYLOAD_MAX 33554408
#define XLDRV_MESSAGE_MAX 33554436

typedef struct _XldrvCodec XldrvCodec;

/* Compiles @signature. *@limits points to a list of element counts ("64,4194304"); each array takes
 * the next one and *@limits is advanced, so that one list serves several signatures in turn. NULL
 * with VIR_ERR_INTERNAL_ERROR if the signature or the list is malformed or the list too short. */
XldrvCodec *xldrv_codec_new(const char *signature, const char **limits, GError **error);
void xldrv_codec_free(XldrvCodec *codec);

/* The tuple type that decoding gives and encoding takes. Borrowed. */
const GVariantType *xldrv_codec_type(const XldrvCodec *codec);

/* Decodes a payload into a new, not floating tuple of the codec's type. If @used is not NULL it
 * gets the number of bytes that the fields took. NULL with VIR_ERR_RPC. */
GVariant *xldrv_codec_decode(const XldrvCodec *codec, const guint8 *data, gsize length, gsize *used,
                             GError **error);

/* Appends the wire form of @value to @out. FALSE with VIR_ERR_RPC if a limit is exceeded and
 * VIR_ERR_INTERNAL_ERROR if @value has another type or a typed parameter holds what the wire cannot
 * carry; @out then ends in rubbish. */
gboolean xldrv_codec_encode(const XldrvCodec *codec, GVariant *value, GByteArray *out,
                            GError **error);

G_DEFINE_AUTOPTR_CLEANUP_FUNC(XldrvCodec, xldrv_codec_free)
