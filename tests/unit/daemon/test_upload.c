/* Uploads: pieces, digests, quotas, and what is left of them when a disk fails or the power does. */
#include <dirent.h>
#include <errno.h>
#include <sodium.h>
#include <sys/wait.h>

#include "base/cleanup.h"
#include "base/error.h"
#include "fault.h"
#include "suite.h"
#include "tmpdir.h"
#include "upload/upload.h"

enum { SIZE = 10000 };

static int state = -1;
static char content[SIZE];
static char digest[UPLOAD_DIGEST_SIZE];

static void digest_of(const char *data, size_t n, char *text)
{
    unsigned char sum[crypto_hash_sha256_BYTES];
    crypto_hash_sha256(sum, (const unsigned char *)data, n);
    strcpy(text, "sha256:");
    sodium_bin2hex(text + 7, 65, sum, sizeof sum);
}

static void fresh(void)
{
    if (state >= 0)
        close(state);
    state = open(tmpdir_new(), O_RDONLY | O_DIRECTORY);
    ck_assert_int_ge(state, 0);
    for (size_t i = 0; i < SIZE; i++)
        content[i] = (char)(i * i % 251);
    digest_of(content, SIZE, digest);
    fault_arm(FAULT_NONE, 0, 0);
}

static bool needed(void *arg, const char *text)
{
    return *(bool *)arg && strcmp(text, digest) == 0;
}

static bool job_runs;
static const struct uploads_config config = { .max_bytes = 4 * SIZE,
                                              .per_owner = 5 * SIZE,
                                              .max_piece = SIZE,
                                              .expire_ms = 60000,
                                              .in_use = needed,
                                              .arg = &job_runs };

static struct uploads *open_uploads(const struct env *env)
{
    struct uploads *uploads = NULL;
    char why[256] = "";
    ck_assert_msg(uploads_open(&uploads, env, state, &config, NULL, why, sizeof why) == 0, "%s",
                  why);
    return uploads;
}

static int create(struct uploads *u, const char *text, int64_t bytes, const char *owner, char *id,
                  bool *created, struct problem *p)
{
    struct upload_spec spec = { .digest = text, .bytes = bytes, .name = "model.pt" };
    struct answer answer = { 0 };
    problem_init(p);
    int r = uploads_create(u, &spec, owner, id, created, &answer, p);
    ck_assert(r == 0 || r == ERROR_REFUSED);
    ck_assert(r != 0 || strstr(answer.text, id) != NULL);
    answer_clear(&answer);
    return r;
}

static int send_piece(struct uploads *u, const char *id, const char *owner, int64_t offset,
                      const char *data, size_t n, struct problem *p)
{
    struct upload_piece *piece = NULL;
    struct upload_place place;
    struct answer answer = { 0 };
    char *copy = malloc(n + 1);
    ck_assert_ptr_nonnull(copy);
    memcpy(copy, data, n);
    problem_init(p);
    int r = upload_piece_begin(u, id, owner, offset, copy, n, &piece, &place, p);
    if (r != 0)
        return r;
    upload_piece_write(piece);
    r = upload_piece_end(piece, &place, &answer, p);
    upload_piece_free(piece);
    answer_clear(&answer);
    return r;
}

static int64_t offset_of(struct uploads *u, const char *id)
{
    struct upload_place place = { -1, -1 };
    struct answer answer = { 0 };
    struct problem p;
    problem_init(&p);
    int r = uploads_get(u, id, NULL, &place, &answer, &p);
    answer_clear(&answer);
    return r == 0 ? place.offset : -1;
}

static int files_left(void)
{
    int n = 0, dir = openat(state, "uploads", O_RDONLY | O_DIRECTORY);
    DIR *d = fdopendir(dir);
    ck_assert_ptr_nonnull(d);
    for (struct dirent *e; (e = readdir(d));)
        n += e->d_name[0] != '.';
    closedir(d);
    return n;
}

static void check_blob(struct uploads *u)
{
    _cleanup_free_ char *data = NULL;
    size_t n = 0;
    ck_assert_int_eq(upload_read(env_system(), uploads_dir(u), digest, SIZE, &data, &n), 0);
    ck_assert_uint_eq(n, SIZE);
    ck_assert_mem_eq(data, content, SIZE);
}

