/* Messages built by hand, defaults as documented, and what decoders hand out. */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "proto/dataset.h"
#include "proto/event.h"
#include "proto/job.h"
#include "proto/job_spec.h"
#include "suite.h"

static struct job_spec *spec_of(const char *optimizer, const char *extra)
{
    char text[2048];
    snprintf(
        text, sizeof text,
        "{\"dataset\":\"d\",\"model\":{\"layers\":[{\"op\":\"relu\"}]},\"loss\":\"mse\","
        "\"optimizer\":{\"type\":\"%s\"},\"privacy\":{\"noise_multiplier\":1,"
        "\"max_grad_norm\":2%s},\"train\":{\"batch_size\":4,\"steps\":8}}",
        optimizer, extra);
    struct problem problem;
    struct job_spec *spec;
    ck_assert_msg(job_spec_decode(&spec, text, strlen(text), &problem) == 0, "%s",
                  problem.detail);
    return spec;
}

START_TEST(defaults_are_those_of_pytorch_and_opacus)
{
    struct job_spec *s = spec_of("sgd", "");
    ck_assert_ptr_null(s->name);
    ck_assert_int_eq(s->grad_sample_mode, GRAD_SAMPLE_AUTO);
    ck_assert_int_eq(s->precision, PRECISION_FLOAT32);
    ck_assert_int_eq(s->device.kind, DEVICE_AUTO);
    ck_assert_int_eq(s->device.index, -1);
    ck_assert_double_eq(s->optimizer.lr, 1e-3);
    ck_assert_double_eq(s->optimizer.momentum, 0);
    ck_assert_double_eq(s->optimizer.weight_decay, 0);
    ck_assert_ptr_null(s->lr_schedule);
    ck_assert_double_eq(s->privacy->noise_multiplier, 1);
    ck_assert(isnan(s->privacy->target_epsilon));
    ck_assert(isnan(s->privacy->delta));
    ck_assert_uint_eq(s->privacy->max_grad_norm.n, 1);
    ck_assert_double_eq(s->privacy->max_grad_norm.data[0], 2);
    ck_assert_int_eq(s->privacy->accountant, ACCOUNTANT_RDP);
    ck_assert_int_eq(s->privacy->clipping, CLIPPING_FLAT);
    ck_assert(s->privacy->poisson_sampling);
    ck_assert(!s->privacy->secure_noise);
    ck_assert_int_eq(s->privacy->loss_reduction, LOSS_REDUCTION_MEAN);
    ck_assert(isnan(s->telemetry.loss_bound));
    ck_assert_double_eq(s->telemetry.share, 0.02);
    ck_assert(isnan(s->train.epochs));
    ck_assert_int_eq(s->train.steps, 8);
    ck_assert_int_eq(s->train.eval_every, 0);
    ck_assert(isnan(s->train.checkpoint_every));
    ck_assert_int_eq(s->seed, -1);
    ck_assert_int_eq(s->priority, 0);
    ck_assert_uint_eq(s->n_tags, 0);
    ck_assert_int_eq(s->max_attempts, 3);
    ck_assert_int_eq(s->loss.reduction, LOSS_REDUCTION_MEAN);
    ck_assert(s->model.layers[0].trainable);
    ck_assert_ptr_null(job_spec_free(s));
}
END_TEST

START_TEST(defaults_depend_on_the_optimizer)
{
    struct job_spec *s = spec_of("adamw", "");
    ck_assert_double_eq(s->optimizer.weight_decay, 0.01);
    ck_assert_double_eq(s->optimizer.betas[0], 0.9);
    ck_assert_double_eq(s->optimizer.betas[1], 0.999);
    ck_assert_double_eq(s->optimizer.eps, 1e-8);
    job_spec_free(s);
    s = spec_of("adagrad", "");
    ck_assert_double_eq(s->optimizer.lr, 0.01);
    ck_assert_double_eq(s->optimizer.eps, 1e-10);
    job_spec_free(s);
    s = spec_of("rmsprop", ",\"clipping\":\"automatic\"");
    ck_assert_double_eq(s->optimizer.alpha, 0.99);
    ck_assert_double_eq(s->privacy->gamma, 0.01);
    ck_assert_int_eq(s->privacy->variant, AUTOMATIC_AUTO_S);
    job_spec_free(s);
    s = spec_of("adam", ",\"clipping\":\"adaptive\"");
    ck_assert_double_eq(s->optimizer.weight_decay, 0);
    ck_assert_double_eq(s->privacy->target_unclipped_quantile, 0.5);
    ck_assert(isnan(s->privacy->min_clipbound));
    job_spec_free(s);
}
END_TEST

