#include "proto/dataset.h"

#include <string.h>

#include "budget.h"
#include "dataset.h"
#include "job.h"

#define F(format) (1u << DATASET_##format)
#define K(kind)   (1u << DATASET_##kind)

static const char *const format_names[] = { "", "idx", "npy", "csv", "embedded", NULL };
static const char *const kind_names[] = { "", "image", "features", "tokens", NULL };
static const char *const column_kind_names[] = { "", "features", "tokens", "lengths", "user",
                                                 NULL };
static const char *const dtype_names[] = { "", "f32", "f64", "u8", "i32", "i64", NULL };
static const char *const telemetry_names[] = { "", "private", "raw", "none", NULL };
const char *const unit_names[] = { "", "record", "user", NULL };
static const char *const split_names[] = { "", "private", "public", NULL };

#define PATH .kind = PROTO_STRING, .min = 1, .max = 1024

static const struct proto_field files_fields[] = {
    { PROTO_AT(dataset_files, train_inputs), PATH },
    { PROTO_AT(dataset_files, train_labels), PATH },
    { PROTO_AT(dataset_files, test_inputs), PATH },
    { PROTO_AT(dataset_files, test_labels), PATH },
    { PROTO_AT(dataset_files, train), PATH },
    { PROTO_AT(dataset_files, test), PATH },
};

/* a path that stays beneath the data root whatever links do there is the opener's care;
 * here we refuse what no honest client sends */
static bool path_is_relative(const char *path)
{
    if (path[0] == '/')
        return false;
    for (const char *part = path; part; part = strchr(part, '/')) {
        part += *part == '/';
        size_t n = strcspn(part, "/");
        if (n == 0 || (n == 1 && part[0] == '.') || (n == 2 && strncmp(part, "..", 2) == 0))
            return false;
    }
    return true;
}

static void files_check(struct proto_decoder *d, void *message)
{
    for (size_t i = 0; i < PROTO_COUNT(files_fields); i++) {
        const char *path;
        memcpy(&path, (char *)message + files_fields[i].offset, sizeof path);
        if (path && !path_is_relative(path))
            proto_fail_member(d, files_fields[i].name, ITEM_INVALID_VALUE,
                              "must be a relative path without '.' and '..'");
    }
}

static const struct proto_message files_message = { .name = "DatasetFiles",
                                                    .size = sizeof(struct dataset_files),
                                                    .fields = files_fields,
                                                    .n_fields = PROTO_COUNT(files_fields),
                                                    .check = files_check };

static const struct proto_field csv_fields[] = {
    { PROTO_AT(dataset_csv, separator), .kind = PROTO_STRING, .flags = PROTO_DEFAULT,
      .min = 1, .max = 1, .def_text = "," },
    { PROTO_AT(dataset_csv, header), .kind = PROTO_BOOL },
    { PROTO_AT(dataset_csv, label_column), .kind = PROTO_INT, .max = 1e6 },
};

static const struct proto_message csv_message = { .name = "DatasetCsv",
                                                  .size = sizeof(struct dataset_csv),
                                                  .fields = csv_fields,
                                                  .n_fields = PROTO_COUNT(csv_fields) };

static const struct proto_field normalize_fields[] = {
    { PROTO_AT(dataset_normalize, divide_by), .kind = PROTO_REAL,
      .flags = PROTO_DEFAULT | PROTO_ABOVE, .max = 1e12, .def = 1 },
    { PROTO_LIST(dataset_normalize, mean), .kind = PROTO_REALS, .max = 65536 },
    { PROTO_LIST(dataset_normalize, std), .kind = PROTO_REALS, .max = 65536,
      .item_min = 1e-12, .item_max = 1e12 },
};

static void normalize_check(struct proto_decoder *d, void *message)
{
    const struct dataset_normalize *n = message;
    if (n->n_mean && n->n_std && n->n_mean != n->n_std)
        proto_fail_member(d, "std", ITEM_INVALID_VALUE, "must be as long as mean");
}