START_TEST(a_file_arrives_in_pieces)
{
    char id[UPLOAD_ID_SIZE], again[UPLOAD_ID_SIZE];
    bool created;
    int64_t bytes = 0;
    struct problem p;
    fresh();
    struct uploads *u = open_uploads(fault_env());
    ck_assert_int_eq(create(u, digest, SIZE, "ada", id, &created, &p), 0);
    ck_assert(created);
    ck_assert_int_eq(send_piece(u, id, "ada", 0, content, 4000, &p), 0);
    ck_assert_int_eq(offset_of(u, id), 4000);
    ck_assert(!uploads_find(u, digest, "ada", NULL));
    ck_assert_int_eq(create(u, digest, SIZE, "ada", again, &created, &p), 0);
    ck_assert(!created);
    ck_assert_str_eq(again, id);
    uploads_close(u);
    u = open_uploads(fault_env()); /* a restart in the middle */
    ck_assert_int_eq(offset_of(u, id), 4000);
    ck_assert_int_eq(send_piece(u, id, "ada", 4000, content + 4000, SIZE - 4000, &p), 0);
    ck_assert(uploads_find(u, digest, "ada", &bytes));
    ck_assert_int_eq(bytes, SIZE);
    ck_assert(uploads_find(u, digest, NULL, NULL));
    ck_assert(!uploads_find(u, digest, "bob", NULL));
    ck_assert_int_eq(uploads_require(u, digest, "bob", "/model/torchscript", &p), ERROR_REFUSED);
    ck_assert_str_eq(p.errors[0].pointer, "/model/torchscript");
    check_blob(u);
    ck_assert_int_eq(send_piece(u, id, "ada", SIZE, content, 1, &p), ERROR_REFUSED);
    uploads_close(u);
    u = open_uploads(fault_env());
    check_blob(u);
    ck_assert_int_eq(files_left(), 2);
    uploads_close(u);
}
END_TEST

START_TEST(what_does_not_fit_is_refused)
{
    char id[UPLOAD_ID_SIZE], other[UPLOAD_ID_SIZE], text[UPLOAD_DIGEST_SIZE];
    bool created;
    struct problem p;
    fresh();
    struct uploads *u = open_uploads(fault_env());
    ck_assert_int_eq(create(u, digest, 4 * SIZE + 1, "ada", id, &created, &p), ERROR_REFUSED);
    ck_assert_int_eq(p.code, PROBLEM_BODY_TOO_LARGE);
    ck_assert_int_eq(create(u, digest, SIZE, "ada", id, &created, &p), 0);
    ck_assert_int_eq(create(u, digest, SIZE - 1, "ada", other, &created, &p), ERROR_REFUSED);
    ck_assert_str_eq(p.errors[0].pointer, "/bytes");
    digest_of(content, 7, text);
    ck_assert_int_eq(create(u, text, 4 * SIZE, "ada", other, &created, &p), 0);
    digest_of(content, 8, text);
    ck_assert_int_eq(create(u, text, 1, "ada", other, &created, &p), ERROR_REFUSED);
    ck_assert_int_eq(p.code, PROBLEM_QUOTA_EXCEEDED);
    ck_assert_int_eq(create(u, text, 1, "bob", other, &created, &p), 0);
    ck_assert_int_eq(send_piece(u, id, "bob", 0, content, 10, &p), ERROR_REFUSED);
    ck_assert_int_eq(p.code, PROBLEM_NOT_FOUND);
    ck_assert_int_eq(send_piece(u, id, "ada", 1, content, 10, &p), ERROR_REFUSED);
    ck_assert_int_eq(p.code, PROBLEM_STATE_CONFLICT);
    ck_assert_int_eq(send_piece(u, id, "ada", 0, content, 0, &p), ERROR_REFUSED);
    ck_assert_int_eq(send_piece(u, other, "bob", 0, content, 2, &p), ERROR_REFUSED);
    ck_assert_int_eq(p.code, PROBLEM_BODY_TOO_LARGE);
    ck_assert_int_eq(uploads_delete(u, id, "bob", &p), ERROR_REFUSED);
    ck_assert_int_eq(uploads_delete(u, "../../../etc/passwd", NULL, &p), ERROR_REFUSED);
    uploads_close(u);
}
END_TEST

