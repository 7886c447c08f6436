/* Access tokens: "dpt_" and 43 characters of base64url (256 random bits). Only their SHA-256 is
 * kept, in STATE/tokens.json (mode 0600, replaced atomically). The first start, or one that
 * finds no admin token, writes a new one to STATE/admin.token (mode 0600).
 *
 *   role        may
 *   viewer      read jobs, datasets, budgets, queue
 *   submitter   submit; read datasets and budgets; read, cancel and delete own jobs
 *   custodian   what a viewer may; register datasets, change budgets, read ledgers
 *   admin       everything, tokens too
 *   metrics     GET /metrics
 *
 * Thread: the loop's. Token tables are small (AUTH_TOKENS_MAX) and searched from end to end, so
 * the time of a search says nothing about the token. */
#ifndef DAEMON_HTTP_AUTH_H
#define DAEMON_HTTP_AUTH_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/env.h"
#include "http/limit.h"

enum auth_role {
    AUTH_VIEWER = 1,
    AUTH_SUBMITTER = 2,
    AUTH_CUSTODIAN = 4,
    AUTH_ADMIN = 8,
    AUTH_METRICS = 16
};

/* Sets of roles, for the route table. */
enum {
    AUTH_ANYBODY = 0, /* no token needed */
    AUTH_READ = AUTH_VIEWER | AUTH_SUBMITTER | AUTH_CUSTODIAN | AUTH_ADMIN,
    AUTH_SUBMIT = AUTH_SUBMITTER | AUTH_ADMIN,
    AUTH_CUSTODY = AUTH_CUSTODIAN | AUTH_ADMIN,
    AUTH_ADMINISTER = AUTH_ADMIN,
    AUTH_SCRAPE = AUTH_METRICS | AUTH_ADMIN,
    AUTH_KNOWN = AUTH_READ | AUTH_METRICS
};

enum { AUTH_TOKENS_MAX = 1000, AUTH_OWNER_MAX = 64, AUTH_TOKEN_TEXT = 48 };

struct auth_token {
    char id[24]; /* "tok_" and 16 hex digits; public */
    char owner[AUTH_OWNER_MAX + 1];
    enum auth_role role;
    uint8_t hash[32];
    int64_t created_ms;
    int64_t expires_ms; /* 0: never */
    struct bucket bucket;
};

struct auth;

/* 0 or a negative errno with a sentence in why[size]. */
int auth_open(struct auth **authp, const struct env *env, const char *state_dir, char *why,
              size_t size);
struct auth *auth_close(struct auth *auth);

/* The token with this text, NULL if there is none or it has expired. Valid until the next
 * auth_create or auth_remove. */
struct auth_token *auth_find(struct auth *auth, const char *text, int64_t now_ms);

/* Makes a token, durable on return; its text goes to text. 0, -E2BIG at AUTH_TOKENS_MAX, or
 * the errno of a write. *tokenp is valid like auth_find's. */
int auth_create(struct auth *auth, const char *owner, enum auth_role role, int64_t now_ms,
                int64_t expires_ms, char text[AUTH_TOKEN_TEXT], const struct auth_token **tokenp);

/* 0, -ENOENT, -EBUSY for the last admin token, or the errno of a write. */
int auth_remove(struct auth *auth, const char *id);

size_t auth_count(const struct auth *auth);
const struct auth_token *auth_at(const struct auth *auth, size_t index);

/* Letters, digits and . _ @ -, 1 to AUTH_OWNER_MAX of them. */
bool auth_owner_valid(const char *owner);

/* NULL and 0 for what is not a role. */
const char *auth_role_name(enum auth_role role);
enum auth_role auth_role_parse(const char *name);

#endif
