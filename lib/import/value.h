/* Plain values of pickles and of the serialized code: what a reader builds and the interpreter
 * computes with. They live in the import's pool. */
#ifndef IMPORT_VALUE_H
#define IMPORT_VALUE_H

#include <stdbool.h>
#include <stdint.h>

#include "import/pool.h"
#include "psg/shape.h"

enum im_kind {
    IM_NONE,
    IM_BOOL,
    IM_INT, /* i * B^power, B the unknown number of samples */
    IM_REAL,
    IM_TEXT,
    IM_LIST,
    IM_TUPLE,
    IM_DICT,
    IM_OBJECT,
    IM_STORED,  /* a tensor of the archive */
    IM_TENSOR,  /* a tensor that the program computes (tensor.h) */
    IM_NAME,    /* a class, function or method by its qualified name */
    IM_STORAGE, /* while a pickle is read */
    IM_MARK,    /* while a pickle is read */
    IM_UNSET,   /* not given, not set */
    IM_UNKNOWN  /* uninitialized(T), results that have no meaning here: may be passed on */
};

struct im_text {
    size_t n;
    const char *s; /* ends with a zero that n does not count */
};

/* Lists, tuples, and dicts as key, value, key, value ... */
struct im_list {
    size_t n, room;
    struct im_value *item;
};

struct im_value {
    enum im_kind kind;
    int8_t power; /* IM_INT */
    union {
        bool b;
        int64_t i;
        double d;
        struct im_text *text; /* IM_TEXT, IM_NAME */
        struct im_list *list; /* IM_LIST, IM_TUPLE, IM_DICT */
        struct im_object *object;
        struct im_stored *stored;
        struct im_tensor *tensor;
        struct im_storage *storage;
    };
};

struct im_object {
    const char *class_name; /* "__torch__.torch.nn.modules.conv.Conv2d" */
    struct im_list *attrs;  /* a dict; NULL before BUILD */
    const char *path;       /* "encoder.layers.0"; NULL until it is named */
    struct im_object *next; /* while paths are given */
};

/* Element types of stored tensors. */
enum im_element {
    IM_F16,
    IM_BF16,
    IM_F32,
    IM_F64,
    IM_I8,
    IM_U8,
    IM_I16,
    IM_I32,
    IM_I64,
    IM_BOOLS
};

struct im_storage {
    enum im_element element;
    const char *key;
    int64_t n; /* elements */
};

struct im_stored {
    struct im_storage *storage;
    struct psg_shape shape;
    int64_t stride[PSG_MAX_RANK], offset;
    bool requires_grad;
    const char *name;         /* "layers.0.weight", of its first place in the module tree */
    bool buffer;              /* not a parameter there */
    bool used;                /* by some node of the program */
    const uint8_t *data;      /* of the whole storage, when it has been read */
    struct im_tensor *tensor; /* when the program uses it */
};

static inline struct im_value im_int(int64_t i)
{
    return (struct im_value){ .kind = IM_INT, .i = i };
}

static inline struct im_value im_bool(bool b)
{
    return (struct im_value){ .kind = IM_BOOL, .b = b };
}

static inline struct im_value im_real(double d)
{
    return (struct im_value){ .kind = IM_REAL, .d = d };
}

static inline struct im_value im_none(void)
{
    return (struct im_value){ .kind = IM_NONE };
}

/* "an int", "a list", ... for messages */
const char *im_kind_name(enum im_kind kind);
/* Bytes of one element. */
int64_t im_element_size(enum im_element e);
/* 0, or PSG_E_NOMEM */
int im_list_push(struct im_pool *p, struct im_list *l, struct im_value v);
/* An empty list, tuple or dict; kind IM_NONE when out of memory. */
struct im_value im_list_new(struct im_pool *p, enum im_kind kind);
struct im_value im_text_new(struct im_pool *p, enum im_kind kind, const char *s, size_t n);
/* The value of a key that is a text; NULL when there is none. */
struct im_value *im_dict_find(const struct im_list *d, const char *key);
bool im_text_is(const struct im_value *v, const char *s);
struct im_value *im_object_attr(const struct im_object *o, const char *name);

#endif