START_TEST(another_digest_forgets_the_bytes)
{
    char id[UPLOAD_ID_SIZE];
    bool created;
    struct problem p;
    fresh();
    struct uploads *u = open_uploads(fault_env());
    ck_assert_int_eq(create(u, digest, SIZE, "ada", id, &created, &p), 0);
    content[17] ^= 1;
    ck_assert_int_eq(send_piece(u, id, "ada", 0, content, SIZE, &p), ERROR_REFUSED);
    ck_assert_int_eq(p.code, PROBLEM_VALIDATION_FAILED);
    ck_assert(!uploads_find(u, digest, NULL, NULL));
    ck_assert_int_eq(offset_of(u, id), 0);
    content[17] ^= 1;
    ck_assert_int_eq(send_piece(u, id, "ada", 0, content, SIZE, &p), 0);
    check_blob(u);
    uploads_close(u);
}
END_TEST

START_TEST(one_piece_at_a_time)
{
    char id[UPLOAD_ID_SIZE];
    bool created;
    struct problem p;
    struct upload_piece *piece = NULL;
    fresh();
    struct uploads *u = open_uploads(fault_env());
    ck_assert_int_eq(create(u, digest, SIZE, "ada", id, &created, &p), 0);
    ck_assert_int_eq(upload_piece_begin(u, id, "ada", 0, calloc(1, 10), 10, &piece, NULL, &p), 0);
    ck_assert_int_eq(send_piece(u, id, "ada", 0, content, 10, &p), ERROR_REFUSED);
    ck_assert_int_eq(p.code, PROBLEM_STATE_CONFLICT);
    ck_assert_int_eq(uploads_delete(u, id, "ada", &p), ERROR_REFUSED);
    upload_piece_write(piece);
    upload_piece_free(piece); /* the client has left: what is on the disk counts */
    ck_assert_int_eq(offset_of(u, id), 10);
    ck_assert_int_eq(uploads_delete(u, id, "ada", &p), 0);
    ck_assert_int_eq(files_left(), 0);
    uploads_close(u);
}
END_TEST

START_TEST(a_blob_goes_with_its_last_record)
{
    char ada[UPLOAD_ID_SIZE], bob[UPLOAD_ID_SIZE];
    bool created;
    struct problem p;
    fresh();
    struct uploads *u = open_uploads(fault_env());
    ck_assert_int_eq(create(u, digest, SIZE, "ada", ada, &created, &p), 0);
    ck_assert_int_eq(create(u, digest, SIZE, "bob", bob, &created, &p), 0);
    ck_assert(created); /* the digest alone is not the file */
    ck_assert_int_eq(send_piece(u, ada, "ada", 0, content, SIZE, &p), 0);
    ck_assert(!uploads_find(u, digest, "bob", NULL));
    ck_assert_int_eq(send_piece(u, bob, "bob", 0, content, SIZE, &p), 0);
    ck_assert_int_eq(files_left(), 3);
    job_runs = true;
    ck_assert_int_eq(uploads_delete(u, ada, "ada", &p), 0); /* bob's keeps the blob */
    check_blob(u);
    ck_assert_int_eq(uploads_delete(u, bob, "bob", &p), ERROR_REFUSED);
    ck_assert_int_eq(p.code, PROBLEM_STATE_CONFLICT);
    job_runs = false;
    ck_assert_int_eq(uploads_delete(u, bob, NULL, &p), 0);
    ck_assert_int_eq(files_left(), 0);
    uploads_close(u);
}
END_TEST

static void put_file(const char *name, const char *text)
{
    int dir = openat(state, "uploads", O_RDONLY | O_DIRECTORY);
    ck_assert_int_eq(env_write_file(env_system(), dir, name, text, strlen(text), 0600), 0);
    close(dir);
}

