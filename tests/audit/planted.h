/* Bugs that can be planted into the trainer of this program; see planted.c. */
#ifndef TESTS_AUDIT_PLANTED_H
#define TESTS_AUDIT_PLANTED_H

enum planted {
    PLANTED_NOTHING,
    NOISE_BY_SQRT_BATCH, /* standard deviation divided by sqrt(B) */
    NOISE_PER_REPLICA,   /* two replicas add half of it each */
    NOISE_PER_MICROBATCH,/* half of it: two accumulated halves, noise once, divided twice */
    NOISE_LEFT_OUT,
    NOISE_REUSED,        /* the same in every step */
    NOISE_NOT_ON_EMPTY,  /* none when nobody joined */
    CLIP_SKIPPED,
    CLIP_INVERTED,       /* n / C */
    CLIP_PER_BATCH,      /* the mean gradient is clipped, not each record's */
    RATE_DOUBLED,        /* twice the stated sample rate */
    ADAPTIVE_UNPAID,     /* the count behind the bound is released beside the full noise */
    TELEMETRY_UNPAID,    /* so are loss and clip fraction */
    SCHEDULE_HALF_DONE,  /* clipping follows the schedule, noise does not */
    SECURE_HALVED,       /* as NOISE_PER_MICROBATCH, on the grid */
    SECURE_REUSED,
    RECORDS_FOR_USERS,   /* users are stated, records are sampled and clipped (games.c) */
    N_PLANTED
};

void planted_set(enum planted bug, double expected_batch_size);
enum planted planted_now(void);

#endif
