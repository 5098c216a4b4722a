/*
 * shardcast/cast_plan.c - which contents this node fetches, and which patches it applies
 */
#include "shardcast/cast_shell.h"

#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"

#include "shardcast/delta_plan.h"

#define LOG_MODULE "shardcast"
#include "base/log.h"

#define APPLY_PART 64u /* making a version from a patch counts as fetching such a part of it */

struct plan {
    struct cast_content_info info[CAST_CONTENTS_MAX];
    struct delta_offer offer[CAST_CONTENTS_MAX];
    size_t from[CAST_CONTENTS_MAX]; /* which info an offer is of */
    bool fetch[CAST_CONTENTS_MAX];
    bool fits[CAST_CONTENTS_MAX]; /* below the quota, with all that is newer or pinned */
    int64_t wanted[CAST_CONTENTS_MAX];
    size_t n, n_offers, n_wanted;
    bool has_patches;
};

static const struct cast_content_info *find_full(const struct plan *p, int64_t version)
{
    for (size_t i = 0; i < p->n; i++)
        if (p->info[i].content.kind == CONTENT_FULL && p->info[i].content.version == version)
            return &p->info[i];
    return NULL;
}

/* Whole on disk: those made from a patch may lack leaves, and are not complete to the machine. */
static bool is_on_disk(const struct cast *c, const struct content *content)
{
    struct content_info info;

    return !content_store_info(c->store, content, &info, NULL) && info.is_complete;
}

static bool is_refused(const struct cast *c, const struct content *patch)
{
    for (size_t i = 0; i < REFUSED_MAX && i < c->n_refused; i++)
        if (content_equal(&c->refused[i], patch))
            return true;
    return false;
}

/* The patch leads from the version that is called its base to the one that has its name, as far as
 * that is known: the manifest of a large version comes some time after its patch. */
static bool is_usable(const struct cast *c, const struct plan *p,
                      const struct cast_content_info *patch)
{
    const struct cast_content_info *base = find_full(p, patch->content.base);
    const struct cast_content_info *full = find_full(p, patch->content.version);

    return base && base->n_shards && patch->n_shards &&
           digest_equal(&base->weights, &patch->base_root) &&
           (!full || !full->n_shards || digest_equal(&full->weights, &patch->apply_root)) &&
           !is_refused(c, &patch->content);
}

static uint64_t missing_bytes(const struct cast_content_info *x)
{
    uint64_t here = (uint64_t)x->n_have * x->shard_bytes;

    return here < x->file_bytes ? x->file_bytes - here : 0;
}

static void add_offer(struct cast *c, struct plan *p, size_t i)
{
    const struct cast_content_info *x = &p->info[i];
    struct delta_offer *o = &p->offer[p->n_offers];

    *o = (struct delta_offer){.content = x->content, .cost = missing_bytes(x)};
    if (x->content.kind == CONTENT_FULL) {
        if (!x->n_shards)
            return;
        o->is_here = is_on_disk(c, &x->content);
        if (!p->fits[i] && !o->is_here)
            return;
    } else {
        if (x->content.kind != CONTENT_DELTA || !is_usable(c, p, x))
            return;
        o->cost += find_full(p, x->content.base)->file_bytes / APPLY_PART;
    }
    if (!p->n_wanted || p->wanted[p->n_wanted - 1] != x->content.version)
        p->wanted[p->n_wanted++] = x->content.version;
    p->from[p->n_offers++] = i;
}

/* What is older than the quota holds would only push out what is newer, and be fetched for nothing. */
static void look_what_fits(const struct cast *c, struct plan *p)
{
    uint64_t quota = content_store_quota(c->store), sum = 0;

    for (size_t i = 0; i < p->n; i++)
        sum += p->info[i].is_pinned ? p->info[i].file_bytes : 0;
    for (size_t i = p->n; i-- > 0;) {
        uint64_t bytes = p->info[i].is_pinned ? 0 : p->info[i].file_bytes;
        p->fits[i] = sum <= quota && bytes <= quota - sum;
        sum += p->fits[i] ? bytes : 0;
    }
}

static void look(struct cast *c, struct plan *p)
{
    p->n = cast_state_n_contents(c->state);
    for (size_t i = 0; i < p->n; i++) {
        p->info[i] = cast_state_content(c->state, i);
        p->has_patches |= p->info[i].content.kind == CONTENT_DELTA;
    }
    look_what_fits(c, p);
    for (size_t i = 0; i < p->n; i++)
        add_offer(c, p, i);
    delta_plan(p->fetch, p->offer, p->n_offers, p->wanted, p->n_wanted);
}

/* Of the first patch whose base is here and whose version is not. One at a time. */
static void apply_one(struct cast *c, const struct plan *p)
{
    for (size_t i = 0; i < p->n_offers && !c->applying; i++) {
        const struct cast_content_info *patch = &p->info[p->from[i]], *full;
        const struct content base = content_full(patch->content.base);

        if (patch->content.kind != CONTENT_DELTA || !patch->is_complete ||
            !is_on_disk(c, &base))
            continue;
        full = find_full(p, patch->content.version);
        if (!full || !full->n_shards || is_on_disk(c, &full->content))
            continue;
        const struct apply_order order = {patch->content, c->run, full->weights,
                                          full->file_bytes, full->shard_bytes};
        cast_apply_begin(c, &order);
    }
}

static bool is_fetched(const struct cast *c, const struct plan *p, size_t i)
{
    const struct cast_content_info *x = &p->info[i];

    if (x->content.kind == CONTENT_STATE)
        return c->opt.wants_state;
    /* Being written: whether a patch will do is known when it is whole. */
    if (x->content.kind == CONTENT_FULL && !x->n_shards)
        return !p->has_patches;
    for (size_t k = 0; k < p->n_offers; k++)
        if (p->from[k] == i)
            return p->fetch[k] || p->offer[k].is_here;
    return false;
}

void cast_plan(struct cast *c, int64_t now_ms)
{
    static const struct plan none;
    struct plan *p;

    c->is_plan_due = false;
    if (!c->has_run || c->is_origin)
        return;
    p = xmalloc(sizeof(*p));
    *p = none;
    look(c, p);
    for (size_t i = 0; i < p->n; i++)
        cast_state_want(c->state, &p->info[i].content, is_fetched(c, p, i), now_ms, &c->acts);
    apply_one(c, p);
    free(p);
}
