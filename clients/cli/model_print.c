/* dpsgctl model: what a check found, as text or JSON. */
#include <inttypes.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "model.h"

struct totals {
    int64_t params, trainable, activation_bytes, row_bytes;
    double forward, plain, private;
};

struct table {
    int n;
    struct psg_layer_cost *row;
    struct totals sum;
    struct psg_plan_info info;
    struct psg_plan *plan;
};

static void table_close(struct table *t)
{
    psg_plan_free(t->plan);
    free(t->row);
}

static int table_open(struct table *t, struct model_report *report, int threads,
                      struct psg_error *err)
{
    const struct psg_plan_options options = { .mode = report->mode, .n_threads = threads };
    t->n = psg_program_n_nodes(report->program);
    t->row = calloc((size_t)t->n + 1, sizeof *t->row);
    if (!t->row)
        return psg_fail(err, PSG_E_NOMEM, "", "out of memory");
    int r = psg_plan_new(report->program, &options, &t->plan, err);
    for (int i = 0; r == 0 && i < t->n; i++) {
        struct psg_layer_cost *c = &t->row[i];
        r = psg_layer_cost(t->plan, report->program, i, c, err);
        t->sum.params += c->params;
        t->sum.trainable += c->trainable;
        t->sum.activation_bytes += c->activation_bytes;
        t->sum.row_bytes += c->row_bytes;
        t->sum.forward += c->forward_flops;
        t->sum.plain += c->plain_flops;
        t->sum.private += c->private_flops;
    }
    if (r == 0)
        psg_plan_info(t->plan, &t->info);
    return r;
}

/* ---- text ---- */

static const char *bytes_text(double n, char buf[24])
{
    static const char *const unit[] = { "B", "KiB", "MiB", "GiB", "TiB" };
    int k = 0;
    for (; n >= 1024 && k < 4; k++)
        n /= 1024;
    snprintf(buf, 24, k ? "%.1f %s" : "%.0f %s", n, unit[k]);
    return buf;
}

static const char *flops_text(double n, char buf[24])
{
    static const char *const unit[] = { "", "k", "M", "G", "T", "P" };
    int k = 0;
    for (; n >= 1000 && k < 5; k++)
        n /= 1000;
    snprintf(buf, 24, k ? "%.1f%s" : "%.0f%s", n, unit[k]);
    return buf;
}

static const char *route_text(const char *route)
{
    if (strcmp(route, "grad_sample") == 0)
        return "keeps rows";
    if (strcmp(route, "norm_sample") == 0)
        return "norms, book-keeping";
    if (strcmp(route, "derived") == 0)
        return "keeps rows, derived";
    return route[0] ? route : "-";
}

static void put_cell(const char *text, int width)
{
    cli_put(text);
    for (int n = (int)strlen(text); n < width; n++)
        putchar(' ');
    putchar(' ');
}

static int widest(const struct table *t, bool path)
{
    int most = 5;
    for (int i = 0; i < t->n; i++) {
        int n = (int)strlen(path ? t->row[i].path : t->row[i].op);
        most = n > most ? n : most;
    }
    return most > 40 ? 40 : most;
}

static void print_row(const struct psg_layer_cost *c, int path_width, int op_width)
{
    char shape[96], a[24], b[24], d[24];
    put_cell(c->path, path_width);
    put_cell(c->op, op_width);
    put_cell(psg_shape_text(&c->type.shape, shape, sizeof shape), 18);
    printf("%11" PRId64 " %11" PRId64 " %10s %10s %8s ", c->params, c->trainable,
           bytes_text((double)c->activation_bytes, a), bytes_text((double)c->row_bytes, b),
           flops_text(c->plain_flops, d));
    if (c->plain_flops > 0)
        printf("%7.2f  %s\n", c->private_flops / c->plain_flops, route_text(c->route));
    else
        printf("%7s  %s\n", "-", route_text(c->route));
}

static void print_inputs(const struct model_report *report)
{
    const struct psg_program *p = report->program;
    for (int i = 0; i < psg_program_n_inputs(p); i++) {
        const struct psg_input_info *in = psg_program_input_info(p, i);
        char shape[96];
        printf("input ");
        cli_put(in->name);
        printf(" %s %s", psg_shape_text(&in->type.shape, shape, sizeof shape),
               in->type.dtype == PSG_I64 ? "int64" : "float32");
        if (report->import)
            printf(", samples on axis %d", psg_import_batch_axis(report->import, i));
        putchar('\n');
    }
}

static void print_table(const struct model_report *report, const struct table *t)
{
    int path = widest(t, true), op = widest(t, false);
    char a[24], b[24], c[24];
    print_inputs(report);
    printf("\n%-*s %-*s %-18s %11s %11s %10s %10s %8s %7s  %s\n", path, "layer", op, "kind",
           "output", "params", "trainable", "activ.", "rows", "flops", "private", "gradients");
    for (int i = 0; i < t->n; i++)
        print_row(&t->row[i], path, op);
    printf("\n%" PRId64 " parameters, %" PRId64 " trained; %s for each sample of a tile (%s "
           "activations, %s rows)\n", t->sum.params, t->sum.trainable,
           bytes_text((double)(t->sum.activation_bytes + t->sum.row_bytes), a),
           bytes_text((double)t->sum.activation_bytes, b),
           bytes_text((double)t->sum.row_bytes, c));
    printf("mode %s: tiles of %" PRId64 " samples, %s whatever the batch\n",
           psg_mode_name(t->info.mode), t->info.tile, bytes_text((double)t->info.bytes, a));
    printf("a sample: %s flops forward, %s a step without privacy, %s with it (%.2f times)\n",
           flops_text(t->sum.forward, a), flops_text(t->sum.plain, b),
           flops_text(t->sum.private, c),
           t->sum.plain > 0 ? t->sum.private / t->sum.plain : 1.0);
    if (report->batch > 0)
        printf("a step of %" PRId64 " samples: %s flops\n", report->batch,
               flops_text(t->sum.private * (double)report->batch, a));
}

