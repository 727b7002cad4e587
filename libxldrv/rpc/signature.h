/* signature: the compiled form of a signature, shared by the decoder and the encoder. */
#pragma once

#include "libxldrv/rpc/codec.h"

typedef enum {
    XLDRV_NODE_WORD,     /* i u: 4 bytes */
    XLDRV_NODE_LONG,     /* x t d: 8 bytes */
    XLDRV_NODE_BOOL,     /* b */
    XLDRV_NODE_CHAR,     /* c */
    XLDRV_NODE_SHORT,    /* q */
    XLDRV_NODE_STRING,   /* s */
    XLDRV_NODE_OPAQUE,   /* ay */
    XLDRV_NODE_UUID,     /* U */
    XLDRV_NODE_PARAM,    /* T */
    XLDRV_NODE_TUPLE,    /* (..) and the object letters */
    XLDRV_NODE_ARRAY,    /* aX */
    XLDRV_NODE_FIXED,    /* X[n] */
    XLDRV_NODE_OPTIONAL, /* mX */
} XldrvNodeKind;

typedef struct _XldrvNode XldrvNode;
struct _XldrvNode {
    XldrvNodeKind kind;
    GVariantType *type; /* of the GVariant */
    gsize min_size; /* bytes on the wire that it takes at least; never 0 but for an empty message */
    guint count;    /* ARRAY, OPAQUE: the limit; FIXED: exactly so many */
    XldrvNode **children; /* TUPLE: members; ARRAY, FIXED, OPTIONAL: the one element */
    guint n_children;
};

struct _XldrvCodec {
    XldrvNode *root; /* a tuple */
};

/* Typed parameters: discriminant on the wire and GVariant type of the value. */
typedef struct {
    guint32 discriminant;
    char type;
} XldrvParamType;

extern const XldrvParamType xldrv_param_types[7];