START_TEST(the_start_puts_the_folder_in_order)
{
    char id[UPLOAD_ID_SIZE], name[64];
    bool created;
    struct problem p;
    fresh();
    struct uploads *u = open_uploads(fault_env());
    ck_assert_int_eq(create(u, digest, SIZE, "ada", id, &created, &p), 0);
    ck_assert_int_eq(send_piece(u, id, "ada", 0, content, 100, &p), 0);
    uploads_close(u);
    put_file("up_0123456789abcdef.json", "{\"id\":");
    put_file("up_0123456789abcde0.json",
             "{\"id\":\"../../../etc/passwd\",\"owner\":\"a\",\"digest\":\"x\",\"bytes\":1,"
             "\"offset\":0,\"complete\":true}");
    put_file("up_0123456789abcde1.part", "left");
    put_file("x.json.tmp", "left");
    snprintf(name, sizeof name, "%s.part", id);
    int dir = openat(state, "uploads", O_RDONLY | O_DIRECTORY);
    int fd = openat(dir, name, O_WRONLY | O_APPEND);
    ck_assert_int_eq(write(fd, "torn", 4), 4);
    close(fd);
    close(dir);
    u = open_uploads(fault_env());
    ck_assert_int_eq(files_left(), 2);
    ck_assert_int_eq(offset_of(u, id), 100);
    ck_assert_int_eq(send_piece(u, id, "ada", 100, content + 100, SIZE - 100, &p), 0);
    check_blob(u);
    uploads_close(u);
    fault_clock(120000);
    u = open_uploads(fault_env()); /* finished ones do not expire */
    check_blob(u);
    ck_assert_int_eq(uploads_delete(u, id, NULL, &p), 0);
    ck_assert_int_eq(create(u, digest, SIZE, "ada", id, &created, &p), 0);
    fault_clock(59000);
    uploads_expire(u);
    ck_assert_int_eq(offset_of(u, id), 0);
    fault_clock(2000);
    uploads_expire(u);
    ck_assert_int_eq(offset_of(u, id), -1);
    ck_assert_int_eq(files_left(), 0);
    uploads_close(u);
}
END_TEST

/* Sends the file as a client does that tries each step again until it works, at most `tries` times;
 * told(arg, offset) after each answer. */
static bool send_all(struct uploads *u, int tries, void (*told)(void *arg, int64_t offset),
                     void *arg)
{
    char id[UPLOAD_ID_SIZE];
    bool created;
    struct problem p;
    while (create(u, digest, SIZE, "ada", id, &created, &p) != 0)
        if (tries-- == 0)
            return false;
    while (!uploads_find(u, digest, "ada", NULL)) {
        int64_t at = offset_of(u, id);
        size_t n = SIZE - at < 3000 ? (size_t)(SIZE - at) : 3000;
        if (send_piece(u, id, "ada", at, content + at, n, &p) == 0)
            told(arg, offset_of(u, id));
        else if (tries-- == 0)
            return false;
    }
    return true;
}

static void remember(void *arg, int64_t offset)
{
    *(int64_t *)arg = offset;
}

/* Any one operation fails: the next try goes on. From one on all fail, or the disk is full: what
 * was acknowledged is there after a restart on a good disk, and the rest can follow. */
static void failing(enum fault_mode mode, int tries)
{
    bool reached = true;
    int n_runs = 0;
    for (uint64_t n = 1; reached; n++, n_runs++) {
        int64_t acked = 0, last = 0;
        char id[UPLOAD_ID_SIZE];
        bool created;
        struct problem p;
        fresh();
        struct uploads *u = open_uploads(fault_env());
        fault_arm(mode, n, n);
        bool done = send_all(u, tries, remember, &acked);
        reached = fault_hit();
        ck_assert(done || mode != FAULT_ONCE);
        fault_arm(FAULT_NONE, 0, 0);
        uploads_close(u);
        u = open_uploads(fault_env());
        ck_assert_int_eq(create(u, digest, SIZE, "ada", id, &created, &p), 0);
        ck_assert_int_ge(offset_of(u, id), acked);
        ck_assert(send_all(u, 0, remember, &last));
        check_blob(u);
        ck_assert_int_eq(files_left(), 2);
        uploads_close(u);
    }
    ck_assert_int_ge(n_runs, 15);
}

START_TEST(any_one_operation_may_fail)
{
    failing(FAULT_ONCE, 2);
}
END_TEST

START_TEST(a_disk_that_breaks_keeps_what_was_acknowledged)
{
    failing(FAULT_FROM, 3);
}
END_TEST

START_TEST(a_full_disk_keeps_what_was_acknowledged)
{
    char id[UPLOAD_ID_SIZE];
    bool created;
    struct problem p;
    failing(FAULT_FULL, 3);
    fresh();
    struct uploads *u = open_uploads(fault_env());
    ck_assert_int_eq(create(u, digest, SIZE, "ada", id, &created, &p), 0);
    fault_arm(FAULT_FULL, 1, 1);
    ck_assert_int_eq(send_piece(u, id, "ada", 0, content, 10, &p), ERROR_REFUSED);
    ck_assert_int_eq(p.code, PROBLEM_DISK_FULL);
    fault_arm(FAULT_NONE, 0, 0);
    ck_assert_int_eq(send_piece(u, id, "ada", 0, content, SIZE, &p), 0);
    uploads_close(u);
}
END_TEST

