#include "ledger/account.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "base/check.h"
#include "proto/digest.h"

#define OWNER_BYTES 15u

#define KIND_TEXT(name, text) [ACCOUNT_##name] = (text),
static const char *const kind_text[ACCOUNT_KIND_COUNT] = {ACCOUNT_KIND_MAP(KIND_TEXT)};
#undef KIND_TEXT

static bool is_pool(enum account_kind kind)
{
    return kind == ACCOUNT_EXTERNAL || kind == ACCOUNT_JACKPOT || kind == ACCOUNT_BURN;
}

static struct account account_of(enum account_kind kind, const uint8_t *owner)
{
    struct account a = {{0}};

    a.b[0] = (uint8_t)kind;
    if (owner)
        memcpy(a.b + 1, owner, OWNER_BYTES);
    return a;
}

struct account account_of_key(enum account_kind kind, const struct public_key *key)
{
    CHECK(kind == ACCOUNT_AVAIL || kind == ACCOUNT_STAKE || kind == ACCOUNT_PENDING ||
          kind == ACCOUNT_BOND);
    return account_of(kind, key->b);
}

struct account account_of_task(enum account_kind kind, const struct digest *task)
{
    CHECK(kind == ACCOUNT_ESCROW || kind == ACCOUNT_RESERVED);
    return account_of(kind, task->b);
}

struct account account_of_pool(enum account_kind kind)
{
    CHECK(is_pool(kind));
    return account_of(kind, NULL);
}

enum account_kind account_kind(const struct account *a)
{
    return a->b[0] < ACCOUNT_KIND_COUNT ? (enum account_kind)a->b[0] : ACCOUNT_NONE;
}

bool account_equal(const struct account *a, const struct account *b)
{
    return !memcmp(a->b, b->b, sizeof(a->b));
}

void account_text(char out[ACCOUNT_TEXT_BYTES], const struct account *a)
{
    enum account_kind kind = account_kind(a);
    char hex[2 * OWNER_BYTES + 1];

    if (kind == ACCOUNT_NONE) {
        snprintf(out, ACCOUNT_TEXT_BYTES, "unknown");
        return;
    }
    hex_encode(hex, (struct bytes){a->b + 1, OWNER_BYTES});
    if (is_pool(kind))
        snprintf(out, ACCOUNT_TEXT_BYTES, "%s", kind_text[kind]);
    else
        snprintf(out, ACCOUNT_TEXT_BYTES, "%s:%s", kind_text[kind], hex);
}

enum status account_parse(struct account *out, const char *text, struct err *e)
{
    const char *colon = strchr(text, ':');
    size_t word = colon ? (size_t)(colon - text) : strlen(text);
    uint8_t whole[KEY_BYTES];

    memset(out, 0, sizeof(*out));
    for (int k = ACCOUNT_NONE + 1; k < ACCOUNT_KIND_COUNT; k++) {
        if (strlen(kind_text[k]) != word || strncmp(kind_text[k], text, word) != 0)
            continue;
        if (is_pool((enum account_kind)k) != !colon)
            break;
        out->b[0] = (uint8_t)k;
        if (!colon)
            return OK;
        if (hex_decode(out->b + 1, OWNER_BYTES, colon + 1, NULL) == OK)
            return OK;
        if (hex_decode(whole, sizeof(whole), colon + 1, NULL) == OK) {
            memcpy(out->b + 1, whole, OWNER_BYTES);
            return OK;
        }
        break;
    }
    return err_set(e, ERR_MALFORMED,
                   "'%s' is not an account: want avail:, stake:, pending:, bond:, escrow: or "
                   "reserved: and 30 hex digits or a whole key, or external, jackpot, burn",
                   text);
}

void account_table_init(struct account_table *t)
{
    *t = (struct account_table){NULL, 0, 0};
}

void account_table_clear(struct account_table *t)
{
    free(t->v);
    account_table_init(t);
}

/* The index of the first row that is not less than `a`. */
static size_t lower_bound(const struct account_table *t, const struct account *a)
{
    size_t lo = 0, hi = t->n;

    while (lo < hi) {
        size_t mid = lo + (hi - lo) / 2;
        if (memcmp(t->v[mid].account.b, a->b, sizeof(a->b)) < 0)
            lo = mid + 1;
        else
            hi = mid;
    }
    return lo;
}

int64_t account_balance(const struct account_table *t, const struct account *a)
{
    size_t i = lower_bound(t, a);

    return i < t->n && account_equal(&t->v[i].account, a) ? t->v[i].balance : 0;
}

void account_add(struct account_table *t, const struct account *a, int64_t delta)
{
    size_t i = lower_bound(t, a);

    if (i == t->n || !account_equal(&t->v[i].account, a)) {
        if (t->n == t->cap) {
            t->cap = t->cap ? 2 * t->cap : 16;
            t->v = xrealloc(t->v, t->cap * sizeof(*t->v));
        }
        memmove(t->v + i + 1, t->v + i, (t->n - i) * sizeof(*t->v));
        t->v[i] = (struct account_row){*a, 0};
        t->n++;
    }
    t->v[i].balance += delta;
}

void account_table_root(struct digest *out, const struct account_table *t)
{
    struct digest_state h;

    digest_begin(&h, "muster/1/balances");
    for (size_t i = 0; i < t->n; i++) {
        digest_add(&h, BYTES_OF(t->v[i].account));
        digest_add_u64(&h, (uint64_t)t->v[i].balance);
    }
    digest_end(&h, out);
}
