/* openapi.json says what the tables say: every message, every member, its type, its range,
 * its default, whether it must be there; and nothing else. */
#include <jansson.h>
#include <math.h>

#include "files.h"
#include "messages.h"
#include "suite.h"

#define MESSAGES_MAX 128

static json_t *document;

static json_t *at(const json_t *object, const char *name)
{
    json_t *value = json_object_get(object, name);
    ck_assert_msg(value != NULL, "no member %s", name);
    return value;
}

static json_t *schemas(void)
{
    return at(at(document, "components"), "schemas");
}

static void load(void)
{
    size_t len;
    json_error_t where;
    char *text = file_read(proto_dir(), "openapi.json", &len);
    document = json_loadb(text, len, JSON_REJECT_DUPLICATES, &where);
    ck_assert_msg(document != NULL, "line %d: %s", where.line, where.text);
    free(text);
}

static void unload(void)
{
    json_decref(document);
}

/* all messages and the messages inside of them */
static size_t collect(const struct proto_message *all[MESSAGES_MAX])
{
    size_t n = 0;
    for (; proto_messages[n]; n++)
        all[n] = proto_messages[n];
    for (size_t i = 0; i < n; i++) {
        for (size_t k = 0; k < all[i]->n_fields; k++) {
            const struct proto_message *inner = all[i]->fields[k].message;
            bool known = inner == NULL;
            for (size_t j = 0; j < n; j++)
                known |= all[j] == inner;
            if (!known) {
                ck_assert_uint_lt(n, MESSAGES_MAX);
                all[n++] = inner;
            }
        }
    }
    return n;
}

static bool has_text(const json_t *list, const char *text)
{
    for (size_t i = 0; i < json_array_size(list); i++) {
        const char *element = json_string_value(json_array_get(list, i));
        if (element && strcmp(element, text) == 0)
            return true;
    }
    return false;
}

/* without the alternative null */
static const json_t *not_null(const json_t *schema, bool nullable)
{
    const json_t *choices = json_object_get(schema, "oneOf");
    if (!nullable || !choices)
        return schema;
    const json_t *last = json_array_get(choices, json_array_size(choices) - 1);
    ck_assert_str_eq(json_string_value(at(last, "type")), "null");
    return json_array_get(choices, 0);
}

static void check_type(const json_t *schema, const char *type, bool nullable,
                       const char *where)
{
    const json_t *given = at(schema, "type");
    bool fits = json_is_string(given) ? strcmp(json_string_value(given), type) == 0
                                      : has_text(given, type) && has_text(given, "null");
    ck_assert_msg(fits, "%s: not of type %s", where, type);
    ck_assert_msg(json_is_array(given) == nullable, "%s: null", where);
}

static void check_bound(const json_t *schema, const char *open, const char *closed,
                        bool is_open, double value, const char *where)
{
    const json_t *bound = json_object_get(schema, is_open ? open : closed);
    ck_assert_msg(json_is_number(bound) && json_number_value(bound) == value, "%s: %s",
                  where, is_open ? open : closed);
    ck_assert_msg(!json_object_get(schema, is_open ? closed : open), "%s: two bounds",
                  where);
}

static void check_range(const json_t *schema, unsigned flags, double min, double max,
                        const char *where)
{
    if (min == 0 && max == 0)
        return;
    check_bound(schema, "exclusiveMinimum", "minimum", flags & PROTO_ABOVE, min, where);
    check_bound(schema, "exclusiveMaximum", "maximum", flags & PROTO_BELOW, max, where);
}

static void check_ref(const json_t *schema, const char *name, const char *where)
{
    const char *ref = json_string_value(at(schema, "$ref"));
    ck_assert_msg(strncmp(ref, "#/components/schemas/", 21) == 0 &&
                      strcmp(ref + 21, name) == 0,
                  "%s: %s is not %s", where, ref, name);
}

static void check_number(const json_t *schema, const char *name, double value,
                         const char *where)
{
    const json_t *given = json_object_get(schema, name);
    ck_assert_msg((value == 0 && !given) || json_number_value(given) == value, "%s: %s",
                  where, name);
}

static void check_enum(const json_t *schema, const char *const *names, const char *where)
{
    const json_t *given = at(schema, "enum");
    size_t n = 0;
    for (; names[n + 1]; n++)
        ck_assert_msg(has_text(given, names[n + 1]), "%s: no %s", where, names[n + 1]);
    ck_assert_msg(json_array_size(given) == n, "%s: says more than the table", where);
}

