/* LoRA adapters of a program. */
#include <string.h>

#include "program/program.h"
#include "psg/weights.h"

static bool is_lora(const struct node *node)
{
    return strcmp(node->op->name, "lora_linear") == 0;
}

/* Number of the parameter with this role, or -1. */
static int role_param(const struct node *node, const char *role)
{
    for (int r = 0; r < node->n_param; r++)
        if (strcmp(node->param[r].role, role) == 0)
            return node->param[r].param;
    return -1;
}

bool psg_program_is_adapter(const struct psg_program *p, int i)
{
    for (int k = 0; k < p->n_nodes; k++)
        if (is_lora(&p->nodes[k]) && (role_param(&p->nodes[k], "lora_A") == i ||
                                      role_param(&p->nodes[k], "lora_B") == i))
            return true;
    return false;
}

static double number(const struct psg_attrs *attrs, const char *name, double dflt)
{
    const struct attr *a = attrs_find(attrs, name);
    return !a ? dflt : a->kind == PSG_ATTR_INT ? (double)a->u.i : a->u.r;
}

/* w [O, I] += s b [O, r] a [r, I] */
static void merge(const struct psg_program *p, const struct node *node, psg_real *params)
{
    const struct psg_param_info *w = &p->params[role_param(node, "weight")].info;
    const struct psg_param_info *a = &p->params[role_param(node, "lora_A")].info;
    const struct psg_param_info *b = &p->params[role_param(node, "lora_B")].info;
    int64_t rank = a->shape.dim[0], in = a->shape.dim[1];
    double scale = number(node->attrs, "lora_alpha", 8) / (double)rank;
    for (int64_t o = 0; o < w->shape.dim[0]; o++)
        for (int64_t i = 0; i < in; i++) {
            double sum = 0;
            for (int64_t k = 0; k < rank; k++)
                sum += (double)params[b->offset + o * rank + k] *
                       (double)params[a->offset + k * in + i];
            psg_real *to = &params[w->offset + o * in + i];
            *to = (psg_real)((double)*to + scale * sum);
        }
}

/* A node that uses weight and adapters of an earlier one adds nothing. */
static bool repeats(const struct psg_program *p, int k)
{
    static const char *const roles[] = { "weight", "lora_A", "lora_B" };
    for (int i = 0; i < k; i++) {
        bool same = is_lora(&p->nodes[i]);
        for (int j = 0; same && j < 3; j++)
            same = role_param(&p->nodes[i], roles[j]) == role_param(&p->nodes[k], roles[j]);
        if (same)
            return true;
    }
    return false;
}

void psg_lora_merge(const struct psg_program *p, psg_real *params)
{
    for (int k = 0; k < p->n_nodes; k++)
        if (is_lora(&p->nodes[k]) && !repeats(p, k))
            merge(p, &p->nodes[k], params);
}