START_TEST(layers_are_a_tree_in_pre_order)
{
    static const char text[] =
        "{\"dataset\":\"d\",\"model\":{\"layers\":[{\"op\":\"a\",\"layers\":[{\"op\":\"b\","
        "\"layers\":[{\"op\":\"c\",\"k\":[1,2],\"r\":[1,2.5],\"s\":\"same\",\"t\":true,"
        "\"x\":1.0,\"e\":[]}]},{\"op\":\"d\"}]},{\"op\":\"f\",\"in\":[\"input\"]}]},"
        "\"loss\":{\"type\":\"mse\",\"w\":3},\"optimizer\":{\"type\":\"sgd\"},"
        "\"privacy\":null,\"train\":{\"batch_size\":4,\"steps\":8}}";
    struct problem problem;
    struct job_spec *s;
    ck_assert_int_eq(job_spec_decode(&s, text, sizeof text - 1, &problem), 0);
    ck_assert_ptr_null(s->privacy);
    const struct model *m = &s->model;
    ck_assert_uint_eq(m->n_layers, 5);
    static const char *const pointers[] = { "/model/layers/0", "/model/layers/0/layers/0",
                                            "/model/layers/0/layers/0/layers/0",
                                            "/model/layers/0/layers/1", "/model/layers/1" };
    static const size_t ends[] = { 4, 3, 3, 4, 5 };
    static const ptrdiff_t parents[] = { -1, 0, 1, 0, -1 };
    char buf[128];
    for (size_t i = 0; i < 5; i++) {
        ck_assert_str_eq(layer_pointer(m, i, NULL, buf, sizeof buf), pointers[i]);
        ck_assert_uint_eq(m->layers[i].end, ends[i]);
        ck_assert_int_eq(m->layers[i].parent, parents[i]);
    }
    ck_assert_str_eq(layer_pointer(m, 3, "op", buf, sizeof buf),
                     "/model/layers/0/layers/1/op");
    ck_assert_uint_eq(strlen(layer_pointer(m, 2, "op", buf, 12)), 11);
    const struct layer *c = &m->layers[2];
    ck_assert_uint_eq(c->n_attrs, 6);
    ck_assert_int_eq(attr_find(c->attrs, c->n_attrs, "k")->kind, ATTR_INTS);
    ck_assert_int_eq(attr_find(c->attrs, c->n_attrs, "k")->integers[1], 2);
    ck_assert_int_eq(attr_find(c->attrs, c->n_attrs, "r")->kind, ATTR_REALS);
    ck_assert_double_eq(attr_find(c->attrs, c->n_attrs, "r")->reals[0], 1);
    ck_assert_str_eq(attr_find(c->attrs, c->n_attrs, "s")->string, "same");
    ck_assert(attr_find(c->attrs, c->n_attrs, "t")->boolean);
    ck_assert_int_eq(attr_find(c->attrs, c->n_attrs, "x")->kind, ATTR_REAL);
    ck_assert_uint_eq(attr_find(c->attrs, c->n_attrs, "e")->n, 0);
    ck_assert_ptr_null(attr_find(c->attrs, c->n_attrs, "zz"));
    ck_assert_str_eq(m->layers[4].in[0], "input");
    ck_assert_str_eq(s->loss.type, "mse");
    ck_assert_int_eq(attr_find(s->loss.attrs, s->loss.n_attrs, "w")->integer, 3);
    job_spec_free(s);
}
END_TEST

