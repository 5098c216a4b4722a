#include "proto/merkle.h"

#include "base/check.h"
#include "proto/digest.h"

static const uint8_t leaf_prefix[1] = {0x00};
static const uint8_t node_prefix[1] = {0x01};

void merkle_leaf(struct digest *out, struct bytes leaf)
{
    struct digest_state s;

    digest_begin(&s, NULL);
    digest_add(&s, BYTES_OF(leaf_prefix));
    digest_add(&s, leaf);
    digest_end(&s, out);
}

void merkle_node(struct digest *out, const struct digest *left, const struct digest *right)
{
    struct digest_state s;

    digest_begin(&s, NULL);
    digest_add(&s, BYTES_OF(node_prefix));
    digest_add(&s, BYTES_OF(left->b));
    digest_add(&s, BYTES_OF(right->b));
    digest_end(&s, out);
}

void merkle_init(struct merkle *m)
{
    m->n = 0;
}

static unsigned count_ones(uint64_t n)
{
    unsigned ones = 0;

    for (; n; n &= n - 1)
        ones++;
    return ones;
}

/* The stack holds the roots of the perfect trees that n consists of, largest first: one for each
 * bit of n. A new leaf merges with them like a carry in an addition. */
void merkle_add_hash(struct merkle *m, const struct digest *leaf_hash)
{
    unsigned top = count_ones(m->n);
    struct digest h = *leaf_hash;

    for (uint64_t n = m->n; n & 1; n >>= 1) {
        top--;
        merkle_node(&h, &m->stack[top], &h);
    }
    CHECK(top < MERKLE_PATH_MAX);
    m->stack[top] = h;
    m->n++;
}

void merkle_add(struct merkle *m, struct bytes leaf)
{
    struct digest h;

    merkle_leaf(&h, leaf);
    merkle_add_hash(m, &h);
}

void merkle_root(const struct merkle *m, struct digest *root)
{
    unsigned top = count_ones(m->n);

    if (m->n == 0) {
        digest_of(root, (struct bytes){NULL, 0});
        return;
    }
    *root = m->stack[--top];
    while (top > 0)
        merkle_node(root, &m->stack[--top], root);
}

void merkle_root_of_digests(struct digest *root, struct bytes digests)
{
    struct merkle m;

    CHECK(digests.len % DIGEST_BYTES == 0);
    merkle_init(&m);
    for (size_t at = 0; at < digests.len; at += DIGEST_BYTES)
        merkle_add(&m, bytes_slice(digests, at, DIGEST_BYTES));
    merkle_root(&m, root);
}

/* The largest power of two below n, n >= 2. */
static uint64_t split(uint64_t n)
{
    uint64_t k = 1;

    while (k < n - k)
        k *= 2;
    return k;
}

static void tree_root(struct digest *root, const struct digest *leaf, uint64_t n)
{
    struct merkle m;

    merkle_init(&m);
    for (uint64_t i = 0; i < n; i++)
        merkle_add_hash(&m, &leaf[i]);
    merkle_root(&m, root);
}

void merkle_path(struct digest path[MERKLE_PATH_MAX], size_t *n_path, const struct digest *leaf,
                 uint64_t n, uint64_t index)
{
    size_t depth = 0;

    CHECK(index < n);
    /* Down from the root, so the farthest sibling comes first ... */
    while (n > 1) {
        uint64_t k = split(n);

        CHECK(depth < MERKLE_PATH_MAX);
        if (index < k) {
            tree_root(&path[depth++], leaf + k, n - k);
            n = k;
        } else {
            tree_root(&path[depth++], leaf, k);
            leaf += k;
            index -= k;
            n -= k;
        }
    }
    /* ... and is then put last. */
    for (size_t i = 0; i < depth / 2; i++) {
        struct digest t = path[i];
        path[i] = path[depth - 1 - i];
        path[depth - 1 - i] = t;
    }
    *n_path = depth;
}

/* RFC 9162, section 2.1.3.2. */
enum status merkle_verify(const struct digest *root, const struct digest *leaf_hash,
                          uint64_t index, uint64_t n, const struct digest *path, size_t n_path,
                          struct err *e)
{
    struct digest h = *leaf_hash;
    uint64_t node = index;
    uint64_t last;

    if (index >= n)
        return err_set(e, ERR_DIGEST, "leaf %llu of a tree of %llu", (unsigned long long)index,
                       (unsigned long long)n);
    last = n - 1;
    for (size_t i = 0; i < n_path; i++) {
        if (last == 0)
            return err_set(e, ERR_DIGEST, "merkle path is too long");
        if ((node & 1) || node == last) {
            merkle_node(&h, &path[i], &h);
            while (!(node & 1) && node != 0) {
                node >>= 1;
                last >>= 1;
            }
        } else {
            merkle_node(&h, &h, &path[i]);
        }
        node >>= 1;
        last >>= 1;
    }
    if (last != 0 || !digest_equal(&h, root))
        return err_set(e, ERR_DIGEST, "merkle path does not lead to the root");
    return OK;
}
