/* The model of a job: layers in JSON with their attributes typed and otherwise unexamined.
 * Which ops there are and which attributes they take is known to libpsg's op table; whoever
 * checks that reports with the pointers of layer_pointer(). */
#ifndef PROTO_MODEL_H
#define PROTO_MODEL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define MODEL_LAYERS_MAX      1024
#define MODEL_ATTRS_MAX       32   /* of one layer */
#define MODEL_LIST_MAX        4096 /* elements of one attribute, inputs of one layer */
#define MODEL_LAYER_DEPTH_MAX 12   /* layers within layers */
#define MODEL_DEFINES_MAX     32
#define MODEL_FILE_INPUTS_MAX      16   /* of a file */

/* of one definition; libpsg has further bounds (psg/expr.h) */
#define DEFINE_NAME_MAX  47
#define DEFINE_TEXT_MAX  2048
#define DEFINE_AXES_MAX  12
#define DEFINE_STEPS_MAX 128
#define DEFINE_OUTS_MAX  8

enum attr_kind { ATTR_INT = 1, ATTR_REAL, ATTR_BOOL, ATTR_STRING, ATTR_INTS, ATTR_REALS };

/* "kernel_size": 8 and so on. A list is ATTR_INTS when all its elements are integers (also
 * when it is empty), and ATTR_REALS when some are not. */
struct attr {
    const char *name;
    enum attr_kind kind;
    union {
        int64_t integer;
        double real;
        bool boolean;
        const char *string;
        const int64_t *integers; /* n elements */
        const double *reals;     /* n elements */
    };
    size_t n;
};

/* role -> name of a shared parameter ("weight": "embedding.weight") */
struct layer_param {
    const char *role;
    const char *name;
};

struct layer {
    const char *op;
    const char *name;      /* NULL: not given */
    size_t n_in;           /* 0: the output of the layer before, or the model's input */
    const char *const *in; /* names of layers or inputs; "lstm:1" is the layer's second output */
    size_t n_params;
    const struct layer_param *params;
    bool trainable; /* default true */
    size_t n_attrs;
    const struct attr *attrs;
    /* the tree: layers[] is in pre-order */
    size_t end; /* index after the last layer inside this one; own index + 1: a leaf */
    ptrdiff_t parent; /* index of the layer around, -1 at the top */
    size_t position;  /* in its parent's list */
    bool nested;      /* has a list "layers", which may be empty */
};

/* ---- layers of the user's own: "define": {"swiglu": {...}} ---- */

/* an attribute that a use may set, with its default; required: it must */
struct define_attr {
    struct attr attr; /* only the name is there when it is required */
    bool required;
};

enum define_init { DEFINE_INIT_CONSTANT = 1, DEFINE_INIT_UNIFORM, DEFINE_INIT_NORMAL };

struct define_param {
    const char *name;
    size_t n_shape;
    const char *const *shape; /* a formula for each axis; numbers are written out */
    enum define_init init;    /* 0: default */
    const char *scale;        /* a formula: the constant, the bound, the standard deviation */
};

struct define_buffer {
    const char *name;
    size_t n_shape;
    const int64_t *shape;
    size_t n_data; /* the shape's size */
    const double *data;
};

/* Formulas are texts here; psg/expr.h says what they mean. */
struct define {
    const char *name;
    size_t n_inputs, n_attrs, n_params, n_buffers, n_let, n_out;
    const char *const *inputs;
    const struct define_attr *attrs;
    const struct define_param *params;
    const struct define_buffer *buffers;
    const char *const *let;
    const char *const *out;
};

/* ---- how it starts, and what of it is trained ---- */

/* a name that begins with `from` begins with `to` instead; the first that fits */
struct weights_rename {
    const char *from, *to;
};

/* start weights: a safetensors file that was uploaded */
struct weights_spec {
    const char *digest; /* "sha256:..." */
    bool strict;        /* true: the file's names are the model's, none more, none less */
    size_t n_rename;
    const struct weights_rename *rename;
};

enum lora_init { LORA_INIT_KAIMING = 1, LORA_INIT_GAUSSIAN };

/* Adapters on linear layers; names are PEFT's. Nothing else is trained but what `trainable` names. */
struct lora_spec {
    size_t n_target_modules;
    const char *const *target_modules; /* patterns of layers' paths; * and ? */
    int64_t r;                         /* 8 */
    double lora_alpha;                 /* 8 */
    double lora_dropout;               /* 0 */
    enum lora_init init;               /* kaiming */
};

/* patterns of parameters' names; * and ? */
struct model_start {
    struct weights_spec *weights; /* NULL: PyTorch's defaults */
    struct lora_spec *lora;       /* NULL: none */
    size_t n_trainable;           /* none: all that is not frozen otherwise */
    const char *const *trainable;
    size_t n_freeze;
    const char *const *freeze;
};

/* Either layers, or an uploaded file. */
struct model {
    struct model_start start;
    size_t n_defines;
    const struct define *defines;
    const char *torchscript; /* digest of a TorchScript archive, "sha256:..."; NULL: layers */
    size_t n_inputs;         /* with torchscript: names for the arguments of forward(): "input" */
    const char *const *inputs; /* or a column of the dataset; 0: one, "input" */
    int64_t example_batch;   /* with torchscript: samples it was traced with; -1: found out */
    size_t n_layers; /* at least 1, at most MODEL_LAYERS_MAX, nested ones included; or 0 */
    const struct layer *layers;
};

/* "cross_entropy", or an object {type, reduction, attributes of the loss} */
enum loss_reduction { LOSS_REDUCTION_MEAN = 1, LOSS_REDUCTION_SUM };

struct loss {
    const char *type;
    enum loss_reduction reduction; /* over the elements of ONE record; default mean */
    bool reduction_given;
    size_t n_in;                   /* 0: the model's output and "target" */
    const char *const *in;         /* names of layers, inputs, "target" */
    const char *sample_weight;     /* name of an input that multiplies the loss; NULL: none */
    size_t n_attrs;
    const struct attr *attrs;
};

/* The attribute with this name, or NULL. */
const struct attr *attr_find(const struct attr *attrs, size_t n, const char *name);

/* JSON pointer of layer i ("/model/layers/3/layers/1"), or of its attribute if attr is not
 * NULL, into the job spec; truncated when it does not fit. */
char *layer_pointer(const struct model *model, size_t i, const char *attr, char *buf,
                    size_t size);

#endif
