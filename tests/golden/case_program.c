#include "case_program.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"

enum { VALUES_MAX = 512 };

/* Reference name of an attribute -> ours, where they differ. "" drops it: what it says is plain
 * from the inputs or the shapes. */
static const struct rename {
    const char *op, *from, *to;
} renames[] = {
    { "linear", "in", "in_features" },
    { "linear", "out", "out_features" },
    { "conv", "in", "in_channels" },
    { "conv", "out", "out_channels" },
    { "embedding", "dim", "embedding_dim" },
    { "embedding_bag", "dim", "embedding_dim" },
    { "embedding_bag", "lengths", "" },
    { "embedding_bag", "per_sample_weights", "" },
    { "bilinear", "in1", "in1_features" },
    { "bilinear", "in2", "in2_features" },
    { "bilinear", "out", "out_features" },
    { "instance_norm", "num_channels", "num_features" },
};

struct named {
    const char *name;
    psg_value value;
    int batch_axis;
};

struct builder {
    const struct golden_case *c;
    struct psg_program *p;
    struct psg_error *err;
    int n;
    struct named values[VALUES_MAX];
};

static struct named *find_value(struct builder *b, const char *name)
{
    for (int i = 0; i < b->n; i++)
        if (strcmp(b->values[i].name, name) == 0)
            return &b->values[i];
    return NULL;
}

int case_batch_axis(const struct golden_case *c, int input)
{
    const json_t *in = json_array_get(json_object_get(c->info, "inputs"), (size_t)input);
    return in ? (int)case_real(in, "batch_dim", 0) : 0;
}

/* Sample type of a stored tensor: its shape without the batch axis. */
static struct psg_type sample_type(const struct tensor *t, int batch_axis)
{
    struct psg_type type = { .dtype = t->dtype[0] == 'I' ? PSG_I64 : PSG_REAL };
    for (int i = 0; i < t->rank; i++)
        if (i != batch_axis)
            type.shape.dim[type.shape.rank++] = t->dim[i];
    return type;
}

static int add_input(struct builder *b, const char *name, const struct tensor *t,
                     int batch_axis)
{
    if (!t || b->n == VALUES_MAX)
        return psg_fail(b->err, PSG_E_FORMAT, name, "the case has no such tensor");
    struct psg_type type = sample_type(t, batch_axis);
    psg_value v;
    int r = psg_program_input(b->p, name, type.dtype, &type.shape, &v, b->err);
    if (r == 0)
        b->values[b->n++] = (struct named){ name, v, batch_axis };
    return r;
}

static const char *rename_attr(const char *op, const char *key)
{
    for (size_t i = 0; i < sizeof renames / sizeof renames[0]; i++) {
        const struct rename *n = &renames[i];
        bool family = strcmp(n->op, "conv") == 0 && strncmp(op, "conv", 4) == 0;
        if ((family || strcmp(n->op, op) == 0) && strcmp(n->from, key) == 0)
            return n->to;
    }
    return key;
}

static int set_list(struct psg_attrs *a, const char *name, const json_t *v)
{
    enum { MOST = 64 };
    int n = (int)json_array_size(v);
    bool ints = true;
    int64_t i64[MOST];
    double reals[MOST];
    if (n > MOST)
        return PSG_E_UNSUPPORTED;
    for (int i = 0; i < n; i++) {
        const json_t *x = json_array_get(v, (size_t)i);
        ints &= json_is_integer(x);
        i64[i] = json_integer_value(x);
        reals[i] = json_number_value(x);
    }
    return ints ? psg_attrs_ints(a, name, i64, n) : psg_attrs_reals(a, name, reals, n);
}

static int set_attr(struct psg_attrs *a, const char *name, const json_t *v)
{
    switch (json_typeof(v)) {
    case JSON_INTEGER: return psg_attrs_int(a, name, json_integer_value(v));
    case JSON_REAL: return psg_attrs_real(a, name, json_real_value(v));
    case JSON_TRUE: return psg_attrs_bool(a, name, true);
    case JSON_FALSE: return psg_attrs_bool(a, name, false);
    case JSON_STRING: return psg_attrs_string(a, name, json_string_value(v));
    case JSON_ARRAY: return set_list(a, name, v);
    case JSON_OBJECT:
    case JSON_NULL: break;
    }
    return PSG_E_UNSUPPORTED;
}

