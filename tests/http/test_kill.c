/* kill -9 at random points while jobs are submitted, run and followed. After each one the database
 * is looked at as it lies there: the ledger verifies, what was leased covers what was told, and all
 * stays within the budget. In the end every job that was acknowledged has run, with every event
 * once and the same bits as a job that nobody interrupted.
 *
 * A life is as long as chance says, but twice as long at most as the one before for as long as
 * nothing new was leased or ended: what is asserted is that work goes on, not that the machine is
 * fast.
 *
 * DPSGD_KILLS: how many (5). DPSGD_KILL_SEED: of the random delays (1). */
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "http.h"
#include "ledger/ledger.h"
#include "suite.h"

enum { KILLS_MAX = 1000, PER_ROUND = 2, DELAY_MS = 200, STEPS = 4000 };
enum { KEYS_MAX = KILLS_MAX * PER_ROUND };

static const char config[] = "[Run]\nCores=1\nMaxRunning=2\n[Datasets]\nEmbedded=no\n"
                             "[Limits]\nRate=100000\nBurst=100000\nJobsPerOwner=100000\n";

static const char dataset[] = "{\"name\":\"open\",\"format\":\"embedded\",\"public\":true,"
                              "\"budget\":{\"epsilon\":50,\"delta\":1e-5}}";

/* public data, so that a seed is allowed; momentum, so that there is more state than weights */
static const char job[] =
    "{\"dataset\":\"open\",\"seed\":7,\"model\":{\"layers\":[{\"op\":\"flatten\"},"
    "{\"op\":\"linear\",\"out_features\":10}]},\"loss\":\"cross_entropy\","
    "\"optimizer\":{\"type\":\"sgd\",\"lr\":0.1,\"momentum\":0.9},"
    "\"privacy\":{\"noise_multiplier\":200,\"max_grad_norm\":1},"
    "\"train\":{\"batch_size\":64,\"steps\":4000,\"checkpoint_every\":\"100ms\"}}";

static struct fixture f;
static char ids[KEYS_MAX][64]; /* by key; "" while nothing was acknowledged */
static int n_keys;
static int attempts_of_last; /* of the job that was last seen to have succeeded */
static uint64_t seed;
static long delay = DELAY_MS; /* longest life of the next daemon */
static int64_t progress;      /* steps leased and jobs ended, when it was last looked at */

/* one job's stream, over all the daemon's lives */
static struct {
    char id[64];
    int fd;
    char **data; /* of event i + 1 */
    int last;
    int64_t step; /* the last one that was told */
    bool ended;
} follow = { .fd = -1 };

static void teardown(void)
{
    fixture_stop(&f);
}