static const struct proto_message normalize_message = {
    .name = "DatasetNormalize",
    .size = sizeof(struct dataset_normalize),
    .fields = normalize_fields,
    .n_fields = PROTO_COUNT(normalize_fields),
    .check = normalize_check
};

static const struct proto_field inputs_fields[] = {
    { PROTO_AT(dataset_inputs, kind), .kind = PROTO_ENUM, .flags = PROTO_DEFAULT,
      .def = DATASET_FEATURES, .names = kind_names },
    { PROTO_AT(dataset_inputs, dtype), .kind = PROTO_ENUM, .names = dtype_names },
    { PROTO_LIST(dataset_inputs, shape), .kind = PROTO_INTS, .max = 8, .item_min = 1,
      .item_max = 1e9 },
    { PROTO_AT(dataset_inputs, vocabulary), .kind = PROTO_INT, .flags = PROTO_REQUIRED,
      .tags = K(TOKENS), .min = 1, .max = 1e9 },
    { PROTO_AT(dataset_inputs, record_axis), .kind = PROTO_INT, .max = 11 },
};

static const struct proto_field column_fields[] = {
    { PROTO_AT(dataset_column, name), .kind = PROTO_STRING,
      .flags = PROTO_REQUIRED | PROTO_NAME },
    { PROTO_AT(dataset_column, kind), .kind = PROTO_ENUM, .flags = PROTO_DEFAULT,
      .def = DATASET_COLUMN_FEATURES, .names = column_kind_names },
    { PROTO_AT(dataset_column, train), PATH },
    { PROTO_AT(dataset_column, test), PATH },
    { PROTO_LIST(dataset_column, columns), .kind = PROTO_INTS, .max = 4096, .item_max = 1e6 },
    { PROTO_LIST(dataset_column, shape), .kind = PROTO_INTS, .max = 8, .item_min = 1,
      .item_max = 1e9 },
    { PROTO_AT(dataset_column, vocabulary), .kind = PROTO_INT, .flags = PROTO_REQUIRED,
      .tags = 1u << DATASET_COLUMN_TOKENS, .min = 1, .max = 1e9 },
    { PROTO_AT(dataset_column, record_axis), .kind = PROTO_INT, .max = 11 },
};

static void column_check(struct proto_decoder *d, void *message)
{
    const struct dataset_column *c = message;
    if (strcmp(c->name, "input") == 0 || strcmp(c->name, "target") == 0)
        proto_fail_member(d, "name", ITEM_INVALID_VALUE, "is the name of another column");
    if (c->train && !path_is_relative(c->train))
        proto_fail_member(d, "train", ITEM_INVALID_VALUE,
                          "must be a relative path without '.' and '..'");
    if (c->test && !path_is_relative(c->test))
        proto_fail_member(d, "test", ITEM_INVALID_VALUE,
                          "must be a relative path without '.' and '..'");
    if (c->kind == DATASET_COLUMN_LENGTHS && c->n_shape)
        proto_fail_member(d, "shape", ITEM_NOT_APPLICABLE, "a length is one number");
    if (c->kind != DATASET_COLUMN_USER)
        return;
    if (c->n_shape)
        proto_fail_member(d, "shape", ITEM_NOT_APPLICABLE, "a user's id is one number");
    if (c->n_columns > 1)
        proto_fail_member(d, "columns", ITEM_TOO_MANY, "a user's id is one number");
    if (c->test)
        proto_fail_member(d, "test", ITEM_NOT_APPLICABLE,
                          "only training records are counted by user");
}

static const struct proto_message column_message = { .name = "DatasetColumn",
                                                     .size = sizeof(struct dataset_column),
                                                     .fields = column_fields,
                                                     .n_fields = PROTO_COUNT(column_fields),
                                                     .tag = "kind",
                                                     .check = column_check };

static const struct proto_message inputs_message = { .name = "DatasetInputs",
                                                     .size = sizeof(struct dataset_inputs),
                                                     .fields = inputs_fields,
                                                     .n_fields = PROTO_COUNT(inputs_fields),
                                                     .tag = "kind" };

