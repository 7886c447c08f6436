/* Games of canaries against the trainer. */
#ifndef TESTS_AUDIT_GAMES_H
#define TESTS_AUDIT_GAMES_H

#include "psg/audit.h"
#include "psg/train.h"

/* Scores of a game, larger where the canary is likely in. */
enum {
    SCORE_LOSS,    /* the privacy loss of the canary's coordinate */
    SCORE_RANGE,   /* largest less smallest value: noise that does not change shows steps */
    SCORE_SILENCE, /* minus the number of values that are exactly 0 */
    SCORE_JOINT,   /* the loss of coordinate, telemetry and clip bound together */
    N_SCORES
};
enum { MAX_STEPS = 16 };

struct setup {
    double q, s;
    int steps; /* of a game */
    /* parallel: one run, n canaries in the data and n beside it, a coordinate each.
     * sequential: two runs with one coordinate, n games one after the other in each */
    int n;
    bool sequential;
    int runs; /* parallel runs, one after the other; 0 stands for 1 */
    enum psg_clipping clipping; /* FLAT, ADAPTIVE, AUTO_S */
    double telemetry_share;
    double clip_growth; /* bound of step k: 1, then this; 0: always 1 */
    bool secure;
    int records_per_user; /* 0: records are the unit */
    uint64_t seed;
};

/* in[score][game], out[score][game]: n games each (of all runs); freed with games_free(). */
struct games {
    int n;
    double *in[N_SCORES], *out[N_SCORES];
};
void games_play(const struct setup *setup, struct games *games);
void games_free(struct games *games);

/* What the accountant says of a game. */
double games_claim(const struct setup *setup, double delta);

#endif
