#include "http/auth.h"

#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/cleanup.h"

enum { TOKENS_FILE_MAX = 1 << 20 };

struct auth {
    const struct env *env;
    int dir; /* the state folder */
    size_t n, cap;
    struct auth_token *tokens;
};

static const struct {
    enum auth_role role;
    const char *name;
} roles[] = { { AUTH_VIEWER, "viewer" },       { AUTH_SUBMITTER, "submitter" },
              { AUTH_CUSTODIAN, "custodian" }, { AUTH_ADMIN, "admin" },
              { AUTH_METRICS, "metrics" } };

const char *auth_role_name(enum auth_role role)
{
    for (size_t i = 0; i < sizeof roles / sizeof roles[0]; i++)
        if (roles[i].role == role)
            return roles[i].name;
    return NULL;
}

enum auth_role auth_role_parse(const char *name)
{
    for (size_t i = 0; i < sizeof roles / sizeof roles[0]; i++)
        if (strcmp(roles[i].name, name) == 0)
            return roles[i].role;
    return 0;
}

bool auth_owner_valid(const char *owner)
{
    size_t n = strspn(owner, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._@-");
    return n > 0 && n <= AUTH_OWNER_MAX && owner[n] == '\0';
}

static json_t *token_json(const struct auth_token *token)
{
    char hash[65];
    sodium_bin2hex(hash, sizeof hash, token->hash, sizeof token->hash);
    return json_pack("{s:s, s:s, s:s, s:s, s:I, s:I}", "id", token->id, "owner", token->owner,
                     "role", auth_role_name(token->role), "sha256", hash, "created_ms",
                     (json_int_t)token->created_ms, "expires_ms",
                     (json_int_t)token->expires_ms);
}

static int save(const struct auth *auth)
{
    json_t *list = json_array();
    int r = list == NULL ? -ENOMEM : 0;
    for (size_t i = 0; r == 0 && i < auth->n; i++)
        if (json_array_append_new(list, token_json(&auth->tokens[i])) != 0)
            r = -ENOMEM;
    char *text = r == 0 ? json_dumps(list, JSON_INDENT(1)) : NULL;
    json_decref(list);
    if (text == NULL)
        return -ENOMEM;
    r = env_write_file(auth->env, auth->dir, "tokens.json", text, strlen(text), 0600);
    free(text);
    return r;
}

static int grow(struct auth *auth)
{
    if (auth->n < auth->cap)
        return 0;
    size_t cap = auth->cap == 0 ? 8 : auth->cap * 2;
    struct auth_token *tokens = reallocarray(auth->tokens, cap, sizeof *tokens);
    if (tokens == NULL)
        return -ENOMEM;
    auth->tokens = tokens;
    auth->cap = cap;
    return 0;
}

static int load_token(struct auth *auth, const json_t *entry)
{
    const char *id, *owner, *role, *hash;
    json_int_t created, expires;
    size_t n_hash;
    if (json_unpack((json_t *)(uintptr_t)entry, "{s:s, s:s, s:s, s:s, s:I, s:I !}", "id", &id,
                    "owner", &owner, "role", &role, "sha256", &hash, "created_ms", &created,
                    "expires_ms", &expires) != 0 ||
        strlen(id) >= sizeof auth->tokens[0].id || !auth_owner_valid(owner) ||
        auth_role_parse(role) == 0)
        return -EBADMSG;
    if (auth->n == AUTH_TOKENS_MAX)
        return -E2BIG;
    int r = grow(auth);
    if (r != 0)
        return r;
    struct auth_token *token = &auth->tokens[auth->n];
    *token = (struct auth_token){ .role = auth_role_parse(role),
                                  .created_ms = created,
                                  .expires_ms = expires };
    snprintf(token->id, sizeof token->id, "%s", id);
    snprintf(token->owner, sizeof token->owner, "%s", owner);
    if (sodium_hex2bin(token->hash, sizeof token->hash, hash, strlen(hash), NULL, &n_hash,
                       NULL) != 0 ||
        n_hash != sizeof token->hash)
        return -EBADMSG;
    auth->n++;
    return 0;
}

static int load(struct auth *auth)
{
    _cleanup_free_ char *text = NULL;
    size_t n = 0;
    int r = env_read_file(auth->env, auth->dir, "tokens.json", TOKENS_FILE_MAX, &text, &n);
    if (r != 0)
        return r == -ENOENT ? 0 : r;
    json_t *list = json_loadb(text, n, JSON_REJECT_DUPLICATES, NULL);
    r = json_is_array(list) ? 0 : -EBADMSG;
    for (size_t i = 0; r == 0 && i < json_array_size(list); i++)
        r = load_token(auth, json_array_get(list, i));
    json_decref(list);
    return r;
}

static size_t count_admins(const struct auth *auth)
{
    size_t n = 0;
    for (size_t i = 0; i < auth->n; i++)
        n += auth->tokens[i].role == AUTH_ADMIN && auth->tokens[i].expires_ms == 0;
    return n;
}

static int make_admin(struct auth *auth, int64_t now_ms)
{
    char text[AUTH_TOKEN_TEXT + 1];
    const struct auth_token *token;
    int r = auth_create(auth, "admin", AUTH_ADMIN, now_ms, 0, text, &token);
    if (r == 0) {
        strcat(text, "\n");
        r = env_write_file(auth->env, auth->dir, "admin.token", text, strlen(text), 0600);
        if (r != 0) { /* a token that nobody has must not stand in the way of the next try */
            auth->n--;
            save(auth);
        }
    }
    sodium_memzero(text, sizeof text);
    return r;
}

int auth_open(struct auth **authp, const struct env *env, const char *state_dir, char *why,
              size_t size)
{
    struct auth *auth = calloc(1, sizeof *auth);
    if (auth == NULL)
        return -ENOMEM;
    const char *what = state_dir;
    int r = 0;
    auth->env = env;
    auth->dir = open(state_dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (auth->dir < 0)
        r = -errno;
    if (r == 0) {
        what = "tokens.json";
        r = load(auth);
    }
    if (r == 0 && count_admins(auth) == 0) {
        what = "admin.token";
        r = make_admin(auth, env->realtime_ms(env));
    }
    if (r != 0) {
        snprintf(why, size, "%s: %s", what, strerror(-r));
        auth_close(auth);
        return r;
    }
    *authp = auth;
    return 0;
}

struct auth *auth_close(struct auth *auth)
{
    if (auth == NULL)
        return NULL;
    if (auth->dir >= 0)
        close(auth->dir);
    if (auth->tokens != NULL)
        sodium_memzero(auth->tokens, auth->cap * sizeof *auth->tokens);
    free(auth->tokens);
    free(auth);
    return NULL;
}

struct auth_token *auth_find(struct auth *auth, const char *text, int64_t now_ms)
{
    uint8_t hash[32];
    struct auth_token *found = NULL;
    crypto_hash_sha256(hash, (const unsigned char *)text, strlen(text));
    for (size_t i = 0; i < auth->n; i++)
        if (sodium_memcmp(hash, auth->tokens[i].hash, sizeof hash) == 0)
            found = &auth->tokens[i];
    if (found != NULL && found->expires_ms != 0 && found->expires_ms <= now_ms)
        return NULL;
    return found;
}

int auth_create(struct auth *auth, const char *owner, enum auth_role role, int64_t now_ms,
                int64_t expires_ms, char text[AUTH_TOKEN_TEXT], const struct auth_token **tokenp)
{
    uint8_t secret[32], id[8];
    if (auth->n >= AUTH_TOKENS_MAX)
        return -E2BIG;
    int r = grow(auth);
    if (r != 0)
        return r;
    struct auth_token *token = &auth->tokens[auth->n];
    *token = (struct auth_token){ .role = role, .created_ms = now_ms, .expires_ms = expires_ms };
    snprintf(token->owner, sizeof token->owner, "%s", owner);
    randombytes_buf(id, sizeof id);
    memcpy(token->id, "tok_", 4);
    sodium_bin2hex(token->id + 4, sizeof token->id - 4, id, sizeof id);
    randombytes_buf(secret, sizeof secret);
    memcpy(text, "dpt_", 4);
    sodium_bin2base64(text + 4, AUTH_TOKEN_TEXT - 4, secret, sizeof secret,
                      sodium_base64_VARIANT_URLSAFE_NO_PADDING);
    sodium_memzero(secret, sizeof secret);
    crypto_hash_sha256(token->hash, (const unsigned char *)text, strlen(text));
    auth->n++;
    r = save(auth);
    if (r != 0) {
        auth->n--;
        return r;
    }
    *tokenp = token;
    return 0;
}

int auth_remove(struct auth *auth, const char *id)
{
    size_t i = 0;
    while (i < auth->n && strcmp(auth->tokens[i].id, id) != 0)
        i++;
    if (i == auth->n)
        return -ENOENT;
    struct auth_token gone = auth->tokens[i];
    if (gone.role == AUTH_ADMIN && gone.expires_ms == 0 && count_admins(auth) == 1)
        return -EBUSY;
    memmove(&auth->tokens[i], &auth->tokens[i + 1], (auth->n - i - 1) * sizeof gone);
    auth->n--;
    int r = save(auth);
    if (r != 0) { /* what the file says counts */
        memmove(&auth->tokens[i + 1], &auth->tokens[i], (auth->n - i) * sizeof gone);
        auth->tokens[i] = gone;
        auth->n++;
    }
    return r;
}

size_t auth_count(const struct auth *auth)
{
    return auth->n;
}

const struct auth_token *auth_at(const struct auth *auth, size_t index)
{
    return &auth->tokens[index];
}
