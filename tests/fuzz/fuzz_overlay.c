/*
 * One machine of shardcast/overlay.h and what others may send it. The input is a row of frames:
 * who sends it (u8), on which link (u8), after how long (u8, tenths of a second), its length (u16
 * little-endian), the frame. Whatever they say, the machine goes on, and has neighbours of its
 * roster only, each once.
 */
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "base/check.h"
#include "shardcast/overlay.h"

#define NODES 24u

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static struct public_key key_of(uint8_t i)
{
    struct public_key k = {{(uint8_t)(i * 37)}};

    k.b[30] = 1;
    k.b[31] = i;
    return k;
}

static struct overlay_roster *make_roster(void)
{
    struct msg_roster *m = xcalloc(1, sizeof(*m));
    struct overlay_roster *r;

    m->n = NODES;
    for (uint8_t i = 0; i < NODES; i++) {
        struct roster_entry *e = &m->entry[i];
        e->transport = key_of(i);
        e->owner.b[0] = i / 2;
        e->role = i == 1 ? ROLE_RELAY : ROLE_INFERENCE;
        if (i % 3)
            snprintf(e->endpoint, sizeof(e->endpoint), "tcp://10.0.%u.1:1", i);
    }
    overlay_roster_new(&r, m);
    free(m);
    return r;
}

/* Every peer that is dialled has a link, and no more. */
static void carry_out(struct overlay *o, struct overlay_out *out, int64_t now_ms)
{
    for (size_t i = 0; i < out->n; i++) {
        const struct public_key key = out->v[i].key;
        if (out->v[i].kind == OVERLAY_DIAL)
            overlay_linked(o, &key, key.b[31], now_ms, out);
    }
    overlay_out_reset(out);
}

static void check(const struct overlay *o)
{
    for (size_t i = 0; i < overlay_n_neighbours(o); i++) {
        struct overlay_neighbour x = overlay_neighbour(o, i);
        CHECK(x.key.b[31] > 0 && x.key.b[31] < NODES);
        for (size_t k = 0; k < i; k++) {
            struct overlay_neighbour y = overlay_neighbour(o, k);
            CHECK(!key_equal(&x.key, &y.key));
        }
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const struct overlay_options opt = {.self = key_of(0), .salt = 7};
    struct overlay_roster *roster = make_roster();
    struct overlay_out out;
    struct overlay *o;
    struct digest run;
    int64_t now_ms = 0;

    memset(run.b, 3, sizeof(run.b));
    overlay_out_init(&out);
    overlay_new(&o, &opt);
    overlay_set_run(o, &run, 0);
    overlay_set_roster(o, roster, 0, &out);
    carry_out(o, &out, now_ms);
    while (size >= 5) {
        struct public_key from = key_of(data[0]);
        uint64_t link = data[1];
        size_t n = (size_t)data[3] | (size_t)data[4] << 8;

        now_ms += 100 * data[2];
        n = n < size - 5 ? n : size - 5;
        overlay_tick(o, now_ms, &out);
        carry_out(o, &out, now_ms);
        if (data[0]) /* nobody else has our own key */
            overlay_message(o, link, &from, (struct bytes){data + 5, n}, now_ms, &out);
        carry_out(o, &out, now_ms);
        check(o);
        data += 5 + n;
        size -= 5 + n;
    }
    overlay_out_clear(&out);
    overlay_free(&o);
    overlay_roster_free(&roster);
    return 0;
}
