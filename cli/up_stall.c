#include "cli/up_stall.h"

#include <stdio.h>
#include <string.h>

#include "cli/json_view.h"

/* Without a trainer there is no going on; of the others there may be more. */
static bool is_lost(const struct child *ch, int64_t now_ms)
{
    return children_is_stuck(ch, now_ms) || (ch->is_refused && !strcmp(ch->name, "trainer"));
}

static const struct child *find_stuck(const struct children *c, int64_t now_ms)
{
    for (size_t i = 0; i < c->n; i++)
        if (is_lost(&c->v[i], now_ms))
            return &c->v[i];
    return NULL;
}

/* Of those that were refused, the last. */
static const struct child *find_refused(const struct children *c)
{
    const struct child *last = NULL;

    for (size_t i = 0; i < c->n; i++)
        if (c->v[i].is_refused && (!last || c->v[i].restart_at_ms > last->restart_at_ms))
            last = &c->v[i];
    return last;
}

const char *up_stuck_note(const struct children *c, int64_t now_ms, char *text, size_t size)
{
    const struct child *ch = find_stuck(c, now_ms);
    bool is_refused = !ch || ch->is_refused;

    if (is_refused)
        ch = find_refused(c);
    if (!ch)
        return NULL;
    snprintf(text, size, "%s %s: %s", ch->name,
             is_refused ? "is not started again" : "ends again and again", ch->why);
    return text;
}

void up_stall_init(struct up_stall *s, int64_t now_ms)
{
    *s = (struct up_stall){-1, now_ms};
}

/* It alone is at work while it warms up (there is no version yet, or one less than there are
 * batches), and that may take long. */
static bool is_trainer_at_work(const struct children *c, const json_t *status, int64_t now_ms)
{
    for (size_t i = 0; i < c->n; i++)
        if (!strcmp(c->v[i].name, "trainer") &&
            (!c->v[i].pid || children_is_stuck(&c->v[i], now_ms)))
            return false;
    return status && json_view_int(status, "version") < json_view_int(status, "batches");
}

/* Who was barred does not come back. */
static bool is_everyone_barred(const json_t *status, const char *role)
{
    const json_t *nodes = json_object_get(status, "nodes");
    size_t n = 0, n_barred = 0;

    for (size_t i = 0; i < json_array_size(nodes); i++) {
        const json_t *node = json_array_get(nodes, i);

        if (strcmp(json_view_text(node, "role"), role) != 0)
            continue;
        n++;
        n_barred += json_is_true(json_object_get(node, "barred"));
    }
    return n > 0 && n == n_barred;
}

enum status up_stall_check(struct up_stall *s, struct children *c, const json_t *status,
                           int64_t now_ms, struct err *e)
{
    int64_t progress =
        status ? json_view_int(status, "version") + json_view_int(status, "accepted") : -1;
    const struct child *ch;

    if (progress != s->progress)
        children_progress(c);
    ch = find_stuck(c, now_ms);
    if (progress != s->progress || is_trainer_at_work(c, status, now_ms))
        s->progress_ms = now_ms;
    s->progress = progress;
    if (now_ms - s->progress_ms < UP_STALL_MS)
        return OK;
    if (is_everyone_barred(status, "verifier"))
        return err_set(
            e, ERR_DENIED,
            "every validator was barred, and nothing got further for %d s: nobody is "
            "left to check (--validators, --cheat-verifier)",
            UP_STALL_MS / 1000);
    if (is_everyone_barred(status, "inference"))
        return err_set(
            e, ERR_DENIED,
            "every worker was barred, and nothing got further for %d s: no honest one "
            "is left to generate (--inference, --cheats)",
            UP_STALL_MS / 1000);
    if (!ch)
        return OK;
    return err_set(e, ERR_IO, "%s cannot live, and nothing got further for %d s: %s", ch->name,
                   UP_STALL_MS / 1000, ch->why);
}