static long draw(long n)
{
    uint64_t z = (seed += UINT64_C(0x9e3779b97f4a7c15));
    z = (z ^ (z >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
    z = (z ^ (z >> 27)) * UINT64_C(0x94d049bb133111eb);
    return (long)((z ^ (z >> 31)) % (uint64_t)n);
}

static long number_of(const char *name, long otherwise)
{
    const char *text = getenv(name);
    return text != NULL ? atol(text) : otherwise;
}

/* ---- submitting ---- */

/* False: the daemon is gone. The same key may be sent again and again: it is one job. */
static bool submit(int key)
{
    char header[64];
    snprintf(header, sizeof header, "Idempotency-Key: k%d", key);
    struct reply r = http(&f, "POST", "/jobs", job, HEADERS(header));
    bool alive = r.status != 0;
    if (alive) {
        ck_assert_msg(r.status == 201, "%ld %s", r.status, r.body);
        ck_assert(ids[key][0] == '\0' || strcmp(ids[key], reply_text(&r, "id")) == 0);
        snprintf(ids[key], sizeof ids[key], "%s", reply_text(&r, "id"));
    }
    reply_free(&r);
    return alive;
}

/* ---- following ---- */

static void follow_open(void)
{
    char text[512];
    follow.fd = raw_connect(&f);
    snprintf(
        text, sizeof text,
        "GET /jobs/%s/events HTTP/1.0\r\nHost: localhost\r\nAuthorization: Bearer %s\r\n"
        "Accept: text/event-stream\r\nLast-Event-ID: %d\r\n\r\n",
        follow.id, f.token, follow.last);
    ck_assert(raw_puts(follow.fd, text));
}

/* An event that is there as a whole: an empty line follows. */
static void take_event(char *at)
{
    int id = 0;
    char *data = strstr(at, "\ndata: ");
    if (sscanf(at, "id: %d\n", &id) != 1 || data == NULL)
        return; /* a comment, or the retry hint */
    ck_assert_int_eq(id, follow.last + 1);
    data += strlen("\ndata: ");
    follow.data = realloc(follow.data, (size_t)id * sizeof *follow.data);
    follow.data[follow.last++] = strndup(data, strcspn(data, "\n"));
    json_t *json = json_loads(follow.data[id - 1], 0, NULL);
    ck_assert_ptr_nonnull(json);
    const char *event = json_string_value(json_object_get(json, "event"));
    if (strcmp(event, "step") == 0)
        follow.step = json_integer_value(json_object_get(json, "step"));
    follow.ended = strcmp(event, "end") == 0;
    json_decref(json);
}

/* Reads until the other side closes, takes what is complete. */
static void follow_close(void)
{
    static char room[1 << 20];
    raw_read(follow.fd, room, sizeof room, NULL, 20000);
    close(follow.fd);
    follow.fd = -1;
    char *end;
    for (char *at = strstr(room, "id: "); at != NULL; at = strstr(end, "id: ")) {
        end = strstr(at, "\n\n");
        if (end == NULL)
            break;
        *end++ = '\0';
        take_event(at);
    }
}

/* The durable log has what was told, word for word, and nothing between. */
static void check_log(void)
{
    char path[256];
    int n = 0;
    snprintf(path, sizeof path, "/jobs/%.63s/events?limit=1000", follow.id);
    while (path[0] != '\0') {
        struct reply r = http(&f, "GET", path, NULL, NULL);
        ck_assert_int_eq(r.status, 200);
        size_t i;
        json_t *event;
        json_array_foreach(json_object_get(r.json, "data"), i, event)
        {
            ck_assert_int_eq(json_integer_value(json_object_get(event, "id")), ++n);
            if (n > follow.last)
                continue;
            json_t *told = json_loads(follow.data[n - 1], 0, NULL);
            ck_assert_msg(json_equal(told, event), "event %d was told otherwise", n);
            json_decref(told);
        }
        if (sscanf(reply_header(&r, "Link"), "<%255[^>]>", path) != 1)
            path[0] = '\0';
        reply_free(&r);
    }
    ck_assert_int_ge(n, follow.last);
}

static void follow_job(const char *id)
{
    for (int i = 0; i < follow.last; i++)
        free(follow.data[i]);
    follow.last = 0;
    follow.step = 0;
    follow.ended = false;
    snprintf(follow.id, sizeof follow.id, "%s", id);
}

/* ---- what lies on the disk while nobody runs ---- */

static void look_at_the_ledger(void)
{
    char path[128], text[256];
    struct store *store = NULL;
    struct ledger_budget b;
    struct ledger_account a;
    struct problem p;
    snprintf(path, sizeof path, "%s/dpsgd.db", f.state);
    int r = store_open(&store, env_system(), path, text, sizeof text);
    ck_assert_msg(r == 0, "%s", text);
    r = ledger_verify(store, NULL, text, sizeof text);
    ck_assert_msg(r == 0, "%s", text);
    ck_assert_int_eq(ledger_budget(store, STORE_READER, "open", &b, &p), 0);
    ck_assert(filter_holds(&b.filter, &b.committed)); /* P2 */
    int64_t now = 0;
    for (int i = 0; i < n_keys; i++)
        if (ids[i][0] != '\0') {
            ck_assert_int_eq(ledger_account(store, STORE_READER, ids[i], &a, &p), 0);
            now += a.leased + a.settled;
        }
    delay = now > progress ? DELAY_MS : 2 * delay;
    progress = now;
    if (follow.id[0] != '\0') {
        ck_assert_int_eq(ledger_account(store, STORE_READER, follow.id, &a, &p), 0);
        ck_assert_int_ge(a.leased, follow.step); /* P1 */
    }
    store_close(store);
}

/* ---- rounds ---- */

/* A process of its own, so that the signal comes in the midst of whatever goes on here. */
static pid_t kill_later(long ms)
{
    pid_t killer = fork();
    ck_assert_int_ge(killer, 0);
    if (killer == 0) {
        sleep_ms(ms);
        kill(f.pid, SIGKILL);
        _exit(0);
    }
    return killer;
}

static bool look(void)
{
    struct reply r = http(&f, "GET", "/jobs?limit=100", NULL, NULL);
    bool alive = r.status != 0;
    reply_free(&r);
    return alive;
}

static void one_round(void)
{
    int status = 0;
    if (follow.id[0] != '\0' && !follow.ended)
        follow_open();
    pid_t killer = kill_later(draw(delay));
    bool alive = true;
    for (int i = 0; alive && i < PER_ROUND; i++)
        alive = submit(n_keys++);
    while (alive)
        alive = look();
    ck_assert_int_eq(waitpid(killer, &status, 0), killer);
    ck_assert(WIFSIGNALED(fixture_end(&f, SIGKILL)));
    if (follow.fd >= 0)
        follow_close();
    look_at_the_ledger();
    fixture_run(&f, NULL);
    for (int i = n_keys - PER_ROUND; i < n_keys; i++)
        if (i >= 0 && !submit(i)) /* acknowledged or not: now it is one job */
            ck_abort_msg("the daemon is gone");
    if (follow.id[0] != '\0')
        check_log();
    if (follow.id[0] == '\0' || follow.ended)
        follow_job(ids[n_keys - 1]);
}

static bool has_succeeded(const char *id)
{
    char path[128];
    snprintf(path, sizeof path, "/jobs/%.63s", id);
    struct reply r = http(&f, "GET", path, NULL, NULL);
    bool done = strcmp(reply_text(&r, "status"), "succeeded") == 0;
    if (done)
        attempts_of_last = (int)json_integer_value(json_object_get(r.json, "attempt"));
    ck_assert_msg(strcmp(reply_text(&r, "status"), "failed") != 0, "%s", r.body);
    reply_free(&r);
    return done;
}

/* The bytes of the tensors, which lie behind a header that names the job. */
static char *tensors(const char *id, size_t *np)
{
    char path[160];
    uint64_t header;
    snprintf(path, sizeof path, "/jobs/%.63s/artifacts/model.safetensors", id);
    struct reply r = http(&f, "GET", path, NULL, NULL);
    ck_assert_int_eq(r.status, 200);
    ck_assert_uint_gt(r.n_body, 8);
    memcpy(&header, r.body, sizeof header);
    ck_assert_uint_lt(8 + header, r.n_body);
    *np = r.n_body - 8 - header;
    char *data = malloc(*np);
    memcpy(data, r.body + 8 + header, *np);
    reply_free(&r);
    return data;
}

static void check_job(const char *id, const char *want, size_t n)
{
    size_t got_n;
    long until = now_ms() + 60000;
    while (!has_succeeded(id) && now_ms() < until)
        sleep_ms(20);
    ck_assert(has_succeeded(id));
    char *got = tensors(id, &got_n);
    ck_assert_uint_eq(got_n, n);
    ck_assert_msg(memcmp(got, want, n) == 0, "%s has other weights", id);
    free(got);
}

static int count_jobs(void)
{
    char path[256] = "/jobs?limit=100";
    int n = 0;
    while (path[0] != '\0') {
        struct reply r = http(&f, "GET", path, NULL, NULL);
        n += (int)json_array_size(json_object_get(r.json, "data"));
        if (sscanf(reply_header(&r, "Link"), "<%255[^>]>", path) != 1)
            path[0] = '\0';
        reply_free(&r);
    }
    return n;
}

START_TEST(kill_9_at_random_points_under_load)
{
    long n_kills = number_of("DPSGD_KILLS", 5);
    size_t n;
    int n_again = 0;
    seed = (uint64_t)number_of("DPSGD_KILL_SEED", 1);
    ck_assert(n_kills > 0 && n_kills < KILLS_MAX);
    fixture_start(&f, config);
    http_expect(&f, "POST", "/datasets", dataset, 201);
    ck_assert(submit(n_keys++));
    WAIT_UNTIL(has_succeeded(ids[0])); /* uninterrupted */
    char *want = tensors(ids[0], &n);
    for (long i = 0; i < n_kills; i++)
        one_round();
    for (int i = 0; i < n_keys; i++) {
        check_job(ids[i], want, n);
        n_again += attempts_of_last - 1;
    }
    ck_assert_int_gt(n_again, 0); /* otherwise the kills have interrupted nothing */
    ck_assert_int_eq(count_jobs(), n_keys);
    if (!follow.ended) {
        follow_open();
        follow_close();
    }
    ck_assert(follow.ended);
    ck_assert_int_eq(follow.step, STEPS);
    check_log();
    fixture_end(&f, SIGTERM);
    look_at_the_ledger();
    free(want);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("http_kill");
    TCase *tc = tcase_create("kill");
    tcase_add_checked_fixture(tc, NULL, teardown);
    tcase_set_timeout(tc, 1800);
    tcase_add_test(tc, kill_9_at_random_points_under_load);
    suite_add_tcase(suite, tc);
    return suite_run(suite);
}