START_TEST(step_event_leaves_out_what_it_does_not_know)
{
    struct event event;
    event_init(&event, EVENT_STEP);
    event.id = 3;
    event.step.step = 7;
    event.step.of = 9;
    event.step.lr = 0.5;
    char *text = event_encode(&event, NULL);
    ck_assert_str_eq(text, "{\"id\":3,\"event\":\"step\",\"step\":7,\"of\":9,\"lr\":0.5}");
    free(text);
    event.step.loss = INFINITY;
    event.step.clip_fraction = 1;
    event.step.is_private = true;
    text = event_encode(&event, NULL);
    ck_assert_str_eq(text, "{\"id\":3,\"event\":\"step\",\"step\":7,\"of\":9,\"loss\":null,"
                           "\"clip_fraction\":1.0,\"lr\":0.5,\"private\":true}");
    struct problem problem;
    struct event *back;
    ck_assert_int_eq(event_decode(&back, text, strlen(text), &problem), 0);
    ck_assert(isnan(back->step.loss));
    ck_assert(isnan(back->step.epsilon));
    ck_assert_int_eq(back->at, -1);
    event_free(back);
    free(text);
}
END_TEST

START_TEST(older_clients_read_newer_answers)
{
    static const char text[] = "{\"id\":1,\"event\":\"sparkle\",\"glitter\":{\"x\":[1]}}";
    static const char job_text[] =
        "{\"id\":\"j\",\"dataset\":\"d\",\"status\":\"hibernating\","
        "\"reason\":\"moon\",\"mood\":1}";
    struct problem problem;
    struct event *event;
    ck_assert_int_eq(event_decode(&event, text, sizeof text - 1, &problem), 0);
    ck_assert_int_eq(event->type, EVENT_UNKNOWN);
    ck_assert_int_eq(event->id, 1);
    event_free(event);
    struct job_view *job;
    ck_assert_int_eq(job_view_decode(&job, job_text, sizeof job_text - 1, &problem), 0);
    ck_assert_int_eq(job->status, 0);
    job_view_free(job);
}
END_TEST

START_TEST(strings_that_are_not_utf8_are_made_so)
{
    struct job_view job;
    job_view_init(&job);
    job.id = "a\xff\"\\\n\x7f";
    job.dataset = "d";
    job.status = JOB_STATUS_QUEUED;
    char *text = job_view_encode(&job, NULL);
    ck_assert_ptr_nonnull(strstr(text, "\"id\":\"a\xef\xbf\xbd\\\"\\\\\\u000a\\u007f\""));
    struct problem problem;
    struct job_view *back;
    ck_assert_int_eq(job_view_decode(&back, text, strlen(text), &problem), 0);
    ck_assert_str_eq(back->id, "a\xef\xbf\xbd\"\\\n\x7f");
    job_view_free(back);
    free(text);
}
END_TEST

START_TEST(problem_reads_back)
{
    struct problem p, back;
    problem_init(&p);
    problem_set(&p, PROBLEM_BUDGET_EXCEEDED, "needs %g", 3.5);
    ck_assert_int_eq(p.status, 409);
    snprintf(p.instance, sizeof p.instance, "/jobs");
    snprintf(p.request_id, sizeof p.request_id, "r1");
    p.requested_epsilon = 3.5;
    p.available_epsilon = 0.25;
    p.max_steps_that_fit = 311;
    for (size_t i = 0; i < PROBLEM_ITEMS_MAX + 5; i++)
        problem_add(&p, "/a~1b", ITEM_INVALID_VALUE, "%zu \xc3\xbc", i);
    ck_assert_uint_eq(p.n_errors, PROBLEM_ITEMS_MAX);
    size_t len;
    char *text = problem_encode(&p, &len);
    ck_assert_int_eq(problem_decode(&back, text, len), 0);
    ck_assert_int_eq(back.code, PROBLEM_BUDGET_EXCEEDED);
    ck_assert_str_eq(back.type, "/problems/budget-exceeded");
    ck_assert_str_eq(back.title, problem_title(PROBLEM_BUDGET_EXCEEDED));
    ck_assert_str_eq(back.detail, "needs 3.5");
    ck_assert_str_eq(back.instance, "/jobs");
    ck_assert_str_eq(back.request_id, "r1");
    ck_assert_int_eq(back.max_steps_that_fit, 311);
    ck_assert_double_eq(back.available_epsilon, 0.25);
    ck_assert_uint_eq(back.n_errors, PROBLEM_ITEMS_MAX);
    ck_assert_str_eq(back.errors[31].message, "31 \xc3\xbc");
    ck_assert_str_eq(back.errors[31].code, "invalid_value");
    free(text);
    ck_assert_int_eq(problem_decode(&back, "[]", 2), PROTO_E_INVALID);
    ck_assert_int_eq(problem_decode(&back, "<html>", 6), PROTO_E_INVALID);
}
END_TEST

