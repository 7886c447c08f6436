#include "import/value.h"

#include <string.h>

const char *im_kind_name(enum im_kind kind)
{
    static const char *const names[] = {
        [IM_NONE] = "None",         [IM_BOOL] = "a bool",
        [IM_INT] = "an int",        [IM_REAL] = "a float",
        [IM_TEXT] = "a string",     [IM_LIST] = "a list",
        [IM_TUPLE] = "a tuple",     [IM_DICT] = "a dict",
        [IM_OBJECT] = "an object",  [IM_STORED] = "a tensor",
        [IM_TENSOR] = "a tensor",   [IM_NAME] = "a name",
        [IM_STORAGE] = "a storage", [IM_MARK] = "a mark",
        [IM_UNSET] = "nothing",     [IM_UNKNOWN] = "a value that is not known",
    };
    return names[kind];
}

int64_t im_element_size(enum im_element e)
{
    static const int64_t size[] = {
        [IM_F16] = 2, [IM_BF16] = 2, [IM_F32] = 4, [IM_F64] = 8, [IM_I8] = 1,
        [IM_U8] = 1,  [IM_I16] = 2,  [IM_I32] = 4, [IM_I64] = 8, [IM_BOOLS] = 1,
    };
    return size[e];
}

int im_list_push(struct im_pool *p, struct im_list *l, struct im_value v)
{
    struct im_value *at = im_pool_grow(p, &l->item, l->n, &l->room, sizeof *at);
    if (!at)
        return PSG_E_NOMEM;
    *at = v;
    l->n++;
    return 0;
}

struct im_value im_list_new(struct im_pool *p, enum im_kind kind)
{
    struct im_list *list = im_pool_take(p, sizeof *list);
    return list ? (struct im_value){ .kind = kind, .list = list } : im_none();
}

struct im_value im_text_new(struct im_pool *p, enum im_kind kind, const char *s, size_t n)
{
    struct im_text *text = im_pool_take(p, sizeof *text);
    if (!text || !(text->s = im_pool_text(p, s, n)))
        return im_none();
    text->n = n;
    return (struct im_value){ .kind = kind, .text = text };
}

struct im_value *im_dict_find(const struct im_list *d, const char *key)
{
    for (size_t i = 0; d && i + 1 < d->n; i += 2)
        if (im_text_is(&d->item[i], key))
            return &d->item[i + 1];
    return NULL;
}

bool im_text_is(const struct im_value *v, const char *s)
{
    return (v->kind == IM_TEXT || v->kind == IM_NAME) && v->text->n == strlen(s) &&
           memcmp(v->text->s, s, v->text->n) == 0;
}

struct im_value *im_object_attr(const struct im_object *o, const char *name)
{
    return im_dict_find(o->attrs, name);
}
