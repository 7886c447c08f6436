/* Values made of nothing: full, iota, constant; and shorthands.
 *
 * A full is one number in memory read with stride 0, an iota one vector; both are written when
 * the graph is planned. A constant is read where the graph keeps it. The planner (exec.c) knows
 * the three by their kind. */
#include "prim/prim.h"

#include <string.h>

psg_value psg_g_full(struct psg_graph *g, const struct psg_shape *shape, double value)
{
    struct psg_type type = { .dtype = PSG_REAL, .shape = *shape };
    struct attr_full a = { value };
    return prim_append(g, PRIM_FULL, NULL, 0, &a, sizeof a, &type, 1);
}

psg_value psg_g_scalar(struct psg_graph *g, double value)
{
    return psg_g_full(g, &(struct psg_shape){ .rank = 0 }, value);
}

psg_value psg_g_iota(struct psg_graph *g, const struct psg_shape *shape, int axis)
{
    struct psg_type type = { .dtype = PSG_REAL, .shape = *shape };
    struct attr_axis a = { axis };
    if (g->err.status)
        return PSG_NONE;
    if (axis < 0 || axis >= shape->rank)
        return prim_fail(g, PSG_E_SHAPE, "iota: axis %d of rank %d", axis, shape->rank);
    return prim_append(g, PRIM_IOTA, NULL, 0, &a, sizeof a, &type, 1);
}

psg_value psg_g_constant(struct psg_graph *g, const struct psg_type *type, const void *data)
{
    if (g->err.status)
        return PSG_NONE;
    int64_t size = type->shape.rank >= 0 && type->shape.rank <= PSG_MAX_RANK
                       ? psg_shape_size(&type->shape)
                       : -1;
    int64_t bytes;
    if (size < 0 ||
        __builtin_mul_overflow(size, (int64_t)psg_dtype_size(type->dtype), &bytes))
        return prim_fail(g, PSG_E_SHAPE, "constant: no such shape is possible");
    return prim_append(g, PRIM_CONSTANT, NULL, 0, data, (size_t)bytes, type, 1);
}

psg_value prim_zeros_like(struct psg_graph *g, psg_value v)
{
    if (!prim_operands_ok(g, &v, 1, "zeros_like"))
        return PSG_NONE;
    return psg_g_full(g, prim_shape(g, v), 0.0);
}

bool prim_is_full(const struct psg_graph *g, psg_value v, double *value)
{
    for (;;) {
        const struct prim_node *n = prim_node_of(g, v);
        if (n->kind == PRIM_FULL) {
            *value = ((const struct attr_full *)n->attr)->value;
            return true;
        }
        if (n->kind == PRIM_CONSTANT && prim_is_real(g, v) &&
            n->attr_size == sizeof(psg_real)) {
            psg_real x;
            memcpy(&x, n->attr, sizeof x);
            *value = (double)x;
            return true;
        }
        if (n->kind != PRIM_BROADCAST && n->kind != PRIM_RESHAPE && n->kind != PRIM_TRANSPOSE)
            return false;
        v = prim_in(g, n)[0];
    }
}

const struct prim prim_full = { .name = "full" };
const struct prim prim_iota = { .name = "iota" };
const struct prim prim_constant = { .name = "constant" };