/* Roles that the case does not name are options that are switched off. */
static int set_missing_roles(struct psg_attrs *a, const char *op, const json_t *params)
{
    bool conv = strncmp(op, "conv", 4) == 0;
    if ((strcmp(op, "linear") == 0 || strcmp(op, "bilinear") == 0 || conv) &&
        !json_object_get(params, "bias"))
        return psg_attrs_bool(a, "bias", false);
    bool affine = strcmp(op, "group_norm") == 0 || strncmp(op, "instance_norm", 13) == 0;
    if (affine)
        return psg_attrs_bool(a, "affine", json_object_get(params, "weight") != NULL);
    if (strcmp(op, "layer_norm") == 0 || strcmp(op, "rms_norm") == 0) {
        if (!json_object_get(params, "weight"))
            return psg_attrs_bool(a, "elementwise_affine", false);
        if (op[0] == 'l' && !json_object_get(params, "bias"))
            return psg_attrs_bool(a, "bias", false);
    }
    /* the reference has none; ours has PyTorch's default, 0.1 */
    if (strcmp(op, "transformer_encoder_layer") == 0)
        return psg_attrs_real(a, "dropout", 0);
    return 0;
}

/* permute counts the batch axis wherever it is; ours has it first. */
static int set_permute(struct builder *b, struct named *in, const json_t *attrs,
                       struct psg_attrs *a, int *batch_axis)
{
    const json_t *dims = json_object_get(attrs, "dims");
    int n = (int)json_array_size(dims), at = 1;
    int64_t ours[8] = { 0 };
    (void)b;
    for (int i = 0; i < n && n <= 8; i++) {
        int64_t d = json_integer_value(json_array_get(dims, (size_t)i));
        if (d == in->batch_axis)
            *batch_axis = i;
        else
            ours[at++] = d + (d < in->batch_axis ? 1 : 0);
    }
    return psg_attrs_ints(a, "dims", ours, n);
}

static int fill_attrs(struct builder *b, const char *op, const json_t *node, struct named *in,
                      struct psg_attrs *a, int *batch_axis)
{
    const json_t *attrs = json_object_get(node, "attrs");
    int r = set_missing_roles(a, op, json_object_get(node, "params"));
    if (strcmp(op, "permute") == 0)
        return r ? r : set_permute(b, in, attrs, a, batch_axis);
    const char *key;
    const json_t *value;
    json_object_foreach((json_t *)(uintptr_t)attrs, key, value)
    {
        const char *name = rename_attr(op, key);
        if (r == 0 && *name)
            r = set_attr(a, name, value);
    }
    if (strcmp(case_text(attrs, "return", ""), "last_hidden") == 0)
        *batch_axis = 0;
    return r;
}

static int fill_uses(const json_t *params, struct psg_param_use *uses, int most)
{
    int n = 0;
    const char *role;
    const json_t *name;
    json_object_foreach((json_t *)(uintptr_t)params, role, name)
    {
        if (n < most)
            uses[n++] = (struct psg_param_use){ role, json_string_value(name) };
    }
    return n;
}

/* instance_norm is one name for 1 to 3 spatial axes. */
static const char *our_op(const char *op, const struct psg_type *in, char *buf, size_t size)
{
    if (strcmp(op, "instance_norm") != 0)
        return op;
    snprintf(buf, size, "instance_norm%dd", in->shape.rank - 1);
    return buf;
}

static int add_node(struct builder *b, const json_t *node)
{
    const char *id = case_text(node, "id", "?"), *op = case_text(node, "op", "?");
    const json_t *in = json_object_get(node, "in");
    struct psg_param_use uses[64];
    psg_value from[8], out[8];
    struct named *first = NULL;
    int n_in = (int)json_array_size(in), n_out = 0, batch_axis = 0;
    for (int i = 0; i < n_in && i < 8; i++) {
        struct named *v = find_value(b, json_string_value(json_array_get(in, (size_t)i)));
        if (!v)
            return psg_fail(b->err, PSG_E_FORMAT, id, "input %d is not known", i);
        from[i] = v->value;
        first = i == 0 ? v : first;
    }
    if (!first || n_in > 8 || b->n == VALUES_MAX)
        return psg_fail(b->err, PSG_E_FORMAT, id, "cannot read the node's inputs");
    batch_axis = first->batch_axis;
    _cleanup_(psg_attrs_freep) struct psg_attrs *a = psg_attrs_new();
    int r = a ? fill_attrs(b, op, node, first, a, &batch_axis) : PSG_E_NOMEM;
    if (r)
        return psg_fail(b->err, r, id, "cannot express the attributes of %s", op);
    char name[32];
    op = our_op(op, psg_program_type(b->p, first->value), name, sizeof name);
    int n_uses = fill_uses(json_object_get(node, "params"), uses, 64);
    r = psg_program_add(b->p, op, id, from, n_in, a, uses, n_uses, out, &n_out, b->err);
    if (r)
        return r;
    b->values[b->n++] = (struct named){ id, out[0], batch_axis };
    return 0;
}

