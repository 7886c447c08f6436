/* Buffers that live at the same time share no byte; others do, so that all together need little
 * more than the most that is alive at once. */
#include <stdlib.h>

#include "base/place.h"
#include "suite.h"

enum { N = 300, TIMES = 120 };

static uint64_t next(uint64_t *state)
{
    *state += UINT64_C(0x9e3779b97f4a7c15); /* splitmix64 */
    uint64_t z = *state;
    z = (z ^ (z >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
    z = (z ^ (z >> 27)) * UINT64_C(0x94d049bb133111eb);
    return z ^ (z >> 31);
}

static void draw(struct base_stay *s, uint64_t *state, bool nested)
{
    s->first = (int64_t)(next(state) % TIMES);
    s->last = nested ? TIMES + TIMES - s->first
                     : s->first + (int64_t)(next(state) % (next(state) % 4 ? 6 : TIMES));
    s->bytes = next(state) % 10 == 0 ? 0 : (int64_t)(next(state) % 100000);
}

static void check(const struct base_stay *s, int n, int64_t bytes)
{
    int64_t most = 0;
    for (int i = 0; i < n; i++) {
        ck_assert_int_eq(s[i].offset % BASE_PLACE_ALIGN, 0);
        ck_assert_int_ge(s[i].offset, 0);
        ck_assert_int_le(s[i].offset + s[i].bytes, bytes);
        for (int j = 0; j < i; j++) {
            bool same_time = s[i].first <= s[j].last && s[j].first <= s[i].last;
            bool same_place = s[i].offset < s[j].offset + s[j].bytes &&
                              s[j].offset < s[i].offset + s[i].bytes;
            bool empty = s[i].bytes == 0 || s[j].bytes == 0;
            ck_assert_msg(empty || !same_time || !same_place, "%d and %d share memory", i, j);
        }
    }
    for (int64_t t = 0; t <= 2 * TIMES; t++) {
        int64_t alive = 0;
        for (int i = 0; i < n; i++)
            alive += s[i].first <= t && t <= s[i].last ? s[i].bytes : 0;
        most = alive > most ? alive : most;
    }
    ck_assert_int_ge(bytes, most);
    ck_assert_double_le((double)bytes, 1.3 * (double)most);
}

START_TEST(random_lives_do_not_meet)
{
    uint64_t state = (uint64_t)_i;
    struct base_stay s[N];
    int n = _i % 7 == 0 ? _i : N;
    int64_t bytes = -1;
    for (int i = 0; i < n; i++)
        draw(&s[i], &state, _i % 2);
    ck_assert_int_eq(base_place(s, n, &bytes, NULL), 0);
    check(s, n, bytes);
}
END_TEST

START_TEST(what_does_not_fit_is_refused)
{
    struct base_stay s[5] = { 0 };
    struct psg_error err = { 0 };
    int64_t bytes;
    for (int i = 0; i < 5; i++)
        s[i] = (struct base_stay){ 0, 1, INT64_MAX / 8, 0 };
    ck_assert_int_eq(base_place(s, 5, &bytes, &err), PSG_E_RANGE);
    for (int i = 0; i < 5; i++)
        s[i] = (struct base_stay){ i, i, INT64_MAX / 8, 0 };
    ck_assert_int_eq(base_place(s, 5, &bytes, &err), 0);
    ck_assert_int_eq(s[0].offset + s[4].offset, 0);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("place");
    TCase *tc = tcase_create("place");
    tcase_add_loop_test(tc, random_lives_do_not_meet, 0, 30);
    tcase_add_test(tc, what_does_not_fit_is_refused);
    suite_add_tcase(suite, tc);
    return suite_run(suite);
}
