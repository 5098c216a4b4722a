#include <inttypes.h>

#include "proto/digest.h"
#include "shardcast/cast_inside.h"

/* Names of versions and keys only: nothing in here came from a peer as text. */

static void put_versions(const struct cast_state *s, struct buf *out)
{
    for (size_t i = 0; i < s->n_versions; i++) {
        const struct version *v = s->version[i];
        char hex[DIGEST_HEX_BYTES];
        digest_to_hex(hex, &v->weights);
        buf_printf(out,
                   "%s{\"version\": %" PRId64 ", \"weights\": \"%s\", \"bytes\": %" PRIu64
                   ", \"shards\": %u, \"have\": %u, \"asked\": %u, \"complete\": %s, "
                   "\"pinned\": %s, \"equivocated\": %s}",
                   i ? ", " : "", v->number, hex, v->file_bytes, v->n_shards, v->n_have,
                   v->n_busy, v->is_complete ? "true" : "false",
                   v->is_pinned ? "true" : "false", v->is_equivocated ? "true" : "false");
    }
}

static void put_peers(const struct cast_state *s, int64_t now_ms, struct buf *out)
{
    bool is_first = true;

    for (uint32_t i = 0; i < s->n_peers; i++) {
        const struct peer *p = &s->peer[i];
        char hex[2 * KEY_BYTES + 1];
        if (!p->is_active)
            continue;
        hex_encode(hex, BYTES_OF(p->key.b));
        buf_printf(
            out,
            "%s{\"transport\": \"%s\", \"dialled\": %s, \"linked\": %s, \"trainer\": %s, "
            "\"banned\": %s, \"asked\": %u, \"answer_ms\": %d, \"silent_ms\": %" PRId64 "}",
            is_first ? "" : ", ", hex, p->dialled ? "true" : "false",
            p->is_heard ? "true" : "false", p->is_trainer ? "true" : "false",
            p->is_banned ? "true" : "false", p->n_asked, p->answer_ms,
            p->heard_ms ? now_ms - p->heard_ms : -1);
        is_first = false;
    }
}

void cast_state_json(const struct cast_state *s, int64_t now_ms, struct buf *out)
{
    const struct cast_counters *c = &s->counters;

    buf_printf(out, "{\"newest\": %" PRId64 ", \"oldest\": %" PRId64 ", \"known\": %" PRId64,
               cast_state_newest(s), cast_state_oldest(s), version_newest_known(s));
    buf_printf(out, ", \"versions\": [");
    put_versions(s, out);
    buf_printf(out, "], \"peers\": [");
    put_peers(s, now_ms, out);
    buf_printf(out,
               "], \"shards_in\": %" PRIu64 ", \"bytes_in\": %" PRIu64
               ", \"shards_out\": %" PRIu64 ", \"bytes_out\": %" PRIu64
               ", \"repeats\": %" PRIu64 ", \"timeouts\": %" PRIu64 ", \"garbage\": %" PRIu64
               ", \"refused_manifests\": %" PRIu64 ", \"malformed\": %" PRIu64 "}",
               c->shards_in, c->bytes_in, c->shards_out, c->bytes_out, c->repeats, c->timeouts,
               c->garbage, c->refused_manifests, c->malformed);
}
