/* Bearer tokens, for administrators: POST /tokens (strict), GET /tokens. */
#ifndef PROTO_TOKEN_H
#define PROTO_TOKEN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "proto/problem.h"
#include "proto/server.h"

struct token_spec {
    const char *owner; /* 1 to 64 letters, digits and . _ @ - */
    enum user_role role;
    double expires_in; /* seconds, 1 to ten years; NAN: never */
};

struct token_view {
    const char *id;
    const char *owner;
    enum user_role role;
    int64_t created_at; /* milliseconds since 1970 */
    int64_t expires_at; /* -1: never */
    const char *token;  /* told once, in the answer that creates it; otherwise NULL */
};

struct token_list {
    size_t n_data;
    struct token_view *data;
    bool has_more;
};

int token_spec_decode(struct token_spec **p, const char *text, size_t len,
                      struct problem *problem);
char *token_spec_encode(const struct token_spec *spec, size_t *lenp);
struct token_spec *token_spec_free(struct token_spec *spec);
void token_spec_freep(struct token_spec **p);

void token_view_init(struct token_view *token);
int token_view_decode(struct token_view **p, const char *text, size_t len,
                      struct problem *problem);
char *token_view_encode(const struct token_view *token, size_t *lenp);
struct token_view *token_view_free(struct token_view *token);
void token_view_freep(struct token_view **p);

int token_list_decode(struct token_list **p, const char *text, size_t len,
                      struct problem *problem);
char *token_list_encode(const struct token_list *list, size_t *lenp);
struct token_list *token_list_free(struct token_list *list);
void token_list_freep(struct token_list **p);

#endif
