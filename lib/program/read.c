/* Reading a program: accessors and the printed table. */
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include "program/program.h"

int psg_program_n_params(const struct psg_program *p)
{
    return p->n_params;
}

const struct psg_param_info *psg_program_param(const struct psg_program *p, int i)
{
    return i >= 0 && i < p->n_params ? &p->params[i].info : NULL;
}

int64_t psg_program_trainable_size(const struct psg_program *p)
{
    return p->trainable_size;
}

int64_t psg_program_param_size(const struct psg_program *p)
{
    return p->param_size;
}

int psg_program_n_inputs(const struct psg_program *p)
{
    return p->n_inputs;
}

psg_value psg_program_input_value(const struct psg_program *p, int i)
{
    return i >= 0 && i < p->n_inputs ? p->inputs[i].value : PSG_NONE;
}

const struct psg_input_info *psg_program_input_info(const struct psg_program *p, int i)
{
    return i >= 0 && i < p->n_inputs ? &p->inputs[i].info : NULL;
}

const struct psg_type *psg_program_type(const struct psg_program *p, psg_value v)
{
    return v >= 0 && v < p->n_values ? &p->values[v].type : NULL;
}

const struct psg_type *psg_program_output_type(const struct psg_program *p)
{
    return psg_program_type(p, p->output);
}

int psg_program_n_nodes(const struct psg_program *p)
{
    return p->n_nodes;
}

const char *psg_program_node_path(const struct psg_program *p, int i)
{
    return i >= 0 && i < p->n_nodes ? p->nodes[i].path : NULL;
}

const struct psg_op *psg_program_node_op(const struct psg_program *p, int i)
{
    return i >= 0 && i < p->n_nodes ? p->nodes[i].op : NULL;
}

const struct psg_type *psg_program_node_out_type(const struct psg_program *p, int i)
{
    return i >= 0 && i < p->n_nodes ? &p->values[p->nodes[i].out[0]].type : NULL;
}

static void print_node(FILE *out, const struct psg_program *p, const struct node *node)
{
    char shape[96];
    long long size = 0;
    for (int i = 0; i < node->n_param; i++)
        size += (long long)p->params[node->param[i].param].info.size;
    psg_shape_text(&p->values[node->out[0]].type.shape, shape, sizeof shape);
    fprintf(out, "%-28s %-20s %-20s %12lld\n", node->path, node->op->name, shape, size);
}

char *psg_program_print(const struct psg_program *p)
{
    char *text = NULL;
    size_t size = 0;
    FILE *out = open_memstream(&text, &size);
    if (!out)
        return NULL;
    fprintf(out, "%-28s %-20s %-20s %12s\n", "path", "op", "output", "parameters");
    for (int i = 0; i < p->n_inputs; i++) {
        char shape[96];
        psg_shape_text(&p->inputs[i].info.type.shape, shape, sizeof shape);
        fprintf(out, "%-28s %-20s %-20s %12s\n", p->inputs[i].name, "(input)", shape, "");
    }
    for (int i = 0; i < p->n_nodes; i++)
        print_node(out, p, &p->nodes[i]);
    fprintf(out, "%-28s %-20s %-20s %12lld\n", "total", "", "", (long long)p->param_size);
    bool failed = ferror(out) != 0;
    failed |= fclose(out) != 0;
    if (failed) {
        free(text);
        return NULL;
    }
    return text;
}