/* The class axis goes to where cross_entropy has it, the first of the sample. */
static int class_axis_first(struct builder *b, int class_dim, psg_value *v)
{
    int rank = psg_program_type(b->p, *v)->shape.rank + 1, at = 2;
    int64_t dims[9] = { 0, class_dim };
    if (class_dim == 1)
        return 0;
    for (int i = 1; i < rank && rank <= 8; i++)
        if (i != class_dim)
            dims[at++] = i;
    _cleanup_(psg_attrs_freep) struct psg_attrs *a = psg_attrs_new();
    if (!a || psg_attrs_ints(a, "dims", dims, rank))
        return PSG_E_NOMEM;
    return psg_program_add(b->p, "permute", "class_axis", v, 1, a, NULL, 0, v, NULL, b->err);
}

static const struct rename losses[] = {
    { "cross_entropy", "class_weights", "weight" },
    { "nll", "class_weights", "weight" },
    { "", "reduce", "reduction" },
    { "", "kind", "" },
    { "", "class_dim", "" },
};

static int fill_loss_attrs(const json_t *loss, const char *kind, struct psg_attrs *a)
{
    const char *key;
    const json_t *value;
    json_object_foreach((json_t *)(uintptr_t)loss, key, value)
    {
        const char *name = key;
        for (size_t i = 0; i < sizeof losses / sizeof losses[0]; i++)
            if ((!*losses[i].op || strcmp(losses[i].op, kind) == 0) &&
                strcmp(losses[i].from, key) == 0)
                name = losses[i].to;
        int r = *name ? set_attr(a, name, value) : 0;
        if (r)
            return r;
    }
    return 0;
}

static int add_loss(struct builder *b, psg_value output)
{
    const json_t *loss = json_object_get(b->c->info, "loss");
    const char *kind = case_text(loss, "kind", "?");
    char op[64];
    bool bare = strcmp(kind, "cross_entropy") == 0 || strcmp(kind, "kl_div") == 0 ||
                strcmp(kind, "bce_with_logits") == 0;
    snprintf(op, sizeof op, "%s%s", kind, bare ? "" : "_loss");
    psg_value in[2] = { output, find_value(b, "target")->value }, out[8];
    int r = class_axis_first(b, (int)case_real(loss, "class_dim", 1), &in[0]);
    if (r)
        return r;
    _cleanup_(psg_attrs_freep) struct psg_attrs *a = psg_attrs_new();
    if (!a || fill_loss_attrs(loss, kind, a))
        return psg_fail(b->err, PSG_E_UNSUPPORTED, "loss", "cannot express its attributes");
    r = psg_program_add(b->p, op, "loss", in, 2, a, NULL, 0, out, NULL, b->err);
    return r ? r : psg_program_set_loss(b->p, out[0], b->err);
}

static int build(struct builder *b)
{
    size_t i;
    const json_t *entry;
    json_array_foreach(json_object_get(b->c->info, "inputs"), i, entry)
    {
        const char *name = case_text(entry, "name", "?");
        int r = add_input(b, name, case_tensor(b->c, "input.%s", name),
                          case_batch_axis(b->c, (int)i));
        if (r)
            return r;
    }
    int r = add_input(b, "target", case_tensor(b->c, "target"), 0);
    if (r)
        return r;
    json_array_foreach(json_object_get(b->c->info, "nodes"), i, entry)
    {
        r = add_node(b, entry);
        if (r)
            return r;
    }
    const struct named *output = find_value(b, case_text(b->c->info, "output", ""));
    if (!output)
        return psg_fail(b->err, PSG_E_FORMAT, "output", "the case names no output");
    r = psg_program_set_output(b->p, output->value, b->err);
    if (r == 0)
        r = add_loss(b, output->value);
    json_array_foreach(json_object_get(b->c->info, "params"), i, entry)
    {
        if (r == 0 && !case_flag(entry, "trainable"))
            r = psg_program_freeze(b->p, case_text(entry, "name", ""), b->err);
    }
    return r ? r : psg_program_check(b->p, b->err);
}

int case_program(const struct golden_case *c, struct psg_program **pp, struct psg_error *err)
{
    _cleanup_(psg_program_freep) struct psg_program *p = psg_program_new();
    if (!p)
        return psg_fail(err, PSG_E_NOMEM, NULL, "out of memory");
    struct builder b = { .c = c, .p = p, .err = err };
    int r = build(&b);
    if (r == 0)
        *pp = steal(&p);
    return r;
}