static const struct proto_field budget_fields[] = {
    { PROTO_AT(dataset_budget, epsilon), .kind = PROTO_REAL,
      .flags = PROTO_REQUIRED | PROTO_ABOVE, .max = 1e6 },
    { PROTO_AT(dataset_budget, delta), .kind = PROTO_REAL,
      .flags = PROTO_REQUIRED | PROTO_ABOVE | PROTO_BELOW, .max = 1 },
};

static const struct proto_message dataset_budget_message = {
    .name = "DatasetBudget",
    .size = sizeof(struct dataset_budget),
    .fields = budget_fields,
    .n_fields = PROTO_COUNT(budget_fields)
};

static const struct proto_field spec_fields[] = {
    { PROTO_AT(dataset_spec, name), .kind = PROTO_STRING,
      .flags = PROTO_REQUIRED | PROTO_NAME },
    { PROTO_AT(dataset_spec, description), .kind = PROTO_STRING, .max = 4096 },
    { PROTO_AT(dataset_spec, format), .kind = PROTO_ENUM, .flags = PROTO_REQUIRED,
      .names = format_names },
    { PROTO_AT(dataset_spec, files), .kind = PROTO_EMBED, .flags = PROTO_REQUIRED,
      .tags = F(IDX) | F(NPY) | F(CSV), .message = &files_message },
    { PROTO_AT(dataset_spec, csv), .kind = PROTO_EMBED, .tags = F(CSV),
      .message = &csv_message },
    { PROTO_AT(dataset_spec, inputs), .kind = PROTO_EMBED, .message = &inputs_message },
    { PROTO_LIST(dataset_spec, columns), .kind = PROTO_OBJECTS, .tags = F(IDX) | F(NPY) | F(CSV),
      .max = 32, .message = &column_message },
    { PROTO_AT(dataset_spec, classes), .kind = PROTO_INT, .flags = PROTO_NULLABLE, .min = 2,
      .max = 1e6 },
    { PROTO_AT(dataset_spec, nominal_size), .kind = PROTO_INT, .flags = PROTO_NULLABLE,
      .min = 1, .max = 1e12 },
    { PROTO_AT(dataset_spec, normalize), .kind = PROTO_EMBED,
      .message = &normalize_message },
    { PROTO_AT(dataset_spec, budget), .kind = PROTO_OBJECT, .flags = PROTO_NULLABLE,
      .message = &dataset_budget_message },
    { PROTO_AT(dataset_spec, telemetry), .kind = PROTO_ENUM, .flags = PROTO_DEFAULT,
      .def = TELEMETRY_PRIVATE, .names = telemetry_names },
    { PROTO_AT(dataset_spec, loss_bound), .kind = PROTO_REAL,
      .flags = PROTO_DEFAULT | PROTO_ABOVE, .max = 1e9, .def = 8 },
    { PROTO_AT(dataset_spec, test_split), .kind = PROTO_ENUM, .flags = PROTO_DEFAULT,
      .def = SPLIT_PRIVATE, .names = split_names },
    { .name = "public",
      .offset = offsetof(struct dataset_spec, is_public),
      .kind = PROTO_BOOL },
    { PROTO_AT(dataset_spec, unit), .kind = PROTO_ENUM, .flags = PROTO_DEFAULT,
      .def = PRIVACY_UNIT_RECORD, .names = unit_names },
};

static bool both_or_none(const char *a, const char *b)
{
    return (a == NULL) == (b == NULL);
}

size_t dataset_user_column(size_t n_columns, const struct dataset_column *columns)
{
    size_t i = 0;
    while (i < n_columns && columns[i].kind != DATASET_COLUMN_USER)
        i++;
    return i;
}

