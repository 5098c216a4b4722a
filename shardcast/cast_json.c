#include <inttypes.h>

#include "proto/digest.h"
#include "shardcast/cast_inside.h"

/* Numbers and keys only: nothing in here came from a peer as text. */

static const char *text_of(bool is)
{
    return is ? "true" : "false";
}

static const char *kind_name(uint32_t kind)
{
    return kind == CONTENT_FULL ? "full" : kind == CONTENT_DELTA ? "delta" : "state";
}

/* Why it does not get on; "" when it does. */
static const char *why_waiting(const struct cast_state *s, const struct holding *h)
{
    uint32_t n_offers = 0;

    if (s->is_stopped)
        return "the trainer equivocates";
    if (h->is_complete || h->is_own)
        return "";
    if (h->is_void)
        return "the root is not that of the leaves";
    if (!h->is_wanted)
        return "not wanted";
    if (!s->linked_mask)
        return "no neighbours";
    if (h->n_segments == 0)
        return "no leaves are known yet";
    if (h->n_asked)
        return "";
    for (uint64_t all = s->linked_mask; h->pick && all;)
        n_offers += h->pick->offers[mask_take(&all)];
    return n_offers ? "neighbours serve others" : "no neighbour has what is missing";
}

static void put_contents(const struct cast_state *s, struct buf *out)
{
    for (size_t i = 0; i < s->n_holdings; i++) {
        const struct holding *h = s->holding[i];
        char hex[DIGEST_HEX_BYTES];
        digest_to_hex(hex, &h->weights);
        buf_printf(out,
                   "%s{\"version\": %" PRId64 ", \"kind\": \"%s\", \"base\": %" PRId64
                   ", \"weights\": \"%s\", \"bytes\": %" PRIu64
                   ", \"shards\": %u, \"shard_bytes\": %u, \"leaves\": %u, \"have\": %u, "
                   "\"asked\": %u, \"complete\": %s, \"pinned\": %s, \"waits\": \"%s\"}",
                   i ? ", " : "", h->content.version, kind_name(h->content.kind),
                   h->content.base, hex, h->file_bytes, h->n_shards, h->shard_bytes,
                   h->n_leaves, h->n_have, h->n_asked, text_of(h->is_complete),
                   text_of(h->is_pinned), why_waiting(s, h));
    }
}

static void put_peers(const struct cast_state *s, int64_t now_ms, struct buf *out)
{
    bool is_first = true;

    for (uint32_t i = 0; i < s->n_peers; i++) {
        const struct peer *p = s->peer[i];
        char hex[2 * KEY_BYTES + 1];
        if (!p->is_active)
            continue;
        hex_encode(hex, BYTES_OF(p->key.b));
        buf_printf(
            out,
            "%s{\"transport\": \"%s\", \"linked\": %s, \"trainer\": %s, "
            "\"banned\": %s, \"choking\": %s, \"choked\": %s, \"asked\": %u, \"wanted\": %u, "
            "\"bytes_s\": %" PRIu64 ", \"rtt_ms\": %d, \"silent_ms\": %" PRId64 "}",
            is_first ? "" : ", ", hex, text_of(p->is_heard), text_of(p->is_trainer),
            text_of(p->is_banned), text_of(p->is_choking), text_of(p->is_choked), p->n_asks,
            p->n_wants + p->n_serving, pull_rate(s, p), p->rtt_ms,
            p->heard_ms ? now_ms - p->heard_ms : -1);
        is_first = false;
    }
}

void cast_state_json(const struct cast_state *s, int64_t now_ms, struct buf *out)
{
    const struct cast_counters *c = &s->counters;

    buf_printf(out, "{\"newest\": %" PRId64 ", \"oldest\": %" PRId64 ", \"known\": %" PRId64,
               cast_state_newest(s), cast_state_oldest(s), holding_newest_known(s));
    buf_printf(out, ", \"fresh\": %s, \"head_ms\": %" PRId64 ", \"stopped\": %s",
               text_of(cast_state_is_fresh(s, now_ms)), s->head ? now_ms - s->head_ms : -1,
               text_of(s->is_stopped));
    buf_printf(out, ", \"versions\": [");
    put_contents(s, out);
    buf_printf(out, "], \"peers\": [");
    put_peers(s, now_ms, out);
    buf_printf(out,
               "], \"shards_in\": %" PRIu64 ", \"bytes_in\": %" PRIu64
               ", \"shards_out\": %" PRIu64 ", \"bytes_out\": %" PRIu64
               ", \"repeats\": %" PRIu64 ", \"timeouts\": %" PRIu64 ", \"garbage\": %" PRIu64
               ", \"lies\": %" PRIu64 ", \"refused\": %" PRIu64 ", \"malformed\": %" PRIu64
               ", \"cancelled\": %" PRIu64 "}",
               c->shards_in, c->bytes_in, c->shards_out, c->bytes_out, c->repeats, c->timeouts,
               c->garbage, c->lies, c->refused, c->malformed, c->cancelled);
}
