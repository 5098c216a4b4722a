#include "proto/types.h"

#include <string.h>

static bool all_zero(const uint8_t *b, size_t n)
{
    uint8_t any = 0;

    for (size_t i = 0; i < n; i++)
        any |= b[i];
    return any == 0;
}

bool digest_equal(const struct digest *a, const struct digest *b)
{
    return memcmp(a->b, b->b, sizeof(a->b)) == 0;
}

bool digest_is_zero(const struct digest *a)
{
    return all_zero(a->b, sizeof(a->b));
}

bool key_equal(const struct public_key *a, const struct public_key *b)
{
    return memcmp(a->b, b->b, sizeof(a->b)) == 0;
}

bool key_is_zero(const struct public_key *a)
{
    return all_zero(a->b, sizeof(a->b));
}

bool idem_equal(const struct idem *a, const struct idem *b)
{
    return memcmp(a->b, b->b, sizeof(a->b)) == 0;
}

bool content_equal(const struct content *a, const struct content *b)
{
    return a->version == b->version && a->kind == b->kind && a->base == b->base;
}

static const char *const role_names[ROLE_COUNT] = {
    [ROLE_NONE] = "none",           [ROLE_ORCHESTRATOR] = "orchestrator",
    [ROLE_TRAINER] = "trainer",     [ROLE_INFERENCE] = "inference",
    [ROLE_VERIFIER] = "verifier",   [ROLE_RELAY] = "relay",
    [ROLE_INITIATOR] = "initiator",
};

const char *role_name(enum role r)
{
    return (unsigned)r < ROLE_COUNT ? role_names[r] : "unknown";
}

enum role role_parse(const char *name)
{
    for (int r = ROLE_NONE + 1; r < ROLE_COUNT; r++) {
        if (strcmp(name, role_names[r]) == 0)
            return (enum role)r;
    }
    return ROLE_NONE;
}

struct reason_row {
    const char *name;
    const char *text;
    bool is_hard;
};

#define REASON_ROW(name, is_hard, text) {#name, text, is_hard},
static const struct reason_row reasons[REASON_COUNT] = {REASON_MAP(REASON_ROW)};
#undef REASON_ROW

const char *reason_text(enum reason r)
{
    return (unsigned)r < REASON_COUNT ? reasons[r].text : "unknown reason";
}

const char *reason_name(enum reason r)
{
    return (unsigned)r < REASON_COUNT ? reasons[r].name : "UNKNOWN";
}

bool reason_is_hard(enum reason r)
{
    return (unsigned)r < REASON_COUNT && reasons[r].is_hard;
}

bool reason_is_opinion(enum reason r)
{
    return r == REASON_MARGIN || r == REASON_LIKELIHOOD || r == REASON_STATES;
}