static void print_items(const struct model_report *report)
{
    for (size_t i = 0; i < report->n_items; i++) {
        const struct model_item *item = &report->items[i];
        cli_put(item->place[0] ? item->place : "(the model)");
        printf(": ");
        cli_put(item->text);
        printf(" [");
        cli_put(item->code);
        printf("]\n");
        if (item->remedy[0]) {
            printf("  ");
            cli_put(item->remedy);
            putchar('\n');
        }
    }
    if (report->n_items)
        printf("%zu finding%s", report->n_items + report->n_dropped,
               report->n_items + report->n_dropped == 1 ? "" : "s");
    else
        printf("\nnothing stands in the way of private training");
    if (report->n_dropped)
        printf(" (%zu not shown)", report->n_dropped);
    putchar('\n');
}

/* ---- JSON ---- */

static json_t *shape_json(const struct psg_shape *shape)
{
    json_t *list = json_array();
    for (int i = 0; i < shape->rank; i++)
        json_array_append_new(list, json_integer(shape->dim[i]));
    return list;
}

static json_t *row_json(const struct psg_layer_cost *c)
{
    return json_pack("{s:s, s:s, s:o, s:I, s:I, s:s*, s:I, s:I, s:f, s:f, s:f}", "path", c->path,
                     "op", c->op, "shape", shape_json(&c->type.shape), "params",
                     (json_int_t)c->params, "trainable", (json_int_t)c->trainable, "route",
                     c->route[0] ? c->route : NULL, "activation_bytes",
                     (json_int_t)c->activation_bytes, "row_bytes", (json_int_t)c->row_bytes,
                     "forward_flops", c->forward_flops, "plain_flops", c->plain_flops,
                     "private_flops", c->private_flops);
}

static json_t *inputs_json(const struct model_report *report)
{
    json_t *list = json_array();
    for (int i = 0; i < psg_program_n_inputs(report->program); i++) {
        const struct psg_input_info *in = psg_program_input_info(report->program, i);
        json_t *one = json_pack("{s:s, s:o, s:s}", "name", in->name, "shape",
                                shape_json(&in->type.shape), "dtype",
                                in->type.dtype == PSG_I64 ? "int64" : "float32");
        if (one && report->import)
            json_object_set_new(one, "batch_axis",
                                json_integer(psg_import_batch_axis(report->import, i)));
        json_array_append_new(list, one);
    }
    return list;
}

static void add_table(json_t *root, const struct model_report *report, const struct table *t)
{
    json_t *layers = json_array();
    for (int i = 0; i < t->n; i++)
        json_array_append_new(layers, row_json(&t->row[i]));
    json_object_set_new(root, "inputs", inputs_json(report));
    json_object_set_new(root, "layers", layers);
    json_object_set_new(root, "mode", json_string(psg_mode_name(t->info.mode)));
    json_object_set_new(
        root, "total",
        json_pack("{s:I, s:I, s:I, s:I, s:I, s:I, s:f, s:f, s:f}", "params",
                  (json_int_t)t->sum.params, "trainable", (json_int_t)t->sum.trainable, "tile",
                  (json_int_t)t->info.tile, "bytes", (json_int_t)t->info.bytes,
                  "activation_bytes", (json_int_t)t->sum.activation_bytes, "row_bytes",
                  (json_int_t)t->sum.row_bytes, "forward_flops", t->sum.forward, "plain_flops",
                  t->sum.plain, "private_flops", t->sum.private));
}

static json_t *items_json(const struct model_report *report)
{
    json_t *list = json_array();
    for (size_t i = 0; i < report->n_items; i++) {
        const struct model_item *item = &report->items[i];
        json_array_append_new(list, json_pack("{s:s, s:s, s:s, s:s}", "place", item->place,
                                              "code", item->code, "message", item->text, "remedy",
                                              item->remedy));
    }
    return list;
}

static int print_json(const struct model_report *report, const struct table *t)
{
    json_t *root = json_pack("{s:s, s:s, s:b}", "file", report->file, "kind", report->kind, "ok",
                             report->n_items == 0);
    if (root && report->program)
        add_table(root, report, t);
    if (root)
        json_object_set_new(root, "findings", items_json(report));
    _cleanup_free_ char *text = root ? json_dumps(root, JSON_COMPACT | JSON_REAL_PRECISION(15))
                                     : NULL;
    json_decref(root);
    if (!text) {
        fprintf(stderr, "dpsgctl: out of memory\n");
        return EXIT_FAILED;
    }
    puts(text);
    return report->n_items ? EXIT_FAILED : EXIT_SUCCEEDED;
}

int model_print(const struct cli *cli, struct model_report *report, int threads)
{
    struct table t = { 0 };
    struct psg_error err = { 0 };
    int r = EXIT_SUCCEEDED;
    if (report->program && table_open(&t, report, threads, &err)) {
        model_report_add(report, err.place, problem_item_text(error_item_code(err.status)),
                         err.text, NULL);
        if (!report->import)
            psg_program_free(report->program);
        report->program = NULL;
    }
    if (cli->json) {
        r = print_json(report, &t);
    } else {
        if (report->program)
            print_table(report, &t);
        print_items(report);
        r = report->n_items ? EXIT_FAILED : EXIT_SUCCEEDED;
    }
    table_close(&t);
    return r;
}
