/* Numbers, durations, sizes and times as text. All parsers are strict: the whole text must
 * be the value, otherwise they return -1 and leave the output alone. Independent of the
 * locale. */
#ifndef PROTO_TEXT_H
#define PROTO_TEXT_H

#include <stddef.h>
#include <stdint.h>

#define PROTO_REAL_MAX 32
#define PROTO_TIME_MAX 32

/* "250ms", "30s", "5m", "1.5h", "2d": a non-negative decimal number and a unit, in seconds.
 */
int proto_duration_parse(const char *text, double *secondsp);

/* "4096", "64K", "1M", "2G", "1T": whole numbers, units are powers of 1024, in bytes. */
int proto_size_parse(const char *text, uint64_t *bytesp);

/* "2024-02-29T12:00:00Z", with optional fraction of a second: milliseconds since 1970, UTC.
 */
int proto_time_parse(const char *text, int64_t *msp);

/* A decimal number in JSON's grammar, finite. */
int proto_real_parse(const char *text, size_t len, double *valuep);

/* The shortest decimal text that reads back as the same double; "null" if it is not finite.
 */
char *proto_real_text(double value, char buf[PROTO_REAL_MAX]);

/* Seconds with their unit ("30s"), readable by proto_duration_parse. */
char *proto_duration_text(double seconds, char buf[PROTO_REAL_MAX]);

/* RFC 3339 in UTC with milliseconds ("2024-02-29T12:00:00.000Z"); years 1970 to 9999. */
char *proto_time_text(int64_t ms, char buf[PROTO_TIME_MAX]);

#endif
