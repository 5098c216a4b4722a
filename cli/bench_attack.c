#include "cli/bench_attack.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/file.h"
#include "shardcast/cast_proof.h"
#include "shardcast/cast_state.h"

#define DEFAULT_SHARE 0.2
#define SETTLED_MS    1000
#define LOG_MAX       ((size_t)64 << 20)

static const struct bench_attack kinds[] = {
    {.course = BENCH_ATTACK_SHARE, .name = "garbage", .is_named = true},
    {.course = BENCH_ATTACK_SHARE, .name = "forge", .is_named = true},
    {.course = BENCH_ATTACK_SHARE, .name = "stale", .is_named = true},
    {.course = BENCH_ATTACK_SHARE, .name = "empty", .is_named = true},
    {.course = BENCH_ATTACK_SHARE, .name = "silent"},
    {.course = BENCH_ATTACK_SHARE, .name = "slow", .is_slow = true},
    {.course = BENCH_ATTACK_EQUIVOCATE, .name = "equivocate"},
    {.course = BENCH_ATTACK_FREEZE, .name = "freeze"},
};

/* ---- who --------------------------------------------------------------------------------- */

enum status bench_attack_parse(struct bench_attack *a, const char *text, struct err *e)
{
    size_t len = strcspn(text, ":");
    char *end = NULL;

    *a = (struct bench_attack){0};
    if (!text[0])
        return OK;
    for (size_t i = 0; i < sizeof(kinds) / sizeof(kinds[0]); i++)
        if (strlen(kinds[i].name) == len && !strncmp(kinds[i].name, text, len))
            *a = kinds[i];
    if (!a->name)
        return err_set(e, ERR_INVALID,
                       "'%s' is no attack: garbage, forge, stale, empty, silent, slow, "
                       "equivocate or freeze",
                       text);
    a->share = DEFAULT_SHARE;
    if (!text[len])
        return OK;
    if (a->course != BENCH_ATTACK_SHARE)
        return err_set(e, ERR_INVALID, "'%s': %s takes no share", text, a->name);
    a->share = strtod(text + len + 1, &end);
    if (end == text + len + 1 || *end || !(a->share > 0.0 && a->share <= 0.9))
        return err_set(e, ERR_INVALID,
                       "'%s': a share is that of the receivers who do it, above 0 and up to "
                       "0.9",
                       text);
    return OK;
}

size_t bench_attack_n_bad(const struct bench_attack *a, size_t n_nodes)
{
    switch (a->course) {
    case BENCH_ATTACK_NONE: return 0;
    case BENCH_ATTACK_SHARE: return (size_t)(a->share * (double)(n_nodes - 1));
    case BENCH_ATTACK_EQUIVOCATE: return 1;
    case BENCH_ATTACK_FREEZE: return n_nodes - 1;
    }
    return 0;
}

bool bench_attack_is_bad(const struct bench_attack *a, size_t n_nodes, size_t i)
{
    switch (a->course) {
    case BENCH_ATTACK_NONE: return false;
    case BENCH_ATTACK_SHARE: return i > 0 && i >= n_nodes - bench_attack_n_bad(a, n_nodes);
    case BENCH_ATTACK_EQUIVOCATE: return i == 0;
    case BENCH_ATTACK_FREEZE: return i != BENCH_ATTACK_VICTIM;
    }
    return false;
}

static bool has_heard(const struct bench_node *x)
{
    return x->turned_us != 0;
}

static enum status tell(const struct bench_attack *a, struct bench_nodes *b, const char *line,
                        struct err *e)
{
    for (size_t i = 0; i < b->n; i++) {
        bool is_told = bench_attack_is_bad(a, b->n, i);
        b->v[i].turned_us = is_told ? 0 : 1;
        if (is_told)
            bench_nodes_tell(b, i, line);
    }
    return bench_nodes_await(b, 0, has_heard, 30, "told what to do", e);
}

/* A HEAD that some have and the victim has not would be news to it, whenever it is let through. */
static enum status let_heads_arrive(struct bench_nodes *b, struct err *e)
{
    int64_t end_ms = clock_mono_ms() + SETTLED_MS;
    enum status st = OK;