static void check_user(struct proto_decoder *d, const struct dataset_spec *s)
{
    size_t user = dataset_user_column(s->n_columns, s->columns);
    if (s->unit == PRIVACY_UNIT_USER && user == s->n_columns)
        proto_fail_member(d, "columns", ITEM_MISSING_MEMBER,
                          "unit user needs a column of kind user");
    path_push_name(&d->path, "columns");
    for (size_t i = user + 1; i < s->n_columns; i++)
        if (s->columns[i].kind == DATASET_COLUMN_USER) {
            path_push_index(&d->path, i);
            proto_fail_member(d, "kind", ITEM_TOO_MANY, "one column only says whose a record is");
            path_pop(&d->path);
        }
    path_pop(&d->path);
}

static void check_columns(struct proto_decoder *d, const struct dataset_spec *s)
{
    bool csv = s->format == DATASET_CSV, test = s->files.test_inputs != NULL;
    path_push_name(&d->path, "columns");
    for (size_t i = 0; i < s->n_columns; i++) {
        const struct dataset_column *c = &s->columns[i];
        path_push_index(&d->path, i);
        for (size_t k = 0; k < i; k++)
            if (strcmp(s->columns[k].name, c->name) == 0)
                proto_fail_member(d, "name", ITEM_DUPLICATE_NAME, "is the name of another column");
        if (csv && (c->train || c->test))
            proto_fail(d, ITEM_NOT_APPLICABLE, "format csv takes columns of its own file");
        if (csv && !c->n_columns)
            proto_fail_member(d, "columns", ITEM_MISSING_MEMBER, "is missing");
        if (!csv && c->n_columns)
            proto_fail_member(d, "columns", ITEM_NOT_APPLICABLE, "belongs to format csv");
        if (!csv && !c->train)
            proto_fail_member(d, "train", ITEM_MISSING_MEMBER, "is missing");
        if (!csv && c->kind != DATASET_COLUMN_USER && test != (c->test != NULL))
            proto_fail_member(d, "test", test ? ITEM_MISSING_MEMBER : ITEM_NOT_APPLICABLE,
                              "is there when test_inputs is");
        path_pop(&d->path);
    }
    path_pop(&d->path);
}

static void spec_check(struct proto_decoder *d, void *message)
{
    const struct dataset_spec *s = message;
    const struct dataset_files *f = &s->files;
    bool csv = s->format == DATASET_CSV,
         arrays = s->format == DATASET_IDX || s->format == DATASET_NPY;
    path_push_name(&d->path, "files");
    if (csv && !f->train)
        proto_fail_member(d, "train", ITEM_MISSING_MEMBER, "is missing");
    if (csv && (f->train_inputs || f->train_labels || f->test_inputs || f->test_labels))
        proto_fail(d, ITEM_NOT_APPLICABLE, "format csv has the files train and test");
    if (arrays && !(f->train_inputs && f->train_labels))
        proto_fail(d, ITEM_MISSING_MEMBER, "needs train_inputs and train_labels");
    if (arrays && (f->train || f->test))
        proto_fail(d, ITEM_NOT_APPLICABLE, "train and test belong to format csv");
    if (!both_or_none(f->test_inputs, f->test_labels))
        proto_fail(d, ITEM_MISSING_MEMBER,
                   "needs both of test_inputs and test_labels, or none");
    path_pop(&d->path);
    check_columns(d, s);
    check_user(d, s);
    if (!s->budget && !s->is_public)
        proto_fail_member(d, "budget", ITEM_MISSING_MEMBER,
                          "is needed unless the data is public");
}

const struct proto_message dataset_spec_message = { .name = "DatasetSpec",
                                                    .size = sizeof(struct dataset_spec),
                                                    .fields = spec_fields,
                                                    .n_fields = PROTO_COUNT(spec_fields),
                                                    .tag = "format",
                                                    .check = spec_check };

