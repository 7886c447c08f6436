#include <math.h>
#include <stdio.h>
#include <string.h>

#include "base/error.h"
#include "data/data.h"
#include "job/plan.h"
#include "job/state.h"
#include "suite.h"

static struct problem p;

static struct dataset_spec *digits(bool is_public)
{
    struct dataset_spec *spec = NULL;
    const char *text = is_public
                           ? "{\"name\": \"digits\", \"format\": \"embedded\", \"public\": true}"
                           : "{\"name\": \"digits\", \"format\": \"embedded\","
                             " \"budget\": {\"epsilon\": 8, \"delta\": 1e-5}}";
    ck_assert_int_eq(dataset_spec_decode(&spec, text, strlen(text), &p), 0);
    data_complete_spec(spec);
    spec->nominal_size = 1400;
    return spec;
}

/* members of the spec that a case replaces; NULL: as below */
struct parts {
    const char *layers, *loss, *optimizer, *privacy, *train, *more;
};

static int make(const struct parts *c, bool is_public, struct plan **planp)
{
    char text[2048];
    struct job_spec *spec = NULL;
    struct plan_limits limits = { .n_threads = 1, .uploads = -1 };
    snprintf(text, sizeof text,
             "{\"dataset\": \"digits\", \"model\": {\"layers\": [%s]}, \"loss\": %s,"
             " \"optimizer\": %s, \"privacy\": %s, \"train\": %s%s}",
             c->layers ? c->layers : "{\"op\": \"flatten\"}, {\"op\": \"linear\", \"in_features\": 64, \"out_features\": 10}",
             c->loss ? c->loss : "\"cross_entropy\"",
             c->optimizer ? c->optimizer : "{\"type\": \"sgd\", \"lr\": 0.1}",
             c->privacy ? c->privacy : "{\"noise_multiplier\": 2, \"max_grad_norm\": 1}",
             c->train ? c->train : "{\"batch_size\": 70, \"epochs\": 3}", c->more ? c->more : "");
    int r = job_spec_decode(&spec, text, strlen(text), &p);
    ck_assert_msg(r == 0, "%s: %s %s", text, p.errors[0].pointer, p.errors[0].message);
    struct dataset_spec *dataset = digits(is_public);
    problem_init(&p);
    *planp = NULL;
    r = plan_make(spec, dataset, is_public ? NAN : 1e-5, &limits, planp, &p);
    /* options borrow from the plan and the plan from nothing: specs may go */
    job_spec_free(spec);
    dataset_spec_free(dataset);
    return r;
}

static struct plan *good(const struct parts *c, bool is_public)
{
    struct plan *plan = NULL;
    int r = make(c, is_public, &plan);
    ck_assert_msg(r == 0, "%s: %s %s", p.title, p.errors[0].pointer, p.errors[0].message);
    return plan;
}

static void refused(const struct parts *c, bool is_public, const char *pointer)
{
    struct plan *plan = NULL;
    ck_assert_int_eq(make(c, is_public, &plan), ERROR_REFUSED);
    ck_assert_ptr_null(plan);
    ck_assert_int_eq(p.status, 422);
    ck_assert_str_eq(p.errors[0].pointer, pointer);
}

START_TEST(steps_come_from_public_numbers)
{
    struct plan *plan = good(&(struct parts){ 0 }, false);
    ck_assert(plan->sample_rate == 0.05 && plan->steps_per_epoch == 20 && plan->steps == 60);
    ck_assert(plan->cost.sample_rate == 0.05 && plan->cost.steps == 60 &&
              plan->cost.noise_multiplier == 2);
    ck_assert(plan->options.expected_batch_size == 70 && plan->options.poisson);
    ck_assert(plan->delta == 1e-5 && plan->epsilon > 0);
    ck_assert(plan->options.telemetry_share == 0.02 && plan->options.loss_bound == 8);
    ck_assert_int_gt(plan->memory_bytes, 650 * 4);
    plan_free(plan);
    plan = good(&(struct parts){ .train = "{\"batch_size\": 1400, \"steps\": 5}" }, false);
    ck_assert(plan->sample_rate == 1 && plan->steps == 5);
    plan_free(plan);
}
END_TEST

START_TEST(shuffled_batches_are_not_amplified)
{
    struct plan *plan = good(
        &(struct parts){ .privacy = "{\"noise_multiplier\": 20, \"max_grad_norm\": 1,"
                                    " \"poisson_sampling\": false}" },
        false);
    ck_assert(plan->not_amplified && plan->cost.sample_rate == 1 && !plan->options.poisson);
    plan_free(plan);
}
END_TEST