    while (!st && clock_mono_ms() < end_ms)
        st = bench_nodes_listen(b, 20, e);
    return st;
}

enum status bench_attack_begin(const struct bench_attack *a, struct bench_nodes *b,
                               struct err *e)
{
    char line[64];
    enum status st = OK;

    if (!a->name || a->is_slow)
        return OK;
    snprintf(line, sizeof(line), "cheat %s %u\n", a->name, BENCH_ATTACK_VICTIM);
    if (a->course == BENCH_ATTACK_FREEZE)
        st = let_heads_arrive(b, e);
    return st ? st : tell(a, b, line, e);
}

/* ---- whom logs name ---------------------------------------------------------------------- */

/* Why a log names that key last; NULL: it does not. */
static const char *named_in(const char *log, const char *key, char why[64])
{
    static const char *const events[] = {"banned peer=", "refused peer="};
    char line[64];

    for (size_t k = 0; k < 2; k++) {
        snprintf(line, sizeof(line), "%s%s", events[k], key);
        const char *at = strstr(log, line);
        const char *quote = at ? strstr(at, "why=\"") : NULL;
        if (!quote)
            continue;
        snprintf(why, 64, "%.*s, \"%.*s\"", (int)strcspn(events[k], " "), events[k],
                 (int)strcspn(quote + 5, "\""), quote + 5);
        return why;
    }
    return NULL;
}

static void read_log(const struct bench_nodes *b, size_t i, struct buf *log)
{
    char name[48], *path;

    snprintf(name, sizeof(name), "%zu/log", i);
    path = file_join(b->dir, name);
    buf_reset(log);
    if (file_read(log, path, NULL))
        buf_reset(log);
    free(path);
}

void bench_attack_named(const struct bench_attack *a, const struct bench_nodes *b,
                        struct bench_attack_named *out)
{
    bool is_named[BENCH_NODES_MAX] = {false};
    struct buf log;
    char why[64];

    *out = (struct bench_attack_named){0};
    buf_init(&log, LOG_MAX);
    for (size_t by = 0; by < b->n; by++) {
        if (bench_attack_is_bad(a, b->n, by))
            continue;
        read_log(b, by, &log);
        for (size_t i = 0; i < b->n; i++) {
            if (!named_in(buf_cstr(&log), b->v[i].key, why))
                continue;
            is_named[i] = true;
            fprintf(stderr, "       the log of node %zu names node %zu: %s\n", by, i, why);
        }
    }
    buf_clear(&log);
    for (size_t i = 0; i < b->n; i++)
        if (bench_attack_is_bad(a, b->n, i))
            out->liars += is_named[i];
        else
            out->others += is_named[i];
}

/* ---- equivocation ------------------------------------------------------------------------ */

static bool has_stopped(const struct bench_node *x)
{
    return x->stopped_us != 0;
}

static bool is_ready(const struct bench_node *x)
{
    return x->is_ready;
}

/* What node i filed convinces whoever reads it that the trainer equivocated about version 1. */
static bool has_proof(const struct bench_nodes *b, size_t i)
{
    char name[80], *path;
    struct cast_proof_result result;
    struct cast_proof proof;
    struct file_map file;
    bool is;

    snprintf(name, sizeof(name), "%zu/evidence/equivocation-1-%d--1.proof", i, CONTENT_FULL);
    path = file_join(b->dir, name);
    is = !file_map_open(&file, path, NULL);
    if (is) {
        is = !cast_proof_decode(&proof, file.bytes, NULL) &&
             !cast_proof_judge(&proof, &result, NULL) && result.about.version == 1;
        file_map_close(&file);
    }
    free(path);
    return is;
}

enum status bench_attack_equivocate(struct bench_nodes *b, double bytes,
                                    bench_attack_restart *restart, void *arg,
                                    struct bench_attack_result *r, struct err *e)
{
    char line[64];
    enum status st;