static const struct proto_field view_fields[] = {
    { PROTO_AT(dataset_view, id), .kind = PROTO_STRING, .flags = PROTO_REQUIRED },
    { PROTO_AT(dataset_view, name), .kind = PROTO_STRING, .flags = PROTO_REQUIRED },
    { PROTO_AT(dataset_view, description), .kind = PROTO_STRING },
    { PROTO_AT(dataset_view, format), .kind = PROTO_ENUM, .names = format_names },
    { PROTO_AT(dataset_view, inputs), .kind = PROTO_EMBED, .message = &inputs_message },
    { PROTO_LIST(dataset_view, columns), .kind = PROTO_OBJECTS, .max = 32,
      .message = &column_message },
    { PROTO_AT(dataset_view, classes), .kind = PROTO_INT, .flags = PROTO_NULLABLE },
    { PROTO_AT(dataset_view, nominal_size), .kind = PROTO_INT },
    { PROTO_AT(dataset_view, test_size), .kind = PROTO_INT },
    { PROTO_AT(dataset_view, normalize), .kind = PROTO_EMBED,
      .message = &normalize_message },
    { PROTO_AT(dataset_view, telemetry), .kind = PROTO_ENUM, .names = telemetry_names },
    { PROTO_AT(dataset_view, loss_bound), .kind = PROTO_REAL },
    { PROTO_AT(dataset_view, test_split), .kind = PROTO_ENUM, .names = split_names },
    { .name = "public",
      .offset = offsetof(struct dataset_view, is_public),
      .kind = PROTO_BOOL },
    { PROTO_AT(dataset_view, unit), .kind = PROTO_ENUM, .names = unit_names },
    { PROTO_AT(dataset_view, sha256), .kind = PROTO_STRING },
    { PROTO_AT(dataset_view, owner), .kind = PROTO_STRING },
    { PROTO_AT(dataset_view, created_at), .kind = PROTO_TIME },
    { PROTO_AT(dataset_view, budget), .kind = PROTO_OBJECT, .flags = PROTO_NULLABLE,
      .message = &budget_view_message },
};

const struct proto_message dataset_view_message = { .name = "Dataset",
                                                    .size = sizeof(struct dataset_view),
                                                    .fields = view_fields,
                                                    .n_fields = PROTO_COUNT(view_fields) };

static const struct proto_field page_fields[] = {
    { .name = "object", .kind = PROTO_CONST, .names = list_text },
    { PROTO_LIST(dataset_page, data), .kind = PROTO_OBJECTS, .flags = PROTO_REQUIRED,
      .message = &dataset_view_message },
    { PROTO_AT(dataset_page, has_more), .kind = PROTO_BOOL, .flags = PROTO_REQUIRED },
};

const struct proto_message dataset_page_message = { .name = "DatasetPage",
                                                    .size = sizeof(struct dataset_page),
                                                    .fields = page_fields,
                                                    .n_fields = PROTO_COUNT(page_fields) };

PROTO_DEFINE_STRICT(dataset_spec, dataset_spec_message)
PROTO_DEFINE_LENIENT(dataset_view, dataset_view_message)
PROTO_DEFINE_LENIENT(dataset_page, dataset_page_message)

void dataset_view_init(struct dataset_view *view)
{
    memset(view, 0, sizeof *view);
    proto_defaults(&dataset_view_message, view, 0);
}

static const char *name_at(const char *const *names, unsigned n, unsigned i)
{
    return i < n ? names[i] : "";
}

const char *dataset_format_name(enum dataset_format format)
{
    return name_at(format_names, PROTO_COUNT(format_names) - 1, format);
}

const char *dataset_kind_name(enum dataset_kind kind)
{
    return name_at(kind_names, PROTO_COUNT(kind_names) - 1, kind);
}

const char *dataset_dtype_name(enum dataset_dtype dtype)
{
    return name_at(dtype_names, PROTO_COUNT(dtype_names) - 1, dtype);
}

const char *dataset_unit_name(enum privacy_unit unit)
{
    return name_at(unit_names, PROTO_COUNT(unit_names) - 1, unit);
}

const char *telemetry_policy_name(enum telemetry_policy policy)
{
    return name_at(telemetry_names, PROTO_COUNT(telemetry_names) - 1, policy);
}