static void check_list(const struct proto_field *f, const json_t *schema, const char *where)
{
    const json_t *items = at(schema, "items");
    check_type(schema, "array", f->flags & PROTO_NULLABLE, where);
    check_number(schema, "minItems", f->min, where);
    check_number(schema, "maxItems", f->max, where);
    if (f->kind == PROTO_OBJECTS) {
        check_ref(items, f->message->name, where);
    } else if (f->kind == PROTO_STRINGS) {
        check_type(items, "string", false, where);
        check_number(items, "minLength", f->item_min, where);
        check_number(items, "maxLength", f->item_max, where);
    } else {
        check_type(items, f->kind == PROTO_INTS ? "integer" : "number", false, where);
        check_range(items, f->flags, f->item_min, f->item_max, where);
    }
}

static void check_default(const struct proto_field *f, const json_t *schema,
                          const char *where)
{
    if (!(f->flags & PROTO_DEFAULT) || f->tags)
        return;
    const json_t *given = at(schema, "default");
    if (f->kind == PROTO_ENUM)
        ck_assert_msg(strcmp(json_string_value(given), f->names[(int)f->def]) == 0, "%s",
                      where);
    else if (f->kind == PROTO_STRING)
        ck_assert_msg(strcmp(json_string_value(given), f->def_text) == 0, "%s", where);
    else if (f->kind == PROTO_BOOL)
        ck_assert_msg(json_is_true(given) == (f->def != 0), "%s: default", where);
    else
        ck_assert_msg(json_number_value(given) == f->def, "%s: default", where);
}

static void check_field(const struct proto_field *f, const json_t *schema,
                        const char *where)
{
    bool nullable = f->flags & PROTO_NULLABLE;
    const json_t *core = not_null(schema, nullable);
    switch (f->kind) {
    case PROTO_BOOL: check_type(core, "boolean", nullable, where); break;
    case PROTO_INT:
        check_type(core, "integer", nullable, where);
        if (f->min == 0 && f->max == 0)
            check_bound(core, "exclusiveMinimum", "minimum", false, 0, where);
        check_range(core, f->flags, f->min, f->max, where);
        break;
    case PROTO_REAL:
        check_type(core, "number", nullable, where);
        check_range(core, f->flags, f->min, f->max, where);
        break;
    case PROTO_STRING:
        check_type(core, "string", nullable, where);
        check_number(core, "minLength", f->min, where);
        check_number(core, "maxLength", f->max, where);
        ck_assert_msg(!(f->flags & PROTO_NAME) || json_object_get(core, "pattern"), "%s",
                      where);
        break;
    case PROTO_ENUM:
        check_type(core, "string", nullable, where);
        check_enum(core, f->names, where);
        break;
    case PROTO_DURATION:
        core = json_array_get(at(core, "oneOf"), 0);
        check_type(core, "number", false, where);
        check_range(core, f->flags, f->min, f->max, where);
        break;
    case PROTO_TIME:
        check_type(core, "string", nullable, where);
        ck_assert_str_eq(json_string_value(at(core, "format")), "date-time");
        break;
    case PROTO_EMBED:
    case PROTO_OBJECT: check_ref(core, f->message->name, where); break;
    case PROTO_OBJECTS:
    case PROTO_STRINGS:
    case PROTO_INTS:
    case PROTO_REALS: check_list(f, core, where); break;
    case PROTO_CONST:
        ck_assert_str_eq(json_string_value(at(core, "const")), f->names[0]);
        break;
    case PROTO_CUSTOM: /* by hand; the examples hold them together */ break;
    }
    check_default(f, schema, where);
}

START_TEST(schemas_are_the_tables)
{
    const struct proto_message *all[MESSAGES_MAX];
    size_t n = collect(all);
    load();
    for (size_t i = 0; i < n; i++) {
        const json_t *schema = at(schemas(), all[i]->name);
        const json_t *properties = at(schema, "properties");
        const json_t *required = json_object_get(schema, "required");
        size_t n_required = 0, n_names = 0;
        for (size_t k = 0; k < all[i]->n_fields; k++) {
            const struct proto_field *f = &all[i]->fields[k];
            char where[128];
            snprintf(where, sizeof where, "%s.%s", all[i]->name, f->name);
            bool repeated = false;
            for (size_t j = 0; j < k; j++)
                repeated |= strcmp(all[i]->fields[j].name, f->name) == 0;
            ck_assert_msg(json_object_get(properties, f->name) != NULL, "%s is missing",
                          where);
            /* a name that several tags have is described by its first line */
            if (!repeated)
                check_field(f, json_object_get(properties, f->name), where);
            n_names += !repeated;
            bool must = (f->flags & PROTO_REQUIRED) && !f->tags;
            ck_assert_msg(has_text(required, f->name) == must, "%s: required", where);
            n_required += must;
        }
        ck_assert_msg(json_object_size(properties) == n_names, "%s has more members",
                      all[i]->name);
        ck_assert_msg(json_array_size(required) == n_required, "%s requires more",
                      all[i]->name);
    }
    unload();
}
END_TEST