START_TEST(a_target_is_met_from_below)
{
    struct plan *plan = good(
        &(struct parts){ .privacy = "{\"target_epsilon\": 3, \"max_grad_norm\": 1}" }, false);
    ck_assert(plan->epsilon <= 3 && plan->epsilon > 2.99);
    plan_free(plan);
}
END_TEST

/* Epsilon is that of the whole history, by the accountant that was asked for; the ledger's one
 * noise multiplier costs at least as much at every prefix. */
START_TEST(schedules_are_accounted_as_they_run)
{
    static const char *const kinds[] = { "rdp", "gdp", "prv" };
    static const struct {
        const char *text;
        double s[3];
    } cases[] = {
        { "{\"type\": \"exponential\", \"gamma\": 0.9}", { 2, 1.8, 1.62 } },
        { "{\"type\": \"step\", \"gamma\": 1.5, \"step_size\": 20}", { 2, 3, 4.5 } },
        { "{\"type\": \"list\", \"values\": [1, 0.5, 0.75]}", { 2, 1, 1.5 } },
    };
    char privacy[300];
    snprintf(privacy, sizeof privacy,
             "{\"noise_multiplier\": 2, \"max_grad_norm\": 1, \"accountant\": \"%s\","
             " \"noise_schedule\": %s}",
             kinds[_i % 3], cases[_i / 3].text);
    struct plan *plan = good(&(struct parts){ .privacy = privacy }, false);
    struct psg_dp_event event[3];
    struct psg_dp_epsilon eps;
    struct filter f;
    struct filter_rdp cost, step;
    double total[FILTER_K] = { 0 };
    filter_init(&f, 8, 1e-5);
    ck_assert_int_eq(filter_step(&f, plan->cost.sample_rate, plan->cost.noise_multiplier, &cost,
                                 NULL),
                     0);
    for (int k = 0; k < 60; k++) {
        double s = cases[_i / 3].s[k / 20];
        event[k / 20] = (struct psg_dp_event){ 0.05, s, 20 };
        ck_assert_double_eq_tol(psg_trainer_noise_multiplier(&plan->options, (uint64_t)k), s,
                                1e-12);
        ck_assert_int_eq(filter_step(&f, 0.05, s, &step, NULL), 0);
        for (int j = 0; j < FILTER_K; j++) {
            total[j] += (double)step.at[j];
            ck_assert_double_ge((double)cost.at[j] * (k + 1), total[j] * (1 - 1e-9) - 60);
        }
    }
    enum psg_accountant_kind kind = plan->accountant;
    ck_assert_str_eq(psg_accountant_kind_name(kind), kinds[_i % 3]);
    ck_assert_int_eq(psg_dp_epsilon(kind, event, 3, 1e-5, &eps, NULL), 0);
    ck_assert_double_eq_tol(plan->epsilon, eps.epsilon, 1e-9);
    plan_free(plan);
}
END_TEST

START_TEST(a_target_is_met_with_a_schedule_too)
{
    struct plan *plan = good(
        &(struct parts){ .privacy = "{\"target_epsilon\": 3, \"max_grad_norm\": 1,"
                                    " \"noise_schedule\": {\"type\": \"exponential\","
                                    " \"gamma\": 0.8}}" },
        false);
    ck_assert(plan->epsilon <= 3 && plan->epsilon > 2.99);
    plan_free(plan);
}
END_TEST

START_TEST(privacy_options_reach_the_trainer)
{
    struct plan *plan = good(
        &(struct parts){ .privacy = "{\"noise_multiplier\": 2, \"clipping\": \"automatic\","
                                    " \"gamma\": 0.2, \"max_grad_norm\": 1.5,"
                                    " \"secure_noise\": true, \"max_batch_size\": 300,"
                                    " \"max_grad_norm_schedule\": {\"type\": \"list\","
                                    " \"step_size\": 7, \"values\": [1, 2]}}" },
        false);
    ck_assert(plan->options.secure_noise && plan->options.auto_gamma == 0.2);
    ck_assert(plan->options.clipping == PSG_CLIP_AUTO_S && plan->options.max_batch_size == 300);
    ck_assert(psg_schedule_value(&plan->options.max_grad_norm, 6) == 1.5);
    ck_assert(psg_schedule_value(&plan->options.max_grad_norm, 7) == 3);
    ck_assert(plan->options.max_records >= 1540);
    struct plan *uncut = good(
        &(struct parts){ .privacy = "{\"noise_multiplier\": 2, \"max_grad_norm\": 1}" }, false);
    ck_assert(plan->epsilon > uncut->epsilon && plan->epsilon < uncut->epsilon * 1.0001);
    plan_free(plan);
    plan_free(uncut);
}
END_TEST

