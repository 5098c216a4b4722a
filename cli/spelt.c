#include "cli/spelt.h"

#include <stdlib.h>

#include "base/alloc.h"

/* Whether some part of `text` is a special token if it is read so. */
static bool spells_special(const struct tokenizer *t, struct bytes text)
{
    const size_t cap = TOKENIZER_ROOM(text.len); /* and not all the room that the caller has */
    int32_t *ids = NULL;
    size_t n = 0;
    bool spells = false;

    /* One that cannot be read so does not want to be. */
    if (alloc_array(&ids, cap, sizeof(*ids), "ids", NULL) ||
        tokenizer_encode_trusted(t, text, ids, cap, &n, NULL))
        n = 0;
    for (size_t i = 0; !spells && i < n; i++)
        spells = tokenizer_is_special(t, ids[i]);
    free(ids);
    return spells;
}

enum status spelt_encode(struct spelt *s, const struct tokenizer *t, struct bytes text,
                         int32_t *ids, size_t cap, size_t *n, struct err *e)
{
    enum status st;

    if (s->reads_special)
        return tokenizer_encode_trusted(t, text, ids, cap, n, e);
    st = tokenizer_encode(t, text, ids, cap, n, e);
    if (!st && spells_special(t, text))
        s->n++;
    return st;
}