START_TEST(problem_text_is_cut_between_characters)
{
    struct problem p;
    char fill[512] = "";
    for (size_t i = 0; i + 2 < sizeof fill; i += 2)
        memcpy(fill + i, "\xc3\xbc", 3);
    problem_init(&p);
    problem_set(&p, PROBLEM_INTERNAL, "x%s", fill);
    ck_assert_uint_eq(strlen(p.detail) % 2, 1);
    problem_set(&p, PROBLEM_INTERNAL, "%s", fill);
    ck_assert_uint_eq(strlen(p.detail) % 2, 0);
}
END_TEST

START_TEST(names_and_catalogue_are_complete)
{
    for (int i = 1; i < PROBLEM_N; i++) {
        ck_assert_int_ge(problem_http_status((enum problem_type)i), 400);
        ck_assert_int_le(problem_http_status((enum problem_type)i), 599);
    }
    for (int i = 1; i < JOB_REASON_N; i++) {
        ck_assert_int_eq(job_reason_parse(job_reason_name((enum job_reason)i)), i);
        ck_assert(job_reason_sentence((enum job_reason)i)[0]);
    }
    for (int i = 1; i < WARNING_N; i++)
        ck_assert(warning_code_sentence((enum warning_code)i)[0]);
    for (int i = JOB_STATUS_QUEUED; i <= JOB_STATUS_CANCELLED; i++)
        ck_assert_int_eq(job_status_parse(job_status_name((enum job_status)i)), i);
    ck_assert_str_eq(job_status_name((enum job_status)99), "");
    ck_assert_str_eq(event_type_name(EVENT_UNKNOWN), "");
    ck_assert_int_eq(event_type_parse("end"), EVENT_END);
    ck_assert(!job_status_terminal(JOB_STATUS_CANCELLING));
    ck_assert(job_status_terminal(JOB_STATUS_CANCELLED));
}
END_TEST

START_TEST(size_limits_hold)
{
    struct problem problem;
    struct job_spec *s;
    size_t n = 70000;
    char *text = malloc(n + 32);
    snprintf(text, 16, "{\"name\":\"");
    memset(text + 9, 'x', n);
    memcpy(text + 9 + n, "\"}", 3);
    ck_assert_int_eq(job_spec_decode(&s, text, n + 11, &problem), PROTO_E_INVALID);
    ck_assert_str_eq(problem.errors[0].code, "too_long");
    ck_assert_str_eq(problem.errors[0].pointer, "/name");
    free(text);
    n = 17 << 20;
    text = malloc(n);
    memset(text, ' ', n);
    ck_assert_int_eq(job_spec_decode(&s, text, n, &problem), PROTO_E_INVALID);
    ck_assert_int_eq(problem.status, 413);
    free(text);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("proto_build");
    TCase *tc = tcase_create("build");
    tcase_add_test(tc, defaults_are_those_of_pytorch_and_opacus);
    tcase_add_test(tc, defaults_depend_on_the_optimizer);
    tcase_add_test(tc, layers_are_a_tree_in_pre_order);
    tcase_add_test(tc, step_event_leaves_out_what_it_does_not_know);
    tcase_add_test(tc, older_clients_read_newer_answers);
    tcase_add_test(tc, strings_that_are_not_utf8_are_made_so);
    tcase_add_test(tc, problem_reads_back);
    tcase_add_test(tc, problem_text_is_cut_between_characters);
    tcase_add_test(tc, names_and_catalogue_are_complete);
    tcase_add_test(tc, size_limits_hold);
    suite_add_tcase(suite, tc);
    return suite_run(suite);
}