START_TEST(layers_nest_and_share)
{
    struct plan *plan = good(
        &(struct parts){
            .layers = "{\"op\": \"flatten\"},"
                      "{\"op\": \"residual\", \"name\": \"block\", \"layers\": ["
                      "  {\"op\": \"linear\", \"in_features\": 64, \"out_features\": 64},"
                      "  {\"op\": \"sequential\", \"layers\": [{\"op\": \"relu\"}, {\"op\": \"linear\","
                      "    \"name\": \"fc\", \"in_features\": 64, \"out_features\": 64}]}]},"
                      "{\"op\": \"sequential\", \"layers\": []},"
                      "{\"op\": \"add\", \"in\": [\"block\", \"block\"]},"
                      "{\"op\": \"linear\", \"trainable\": false, \"in_features\": 64, \"out_features\": 10}" },
        false);
    static const char *const names[] = { "block.0.weight", "block.1.fc.bias", "4.weight" };
    for (int i = 0; i < 3; i++)
        ck_assert_int_ge(psg_program_find_param(plan->program, names[i]), 0);
    ck_assert_int_eq(psg_program_trainable_size(plan->program), 2 * (64 * 64 + 64));
    ck_assert_int_eq(psg_program_param_size(plan->program), 2 * (64 * 64 + 64) + 650);
    plan_free(plan);
}
END_TEST

START_TEST(errors_name_the_place)
{
#define FLAT "{\"op\": \"flatten\"},"
    static const struct {
        struct parts parts;
        bool is_public;
        const char *pointer;
    } cases[] = {
        { { .layers = FLAT "{\"op\": \"liner\"}" }, 0, "/model/layers/1/op" },
        { { .layers = FLAT "{\"op\": \"linear\", \"in_features\": 64}" }, 0,
          "/model/layers/1/out_features" },
        { { .layers = FLAT "{\"op\": \"linear\", \"in_features\": 64, \"out_features\": 10, \"bios\": true}" },
          0, "/model/layers/1/bios" },
        { { .layers = FLAT "{\"op\": \"linear\", \"in\": [\"x\"], \"in_features\": 64, \"out_features\": 10}" },
          0, "/model/layers/1/in/0" },
        { { .layers = FLAT "{\"op\": \"sequential\", \"layers\": [{\"op\": \"relu\"}, {\"op\": \"linear\","
                           " \"in_features\": 64, \"out_features\": 10, \"bias\": 7}]}" },
          0, "/model/layers/1/layers/1/bias" },
        { { .layers = FLAT "{\"op\": \"relu\", \"layers\": []}" }, 0, "/model/layers/1/op" },
        { { .layers = FLAT "{\"op\": \"linear\", \"in_features\": 64, \"out_features\": 9}" }, 0, "/model" },
        { { .layers = FLAT "{\"op\": \"relu\"}" }, 0, "/model" },
        { { .loss = "\"no_such\"" }, 0, "/loss" },
        { { .loss = "{\"type\": \"cross_entropy\", \"label_smoothing\": 3}" }, 0,
          "/loss/label_smoothing" },
        { { .train = "{\"batch_size\": 1401, \"epochs\": 3}" }, 0, "/train/batch_size" },
        { { .privacy = "null" }, 0, "/privacy" },
        { { .more = ", \"seed\": 3" }, 0, "/seed" },
        { { .more = ", \"device\": \"cuda\"" }, 0, "/device" },
        { { .privacy = "{\"noise_multiplier\": 2, \"max_grad_norm\": 1}" }, 1, "/privacy/delta" },
        { { .privacy = "{\"noise_multiplier\": 2, \"clipping\": \"per_layer\","
                       " \"max_grad_norm\": [1, 2, 3]}" },
          0, "/privacy/max_grad_norm" },
        { { .privacy = "{\"noise_multiplier\": 2, \"clipping\": \"per_group\","
                       " \"groups\": [{\"params\": [\"1.weight\"], \"max_grad_norm\": 1}]}" },
          0, "/privacy/groups" },
        { { .privacy = "{\"noise_multiplier\": 2, \"max_grad_norm\": 1, \"noise_schedule\":"
                       " {\"type\": \"step\", \"step_size\": 1, \"gamma\": 0.999}}",
            .train = "{\"batch_size\": 70, \"steps\": 600}" },
          0, "/privacy/noise_schedule" },
        { { .privacy = "{\"noise_multiplier\": 2, \"max_grad_norm\": 1, \"noise_schedule\":"
                       " {\"type\": \"exponential\", \"step_size\": 1, \"gamma\": 0.1}}" },
          0, "/privacy/noise_schedule" },
        { { .privacy = "{\"noise_multiplier\": 2, \"max_grad_norm\": 1,"
                       " \"max_batch_size\": 100}" },
          0, "/privacy/max_batch_size" },
    };
    refused(&cases[_i].parts, cases[_i].is_public, cases[_i].pointer);
}
END_TEST

