#include "proto/invite.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <sodium.h>

#include "base/bytes.h"
#include "proto/digest.h"

#define SCHEME "muster://"

/* ---- endpoints --------------------------------------------------------------------------- */

struct address {
    char host[MSG_TEXT_BYTES]; /* "127.0.0.1", "[::1]" */
    uint32_t port;
};

/* One decimal number in 1..65535 and nothing else. */
static bool parse_port(uint32_t *port, const char *text, size_t len)
{
    uint32_t v = 0;

    if (len == 0 || len > 5)
        return false;
    for (size_t i = 0; i < len; i++) {
        if (text[i] < '0' || text[i] > '9')
            return false;
        v = v * 10 + (uint32_t)(text[i] - '0');
    }
    *port = v;
    return v >= 1 && v <= 65535 && text[0] != '0';
}

static bool is_host(const char *host)
{
    static const char name_chars[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
                                     "0123456789.-";
    static const char v6_chars[] = "0123456789abcdefABCDEF:.%";
    size_t len = strlen(host);

    if (host[0] == '[')
        return len > 3 && host[len - 1] == ']' && strspn(host + 1, v6_chars) == len - 2;
    return len > 0 && strspn(host, name_chars) == len;
}

/* "HOST:PORT" of `len` characters. */
static bool parse_address(struct address *a, const char *text, size_t len)
{
    size_t colon = len;

    while (colon > 0 && text[colon - 1] != ':')
        colon--;
    if (colon == 0 || colon - 1 >= sizeof(a->host))
        return false;
    memcpy(a->host, text, colon - 1);
    a->host[colon - 1] = '\0';
    return is_host(a->host) && parse_port(&a->port, text + colon, len - colon);
}

static enum status parse_endpoint(struct address *a, const char *endpoint, struct err *e)
{
    if (strncmp(endpoint, "tcp://", 6) != 0 ||
        !parse_address(a, endpoint + 6, strlen(endpoint + 6)))
        return err_set(e, ERR_INVALID, "'%s' is no endpoint tcp://HOST:PORT", endpoint);
    return OK;
}

/* ---- the link ---------------------------------------------------------------------------- */

enum status invite_encode(char out[INVITE_LINK_BYTES], const struct invite *v, struct err *e)
{
    char run[65], key[65], id[33], secret[65];
    struct address control = {0}, enrol = {0};
    enum status st;
    int n;

    st = parse_endpoint(&control, v->control, e);
    if (!st)
        st = parse_endpoint(&enrol, v->enrol, e);
    if (st)
        return st;
    if (strcmp(control.host, enrol.host) != 0)
        return err_set(e, ERR_INVALID, "'%s' and '%s' are not on one host", v->control,
                       v->enrol);
    hex_encode(run, BYTES_OF(v->run.b));
    hex_encode(key, BYTES_OF(v->server.b));
    hex_encode(id, BYTES_OF(v->id));
    hex_encode(secret, BYTES_OF(v->secret));
    n = snprintf(out, INVITE_LINK_BYTES,
                 SCHEME "%s:%u/?run=%s&key=%s&enrol=%u&invite=%s&secret=%s&role=%s",
                 control.host, control.port, run, key, enrol.port, id, secret,
                 role_name(v->role));
    sodium_memzero(secret, sizeof(secret));
    if (n < 0 || (size_t)n >= INVITE_LINK_BYTES)
        return err_set(e, ERR_INVALID, "host name '%.64s...' is too long for a link",
                       control.host);
    return OK;
}

enum link_key { KEY_RUN, KEY_KEY, KEY_ENROL, KEY_INVITE, KEY_SECRET, KEY_ROLE, KEY_COUNT };
static const char *const link_keys[KEY_COUNT] = {"run",    "key",    "enrol",
                                                 "invite", "secret", "role"};

/* One "name=value": sets the field and marks it as seen. Values are never quoted in an error: one
 * of them is a secret. */
static enum status parse_pair(struct invite *v, struct address *enrol, unsigned *seen,
                              const char *pair, size_t len, struct err *e)
{
    char value[80];
    enum status st = OK;
    unsigned k;
    size_t name_len;

    for (k = 0; k < KEY_COUNT; k++) {
        name_len = strlen(link_keys[k]);
        if (len > name_len && strncmp(pair, link_keys[k], name_len) == 0 &&
            pair[name_len] == '=')
            break;
    }
    if (k == KEY_COUNT)
        return err_set(e, ERR_MALFORMED, "invite link has a parameter it should not have");
    if (*seen & 1u << k)
        return err_set(e, ERR_MALFORMED, "invite link gives '%s' twice", link_keys[k]);
    *seen |= 1u << k;
    len -= name_len + 1;
    if (len == 0 || len >= sizeof(value))
        return err_set(e, ERR_MALFORMED, "invite link: bad '%s'", link_keys[k]);
    memcpy(value, pair + name_len + 1, len);
    value[len] = '\0';
    switch ((enum link_key)k) {
    case KEY_RUN: st = hex_decode(v->run.b, sizeof(v->run.b), value, NULL); break;
    case KEY_KEY: st = hex_decode(v->server.b, sizeof(v->server.b), value, NULL); break;
    case KEY_INVITE: st = hex_decode(v->id, sizeof(v->id), value, NULL); break;
    case KEY_SECRET: st = hex_decode(v->secret, sizeof(v->secret), value, NULL); break;
    case KEY_ENROL: st = parse_port(&enrol->port, value, len) ? OK : ERR_MALFORMED; break;
    default:
        v->role = role_parse(value);
        st = v->role == ROLE_NONE ? ERR_MALFORMED : OK;
        break;
    }
    sodium_memzero(value, sizeof(value));
    return st ? err_set(e, ERR_MALFORMED, "invite link: bad '%s'", link_keys[k]) : OK;
}

static enum status parse_pairs(struct invite *v, struct address *enrol, const char *at,
                               struct err *e)
{
    unsigned seen = 0;
    enum status st;

    for (;;) {
        size_t len = strcspn(at, "&");

        st = parse_pair(v, enrol, &seen, at, len, e);
        if (st)
            return st;
        if (at[len] == '\0')
            break;
        at += len + 1;
    }
    for (unsigned k = 0; k < KEY_COUNT; k++) {
        if (!(seen & 1u << k))
            return err_set(e, ERR_MALFORMED, "invite link lacks '%s'", link_keys[k]);
    }
    return OK;
}

static bool make_endpoint(char out[MSG_TEXT_BYTES], const char *host, uint32_t port)
{
    int n = snprintf(out, MSG_TEXT_BYTES, "tcp://%s:%u", host, port);

    return n > 0 && n < (int)MSG_TEXT_BYTES;
}

enum status invite_decode(struct invite *v, const char *link, struct err *e)
{
    struct address control = {0}, enrol = {0};
    const char *at, *slash;
    enum status st;

    memset(v, 0, sizeof(*v));
    if (strnlen(link, INVITE_LINK_BYTES) == INVITE_LINK_BYTES)
        return err_set(e, ERR_MALFORMED, "invite link is longer than %u characters",
                       INVITE_LINK_BYTES - 1);
    if (strncmp(link, SCHEME, strlen(SCHEME)) != 0)
        return err_set(e, ERR_MALFORMED, "invite link does not begin with " SCHEME);
    at = link + strlen(SCHEME);
    slash = strchr(at, '/');
    if (!slash || slash[1] != '?' || !parse_address(&control, at, (size_t)(slash - at)))
        return err_set(e, ERR_MALFORMED, "invite link has no HOST:PORT/?");
    st = parse_pairs(v, &enrol, slash + 2, e);
    if (st)
        return st;
    if (!make_endpoint(v->control, control.host, control.port) ||
        !make_endpoint(v->enrol, control.host, enrol.port))
        return err_set(e, ERR_MALFORMED, "invite link has too long a host name");
    return OK;
}

/* ---- the proof of having been invited ---------------------------------------------------- */

void invite_mac(struct digest *out, const uint8_t secret[32], const struct msg_join *m)
{
    const uint8_t role[1] = {(uint8_t)m->role};
    struct digest_state s;

    digest_begin_keyed(&s, (struct bytes){secret, 32});
    digest_add(&s, BYTES_OF(m->node.b));
    digest_add(&s, BYTES_OF(m->transport.b));
    digest_add(&s, BYTES_OF(m->owner.b));
    digest_add(&s, BYTES_OF(m->owner_sig.b));
    digest_add(&s, BYTES_OF(role));
    digest_add(&s, BYTES_OF(m->invite));
    digest_end(&s, out);
    sodium_memzero(&s, sizeof(s));
}

enum status invite_check_mac(const struct msg_join *m, const uint8_t secret[32], struct err *e)
{
    struct digest want;

    invite_mac(&want, secret, m);
    if (sodium_memcmp(want.b, m->mac.b, sizeof(want.b)) != 0)
        return err_set(e, ERR_DENIED, "the joiner does not know the invite's secret");
    return OK;
}