    bench_nodes_watch(b, 1);
    snprintf(line, sizeof(line), "publish 1 %.0f\n", bytes);
    bench_nodes_tell(b, 0, line);
    st = bench_nodes_await(b, 0, has_stopped, 60, "stopped by the proof", e);
    if (st)
        return st;
    for (size_t i = 0; i < b->n; i++) {
        r->n_stopped++;
        r->n_proofs += has_proof(b, i);
        r->stopped_s =
            fmax(r->stopped_s, 1e-6 * (double)(b->v[i].stopped_us - b->v[0].begun_us));
    }
    for (size_t i = 0; i < b->n; i++)
        bench_nodes_kill(b, i);
    b->v[1].stopped_us = 0;
    st = restart(arg, 1, e);
    if (!st)
        st = bench_nodes_await(b, 1, is_ready, 30, "ready again", e);
    if (!st)
        st = bench_nodes_await(b, 1, has_stopped, 30, "aware that the trainer equivocated", e);
    r->restarted = st ? 0.0 : 1.0;
    return st;
}

/* ---- freeze ------------------------------------------------------------------------------ */

static bool is_frozen(const struct bench_node *x)
{
    return x->frozen_us != 0;
}

static bool is_complete(const struct bench_node *x)
{
    return x->complete_us != 0;
}

/* What `muster shardcast status` shows of the victim. */
static bool says_frozen(const struct bench_nodes *b)
{
    char name[48], *path;
    struct buf text;
    bool is;

    snprintf(name, sizeof(name), "%u/shardcast.json", BENCH_ATTACK_VICTIM);
    path = file_join(b->dir, name);
    buf_init(&text, (size_t)1 << 20);
    is = !file_read(&text, path, NULL) && strstr(buf_cstr(&text), "\"fresh\": false");
    buf_clear(&text);
    free(path);
    return is;
}

static enum status await_status(struct bench_nodes *b, struct err *e)
{
    int64_t end_ms = clock_mono_ms() + 5000;
    enum status st = OK;

    while (!st && !says_frozen(b) && clock_mono_ms() < end_ms)
        st = bench_nodes_listen(b, 20, e);
    return st || says_frozen(b)
               ? st
               : err_set(e, ERR_TIMEOUT, "the victim's status does not say that it is frozen");
}

/* Of a link that leads only to liars: since when nothing that is signed came by it. */
static int64_t begun_us(const struct bench_nodes *b)
{
    int64_t us = 0;

    for (size_t i = 0; i < b->n; i++)
        if (i != BENCH_ATTACK_VICTIM && b->v[i].turned_us > us)
            us = b->v[i].turned_us;
    return us;
}

enum status bench_attack_freeze(struct bench_nodes *b, double bytes, double limit_s,
                                struct bench_attack_result *r, struct err *e)
{
    const struct bench_attack a = {.course = BENCH_ATTACK_FREEZE, .name = "freeze"};
    struct bench_node *victim = &b->v[BENCH_ATTACK_VICTIM];
    int64_t from_us = begun_us(b);
    char line[64];
    enum status st;

    bench_nodes_watch(b, 1);
    victim->frozen_us = 0;
    snprintf(line, sizeof(line), "publish 1 %.0f\n", bytes);
    bench_nodes_tell(b, 0, line);
    st = bench_nodes_await(b, BENCH_ATTACK_VICTIM + 1, is_complete, limit_s, "whole", e);
    while (!st && !is_frozen(victim) && clock_mono_us() < from_us + 60000000)
        st = bench_nodes_listen(b, 20, e);
    if (!st && !is_frozen(victim))
        st = err_set(e, ERR_TIMEOUT, "the victim did not notice within a minute");
    if (!st && victim->known_us)
        st = err_set(e, ERR_INVALID, "version 1 got to the victim: nobody was frozen");
    if (!st)
        st = await_status(b, e);
    if (st)
        return st;
    r->noticed_s = 1e-6 * (double)(victim->frozen_us - from_us);
    st = tell(&a, b, "cheat none 0\n", e);
    from_us = begun_us(b);
    if (!st)
        st = bench_nodes_await(b, 1, is_complete, limit_s, "whole after the freeze", e);
    r->fresh_again_s = 1e-6 * (double)(victim->complete_us - from_us);
    return st;
}