START_TEST(public_data_need_no_privacy)
{
    struct plan *plan = good(&(struct parts){ .privacy = "null", .more = ", \"seed\": 3" }, true);
    ck_assert(!plan->is_private && isnan(plan->epsilon) && plan->telemetry == TELEMETRY_RAW);
    plan_free(plan);
}
END_TEST

START_TEST(every_clipping_and_schedule_is_planned)
{
    static const char *const privacy[] = {
        "{\"noise_multiplier\": 1, \"clipping\": \"per_layer\", \"max_grad_norm\": [1, 0.5]}",
        "{\"noise_multiplier\": 1, \"clipping\": \"per_group\", \"groups\": ["
        " {\"params\": [\"1.weight\"], \"max_grad_norm\": 1}, {\"params\": [\"1.bias\"], \"max_grad_norm\": 1}]}",
        "{\"noise_multiplier\": 1, \"clipping\": \"adaptive\", \"max_grad_norm\": 1}",
        "{\"noise_multiplier\": 1, \"clipping\": \"automatic\", \"max_grad_norm\": 1}",
    };
    static const char *const more[] = {
        ", \"lr_schedule\": {\"type\": \"step\", \"step_size\": 5}",
        ", \"lr_schedule\": {\"type\": \"multi_step\", \"milestones\": [3, 6], \"gamma\": 0.5}",
        ", \"lr_schedule\": {\"type\": \"linear\", \"start_factor\": 0.5, \"total_iters\": 4}",
        ", \"lr_schedule\": {\"type\": \"cosine\"}",
    };
    struct plan *plan =
        good(&(struct parts){ .privacy = privacy[_i], .more = more[_i] }, false);
    if (_i == 1) {
        ck_assert(psg_schedule_value(&plan->options.lr, 2) == 0.1);
        ck_assert(psg_schedule_value(&plan->options.lr, 3) == 0.05);
        ck_assert(psg_schedule_value(&plan->options.lr, 100) == 0.025);
    }
    if (_i == 2) {
        ck_assert(psg_schedule_value(&plan->options.lr, 0) == 0.05);
        ck_assert(psg_schedule_value(&plan->options.lr, 50) == 0.1);
    }
    plan_free(plan);
}
END_TEST

START_TEST(terminal_states_stay)
{
    int n = 0;
    for (int from = 0; from <= JOB_STATUS_CANCELLED; from++)
        for (int to = 1; to <= JOB_STATUS_CANCELLED; to++) {
            bool may = state_may_follow((enum job_status)from, (enum job_status)to);
            n += may;
            if (from && job_status_terminal((enum job_status)from))
                ck_assert(!may);
            ck_assert(from != to || !may);
        }
    ck_assert_int_eq(n, 14); /* arrows in the picture of daemon/job/README.md */
    ck_assert(state_may_follow(JOB_STATUS_RUNNING, JOB_STATUS_QUEUED));
    ck_assert(!state_may_follow(JOB_STATUS_RUNNING, JOB_STATUS_CANCELLED));
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("plan");
    TCase *tc = tcase_create("plan");
    tcase_add_test(tc, steps_come_from_public_numbers);
    tcase_add_test(tc, shuffled_batches_are_not_amplified);
    tcase_add_test(tc, a_target_is_met_from_below);
    tcase_add_test(tc, layers_nest_and_share);
    tcase_add_loop_test(tc, errors_name_the_place, 0, 20);
    tcase_add_loop_test(tc, schedules_are_accounted_as_they_run, 0, 9);
    tcase_add_test(tc, a_target_is_met_with_a_schedule_too);
    tcase_add_test(tc, privacy_options_reach_the_trainer);
    tcase_add_test(tc, public_data_need_no_privacy);
    tcase_add_loop_test(tc, every_clipping_and_schedule_is_planned, 0, 4);
    tcase_add_test(tc, terminal_states_stay);
    suite_add_tcase(suite, tc);
    return suite_run(suite);
}