/* what a client sends is closed, what it receives may grow */
START_TEST(requests_refuse_unknown_members)
{
    static const char *const requests[] = {
        "JobSpec",          "Optimizer",     "LrSchedule",   "Privacy",
        "ValueSchedule",
        "ClippingGroup",    "Telemetry",     "Train",        "Model",
        "DatasetColumn", "Definition",       "DefinitionParam", "DefinitionBuffer",
        "DatasetSpec",      "DatasetFiles",  "DatasetCsv",   "DatasetInputs",
        "DatasetNormalize", "DatasetBudget", "BudgetChange", "TokenSpec",
        "LedgerImport",     "LedgerEvent",   "UploadSpec"
    };
    size_t n = 0;
    const char *name;
    json_t *schema;
    load();
    for (size_t i = 0; i < sizeof requests / sizeof *requests; i++)
        ck_assert_msg(json_is_false(at(at(schemas(), requests[i]), "additionalProperties")),
                      "%s", requests[i]);
    json_object_foreach(schemas(), name, schema) n +=
        json_is_false(json_object_get(schema, "additionalProperties"));
    ck_assert_uint_eq(n, sizeof requests / sizeof *requests);
    unload();
}
END_TEST

/* every "$ref" leads somewhere; a list of what is left to look at, no recursion */
START_TEST(references_resolve)
{
    enum { STACK = 8192 };
    static const json_t *stack[STACK];
    size_t depth = 0, refs = 0;
    load();
    stack[depth++] = document;
    while (depth) {
        const json_t *value = stack[--depth];
        const char *name;
        json_t *inner;
        json_object_foreach((json_t *)(uintptr_t)value, name, inner)
        {
            ck_assert_uint_lt(depth, STACK);
            stack[depth++] = inner;
            if (strcmp(name, "$ref") != 0)
                continue;
            char path[256], *save, *part;
            snprintf(path, sizeof path, "%s", json_string_value(inner));
            const json_t *target = document;
            ck_assert_str_eq(strtok_r(path, "/", &save), "#");
            while ((part = strtok_r(NULL, "/", &save)))
                target = json_object_get(target, part);
            ck_assert_msg(target != NULL, "%s leads nowhere", json_string_value(inner));
            refs++;
        }
        for (size_t i = 0; i < json_array_size(value); i++)
            stack[depth++] = json_array_get(value, i);
    }
    ck_assert_uint_gt(refs, 80);
    unload();
}
END_TEST

START_TEST(operations_are_named_once_and_can_fail)
{
    const char *path, *method;
    json_t *item, *operation;
    json_t *seen = json_object();
    load();
    json_object_foreach(at(document, "paths"), path, item)
    {
        json_object_foreach(item, method, operation)
        {
            if (strcmp(method, "parameters") == 0)
                continue;
            const char *id = json_string_value(at(operation, "operationId"));
            ck_assert_msg(!json_object_get(seen, id), "%s is there twice", id);
            json_object_set_new(seen, id, json_true());
            ck_assert(json_is_string(at(operation, "summary")));
            ck_assert_str_eq(
                json_string_value(at(at(at(operation, "responses"), "default"), "$ref")),
                "#/components/responses/Problem");
        }
        ck_assert_msg((strchr(path, '{') != NULL) ==
                          (json_object_get(item, "parameters") != NULL),
                      "%s: parameters", path);
    }
    ck_assert_uint_ge(json_object_size(seen), 25);
    json_decref(seen);
    unload();
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("proto_openapi");
    TCase *tc = tcase_create("openapi");
    tcase_add_test(tc, schemas_are_the_tables);
    tcase_add_test(tc, requests_refuse_unknown_members);
    tcase_add_test(tc, references_resolve);
    tcase_add_test(tc, operations_are_named_once_and_can_fail);
    suite_add_tcase(suite, tc);
    return suite_run(suite);
}