static void tell_parent(void *arg, int64_t offset)
{
    if (write(*(int *)arg, &offset, sizeof offset) != (ssize_t)sizeof offset)
        _exit(1);
}

START_TEST(a_power_cut_at_every_write_keeps_what_was_acknowledged)
{
    bool cut = true;
    int n_cuts = 0;
    for (uint64_t n = 1; cut; n++) {
        int fds[2], status;
        int64_t acked = 0, last = 0;
        struct problem p;
        char id[UPLOAD_ID_SIZE];
        bool created;
        fresh();
        uploads_close(open_uploads(fault_env()));
        ck_assert_int_eq(pipe(fds), 0);
        pid_t child = fork();
        ck_assert_int_ge(child, 0);
        if (child == 0) {
            struct uploads *u = open_uploads(fault_env());
            fault_arm(FAULT_CUT, n, n);
            _exit(send_all(u, 0, tell_parent, &fds[1]) ? 0 : 1);
        }
        close(fds[1]);
        while (read(fds[0], &last, sizeof last) == (ssize_t)sizeof last)
            acked = last;
        close(fds[0]);
        ck_assert_int_eq(waitpid(child, &status, 0), child);
        ck_assert(WIFEXITED(status));
        ck_assert(WEXITSTATUS(status) == 0 || WEXITSTATUS(status) == FAULT_EXIT);
        cut = WEXITSTATUS(status) == FAULT_EXIT;
        n_cuts += cut;
        struct uploads *u = open_uploads(fault_env());
        ck_assert_int_eq(create(u, digest, SIZE, "ada", id, &created, &p), 0);
        ck_assert_int_ge(offset_of(u, id), acked);
        ck_assert(send_all(u, 0, remember, &last));
        check_blob(u);
        uploads_close(u);
    }
    ck_assert_int_ge(n_cuts, 15);
}
END_TEST

START_TEST(a_blob_that_has_changed_is_not_given_out)
{
    char id[UPLOAD_ID_SIZE], name[80], *data = NULL;
    bool created;
    size_t n;
    struct problem p;
    fresh();
    struct uploads *u = open_uploads(fault_env());
    ck_assert_int_eq(create(u, digest, SIZE, "ada", id, &created, &p), 0);
    ck_assert_int_eq(send_piece(u, id, "ada", 0, content, SIZE, &p), 0);
    ck_assert_int_eq(upload_read(env_system(), uploads_dir(u), digest, SIZE - 1, &data, &n),
                     -EFBIG);
    snprintf(name, sizeof name, "%s.blob", digest + 7);
    int fd = openat(uploads_dir(u), name, O_WRONLY);
    ck_assert_int_eq(pwrite(fd, "?", 1, 5), 1);
    close(fd);
    ck_assert_int_eq(upload_read(env_system(), uploads_dir(u), digest, SIZE, &data, &n),
                     -EBADMSG);
    ck_assert_int_eq(upload_read(env_system(), uploads_dir(u), "sha256:../../x", SIZE, &data, &n),
                     -ENOENT);
    ck_assert_ptr_null(data);
    uploads_close(u);
}
END_TEST

static void on_exit_close(void)
{
    if (state >= 0)
        close(state);
    state = -1;
}

int main(void)
{
    Suite *suite = suite_create("upload");
    TCase *tc = tcase_create("upload");
    tcase_set_timeout(tc, 60);
    tcase_add_unchecked_fixture(tc, NULL, on_exit_close);
    tcase_add_test(tc, a_file_arrives_in_pieces);
    tcase_add_test(tc, what_does_not_fit_is_refused);
    tcase_add_test(tc, another_digest_forgets_the_bytes);
    tcase_add_test(tc, one_piece_at_a_time);
    tcase_add_test(tc, a_blob_goes_with_its_last_record);
    tcase_add_test(tc, the_start_puts_the_folder_in_order);
    tcase_add_test(tc, any_one_operation_may_fail);
    tcase_add_test(tc, a_disk_that_breaks_keeps_what_was_acknowledged);
    tcase_add_test(tc, a_full_disk_keeps_what_was_acknowledged);
    tcase_add_test(tc, a_power_cut_at_every_write_keeps_what_was_acknowledged);
    tcase_add_test(tc, a_blob_that_has_changed_is_not_given_out);
    suite_add_tcase(suite, tc);
    return suite_run(suite);
}
