/* How libpsg reports what went wrong: a status number, and a place and a text for people.
 *
 * Functions that can fail return 0 or a negative enum psg_status and take a
 * struct psg_error * as their last argument, which may be NULL. */
#ifndef PSG_STATUS_H
#define PSG_STATUS_H

#ifdef __cplusplus
extern "C" {
#endif

#define PSG_API __attribute__((visibility("default")))

enum psg_status {
    PSG_OK = 0,
    PSG_E_NOMEM = -1,       /* an allocation failed */
    PSG_E_INVALID = -2,     /* an argument or attribute is wrong: name, kind or value */
    PSG_E_SHAPE = -3,       /* shapes or dtypes do not fit together */
    PSG_E_RANGE = -4,       /* a number is outside of its range, an index outside of its table */
    PSG_E_UNSUPPORTED = -5, /* understood, and not available here */
    PSG_E_FORMAT = -6,      /* a file or buffer is not what it claims to be */
    PSG_E_IO = -7           /* the operating system refused; text holds its reason */
};

struct psg_error {
    enum psg_status status;
    char place[160]; /* node path, attribute, parameter or file; may be empty */
    char text[320];  /* one sentence without a final full stop */
};

/* Fills *err (when not NULL) and returns status, so that `return psg_fail(...)` works. */
PSG_API int psg_fail(struct psg_error *err, enum psg_status status, const char *place,
                     const char *fmt, ...) __attribute__((format(printf, 4, 5)));

/* Constant name of a status, "PSG_E_SHAPE" and so on; never NULL. */
PSG_API const char *psg_status_name(enum psg_status status);

#ifdef __cplusplus
}
#endif
#endif
