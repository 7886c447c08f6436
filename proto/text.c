#include "proto/text.h"

#include <errno.h>
#include <locale.h>
#include <math.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define REAL_CHARS_MAX 320

static bool is_digit(char c)
{
    return c >= '0' && c <= '9';
}

/* JSON's number grammar; returns the number of bytes that match, 0 for none */
static size_t number_length(const char *s, size_t len)
{
    size_t i = 0;
    if (i < len && s[i] == '-')
        i++;
    if (i == len || !is_digit(s[i]))
        return 0;
    if (s[i++] != '0')
        while (i < len && is_digit(s[i]))
            i++;
    if (i < len && s[i] == '.') {
        if (++i == len || !is_digit(s[i]))
            return 0;
        while (i < len && is_digit(s[i]))
            i++;
    }
    if (i < len && (s[i] == 'e' || s[i] == 'E')) {
        i++;
        if (i < len && (s[i] == '+' || s[i] == '-'))
            i++;
        if (i == len || !is_digit(s[i]))
            return 0;
        while (i < len && is_digit(s[i]))
            i++;
    }
    return i;
}

/* the program around a client library may have set a locale with a decimal comma */
static char decimal_point(void)
{
    const char *point = localeconv()->decimal_point;
    return point && point[0] ? point[0] : '.';
}

int proto_real_parse(const char *text, size_t len, double *valuep)
{
    char copy[REAL_CHARS_MAX + 1];
    if (len > REAL_CHARS_MAX || len == 0 || number_length(text, len) != len)
        return -1;
    memcpy(copy, text, len);
    copy[len] = '\0';
    char *point = strchr(copy, '.');
    if (point)
        *point = decimal_point();
    double value = strtod(copy, NULL);
    if (!isfinite(value))
        return -1;
    *valuep = value;
    return 0;
}

char *proto_real_text(double value, char buf[PROTO_REAL_MAX])
{
    if (!isfinite(value)) {
        memcpy(buf, "null", sizeof "null");
        return buf;
    }
    for (int digits = 15; digits <= 17; digits++) {
        snprintf(buf, PROTO_REAL_MAX, "%.*g", digits, value);
        if (strtod(buf, NULL) == value)
            break;
    }
    char *point = strchr(buf, decimal_point());
    if (point)
        *point = '.';
    return buf;
}

int proto_duration_parse(const char *text, double *secondsp)
{
    static const struct {
        const char *name;
        double seconds;
    } units[] = { { "ms", 1e-3 }, { "s", 1 }, { "m", 60 }, { "h", 3600 }, { "d", 86400 } };
    size_t n = 0;
    while (is_digit(text[n]) || text[n] == '.')
        n++;
    double value;
    if (proto_real_parse(text, n, &value))
        return -1;
    for (size_t u = 0; u < sizeof units / sizeof *units; u++) {
        if (strcmp(text + n, units[u].name) == 0) {
            *secondsp = value * units[u].seconds;
            return 0;
        }
    }
    return -1;
}

char *proto_duration_text(double seconds, char buf[PROTO_REAL_MAX])
{
    if (!isfinite(seconds) || seconds < 0)
        seconds = 0;
    /* an exponent is no part of a duration's grammar */
    if (seconds >= 1e15 || (seconds > 0 && seconds < 1e-4))
        snprintf(buf, PROTO_REAL_MAX, "%.6f", seconds > 1e15 ? 1e15 : seconds);
    else
        proto_real_text(seconds, buf);
    size_t n = strlen(buf);
    snprintf(buf + n, PROTO_REAL_MAX - n, "s");
    return buf;
}

int proto_size_parse(const char *text, uint64_t *bytesp)
{
    uint64_t value = 0;
    size_t i = 0;
    if (!is_digit(text[0]) || (text[0] == '0' && text[1]))
        return -1;
    for (; is_digit(text[i]); i++)
        if (__builtin_mul_overflow(value, (uint64_t)10, &value) ||
            __builtin_add_overflow(value, (uint64_t)(text[i] - '0'), &value))
            return -1;
    static const char units[] = "KMGT";
    if (text[i]) {
        const char *unit = strchr(units, text[i]);
        if (!unit || text[i + 1])
            return -1;
        uint64_t factor = (uint64_t)1 << (10 * (unit - units + 1));
        if (__builtin_mul_overflow(value, factor, &value))
            return -1;
    }
    *bytesp = value;
    return 0;
}

static int64_t days_in_month(int64_t year, int64_t month)
{
    static const int8_t days[] = { 31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31 };
    bool leap = (year % 4 == 0 && year % 100 != 0) || year % 400 == 0;
    return days[month - 1] + (month == 2 && leap);
}

static int64_t days_before_year(int64_t year)
{
    int64_t y = year - 1;
    return y * 365 + y / 4 - y / 100 + y / 400 - 719162; /* 719162 days before 1970 */
}

/* exactly n digits at *s, which moves on; -1 if there are other characters */
static int64_t digits_take(const char **s, size_t n)
{
    int64_t value = 0;
    for (size_t i = 0; i < n; i++, (*s)++) {
        if (!is_digit(**s))
            return -1;
        value = value * 10 + (**s - '0');
    }
    return value;
}

int proto_time_parse(const char *text, int64_t *msp)
{
    static const char separators[] = "--T::";
    static const uint8_t widths[] = { 4, 2, 2, 2, 2, 2 };
    int64_t part[6];
    for (size_t i = 0; i < 6; i++) {
        if (i && *text++ != separators[i - 1])
            return -1;
        part[i] = digits_take(&text, widths[i]);
        if (part[i] < 0)
            return -1;
    }
    if (part[0] < 1970 || part[1] < 1 || part[1] > 12 || part[2] < 1 ||
        part[2] > days_in_month(part[0], part[1]) || part[3] > 23 || part[4] > 59 ||
        part[5] > 59)
        return -1;
    int64_t ms = 0;
    if (*text == '.') {
        if (!is_digit(*++text))
            return -1;
        for (int64_t scale = 100; is_digit(*text); text++, scale /= 10)
            ms += scale * (*text - '0');
    }
    if (strcmp(text, "Z") != 0)
        return -1;
    int64_t days = days_before_year(part[0]) + part[2] - 1;
    for (int64_t month = 1; month < part[1]; month++)
        days += days_in_month(part[0], month);
    *msp = (((days * 24 + part[3]) * 60 + part[4]) * 60 + part[5]) * 1000 + ms;
    return 0;
}

char *proto_time_text(int64_t ms, char buf[PROTO_TIME_MAX])
{
    if (ms < 0)
        ms = 0;
    if (ms > 253402300799999)
        ms = 253402300799999; /* the end of the year 9999 */
    int64_t seconds = ms / 1000, days = seconds / 86400, year = 1970 + days / 366;
    while (days_before_year(year + 1) <= days)
        year++;
    days -= days_before_year(year);
    int64_t month = 1;
    for (; days >= days_in_month(year, month); month++)
        days -= days_in_month(year, month);
    snprintf(buf, PROTO_TIME_MAX, "%04d-%02d-%02dT%02d:%02d:%02d.%03dZ", (int)year,
             (int)month, (int)(days + 1), (int)(seconds / 3600 % 24),
             (int)(seconds / 60 % 60), (int)(seconds % 60), (int)(ms % 1000));
    return buf;
}
