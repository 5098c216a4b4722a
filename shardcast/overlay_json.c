#include <inttypes.h>

#include "proto/digest.h"
#include "shardcast/overlay_inside.h"

static const char *stage_name(enum stage s)
{
    switch (s) {
    case STAGE_DIALLING:
    case STAGE_ASKED: return "dialling";
    case STAGE_LEAVING: return "leaving";
    case STAGE_SUSPECT: return "suspect";
    default: return "up";
    }
}

void overlay_json(const struct overlay *o, int64_t now_ms, struct buf *out)
{
    const struct overlay_counters *c = &o->counters;

    buf_printf(out, "{\"roster\": %u, \"candidates\": %u, \"links\": [",
               o->roster ? o->roster->n : 0, o->n_candidates);
    for (uint32_t i = 0; i < o->n_active; i++) {
        const struct active *a = &o->active[i];
        char hex[2 * KEY_BYTES + 1];
        hex_encode(hex, BYTES_OF(a->key.b));
        buf_printf(out,
                   "%s{\"transport\": \"%s\", \"state\": \"%s\", \"chosen\": %s, \"seed\": %s, "
                   "\"assigned\": %s, \"age_ms\": %" PRId64 ", \"silent_ms\": %" PRId64 "}",
                   i ? ", " : "", hex, stage_name(a->stage), a->is_chosen ? "true" : "false",
                   roster_is_seed(a->role) ? "true" : "false",
                   a->is_assigned ? "true" : "false", a->met_ms ? now_ms - a->met_ms : -1,
                   a->met_ms ? now_ms - a->heard_ms : -1);
    }
    buf_printf(out,
               "], \"dialled\": %" PRIu64 ", \"failed\": %" PRIu64 ", \"lost\": %" PRIu64
               ", \"malformed\": %" PRIu64 "}",
               c->dialled, c->failed, c->lost, c->malformed);
}
