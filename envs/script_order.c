/*
 * Iteration and sorting in a defined order.
 */
#include "envs/script_lib.h"

#include <string.h>

/* Whether the value at stack index a comes before the one at b. */
typedef bool order_fn(lua_State *L, int a, int b);

/* Keys: numbers by value, then strings by bytes. */
static bool key_is_less(lua_State *L, int a, int b)
{
    bool a_is_number = lua_type(L, a) == LUA_TNUMBER;
    bool b_is_number = lua_type(L, b) == LUA_TNUMBER;
    size_t a_len, b_len;
    const char *s, *t;
    int c;

    if (a_is_number != b_is_number)
        return a_is_number;
    if (a_is_number)
        return lua_compare(L, a, b, LUA_OPLT);
    s = lua_tolstring(L, a, &a_len);
    t = lua_tolstring(L, b, &b_len);
    c = memcmp(s, t, a_len < b_len ? a_len : b_len);
    return c ? c < 0 : a_len < b_len;
}

static bool value_is_less(lua_State *L, int a, int b)
{
    return lua_compare(L, a, b, LUA_OPLT);
}

/* The comparison function is at index 2. */
static bool called_is_less(lua_State *L, int a, int b)
{
    bool is_less;

    lua_pushvalue(L, 2);
    lua_pushvalue(L, a - 1); /* both are given from the top, which has moved */
    lua_pushvalue(L, b - 2);
    lua_call(L, 2, 1);
    is_less = lua_toboolean(L, -1);
    lua_pop(L, 1);
    return is_less;
}

static bool element_is_less(lua_State *L, int values, uint32_t i, uint32_t j, order_fn *less)
{
    bool is_less;

    script_charge(L, 1);
    lua_rawgeti(L, values, (lua_Integer)i + 1);
    lua_rawgeti(L, values, (lua_Integer)j + 1);
    is_less = less(L, -2, -1);
    lua_pop(L, 2);
    return is_less;
}

/* One pass of a bottom-up merge sort: runs of `width` in `from` become runs of twice that. */
static void merge_pass(lua_State *L, int values, const uint32_t *from, uint32_t *to, size_t n,
                       size_t width, order_fn *less)
{
    for (size_t lo = 0; lo < n; lo += 2 * width) {
        size_t mid = lo + width < n ? lo + width : n;
        size_t hi = lo + 2 * width < n ? lo + 2 * width : n;
        size_t i = lo, j = mid, k = lo;

        if (mid < hi && !element_is_less(L, values, from[mid], from[mid - 1], less)) {
            memcpy(to + lo, from + lo, (hi - lo) * sizeof(*to)); /* in order already */
            continue;
        }
        while (i < mid && j < hi)
            to[k++] =
                element_is_less(L, values, from[j], from[i], less) ? from[j++] : from[i++];
        while (i < mid)
            to[k++] = from[i++];
        while (j < hi)
            to[k++] = from[j++];
    }
}

/* Pushes a buffer and returns in it the stable order of the n values of the table at `values`:
 * any answers of `less` give some permutation. */
static const uint32_t *push_order(lua_State *L, int values, size_t n, order_fn *less)
{
    uint32_t *from = lua_newuserdatauv(L, 2 * n * sizeof(uint32_t) + 1, 0);
    uint32_t *to = from + n;

    for (size_t i = 0; i < n; i++)
        from[i] = (uint32_t)i;
    for (size_t width = 1; width < n; width *= 2) {
        uint32_t *swap = from;

        merge_pass(L, values, from, to, n, width, less);
        from = to;
        to = swap;
    }
    return from;
}

int script_sort(lua_State *L)
{
    lua_Integer n = luaL_len(L, 1);
    order_fn *less = value_is_less;
    const uint32_t *order;

    luaL_argcheck(L, n < (1 << 30), 1, "array too big");
    if (!lua_isnoneornil(L, 2)) {
        luaL_checktype(L, 2, LUA_TFUNCTION);
        less = called_is_less;
    }
    if (n < 2)
        return 0;
    lua_settop(L, 2);
    script_charge(L, (uint64_t)n);
    lua_createtable(L, (int)n, 0); /* index 3: what is sorted, whatever `less` does to t */
    for (lua_Integer i = 1; i <= n; i++) {
        lua_geti(L, 1, i);
        lua_rawseti(L, 3, i);
    }
    order = push_order(L, 3, (size_t)n, less);
    for (lua_Integer i = 1; i <= n; i++) {
        lua_rawgeti(L, 3, (lua_Integer)order[i - 1] + 1);
        lua_seti(L, 1, i);
    }
    return 0;
}

static void check_key(lua_State *L, int index)
{
    int type = lua_type(L, index);

    if (type != LUA_TNUMBER && type != LUA_TSTRING)
        luaL_error(L, "a table with a %s as key has no order to go through it",
                   lua_typename(L, type));
}

/* Upvalues: the keys in order, how many were given. */
static int pairs_step(lua_State *L)
{
    lua_Integer i = lua_tointeger(L, lua_upvalueindex(2));

    luaL_checktype(L, 1, LUA_TTABLE);
    for (;;) {
        script_charge(L, 1);
        i++;
        if (lua_rawgeti(L, lua_upvalueindex(1), i) == LUA_TNIL)
            return 1;
        lua_pushvalue(L, -1);
        if (lua_rawget(L, 1) != LUA_TNIL)
            break;
        lua_pop(L, 2); /* removed meanwhile */
    }
    lua_pushinteger(L, i);
    lua_replace(L, lua_upvalueindex(2));
    return 2;
}

int script_pairs(lua_State *L)
{
    const uint32_t *order;
    lua_Integer n = 0;

    luaL_checkany(L, 1);
    if (luaL_getmetafield(L, 1, "__pairs") != LUA_TNIL) {
        lua_pushvalue(L, 1);
        lua_call(L, 1, 3);
        return 3;
    }
    luaL_checktype(L, 1, LUA_TTABLE);
    lua_settop(L, 1);
    lua_newtable(L); /* index 2: the keys as they come */
    lua_pushnil(L);
    while (lua_next(L, 1)) {
        lua_pop(L, 1);
        check_key(L, -1);
        script_charge(L, 1);
        lua_pushvalue(L, -1);
        lua_rawseti(L, 2, ++n);
    }
    order = push_order(L, 2, (size_t)n, key_is_less); /* index 3 */
    lua_createtable(L, (int)n, 0);                    /* index 4: the keys in order */
    for (lua_Integer i = 1; i <= n; i++) {
        lua_rawgeti(L, 2, (lua_Integer)order[i - 1] + 1);
        lua_rawseti(L, 4, i);
    }
    lua_pushinteger(L, 0);
    lua_pushcclosure(L, pairs_step, 2);
    lua_pushvalue(L, 1);
    lua_pushnil(L);
    return 3;
}

/* The least key greater than the one given: linear, so loops should use pairs. */
int script_next(lua_State *L)
{
    luaL_checktype(L, 1, LUA_TTABLE);
    lua_settop(L, 2);
    if (!lua_isnil(L, 2))
        check_key(L, 2);
    lua_pushnil(L); /* index 3: the best so far */
    lua_pushnil(L);
    while (lua_next(L, 1)) {
        lua_pop(L, 1);
        check_key(L, -1);
        script_charge(L, 1);
        if ((lua_isnil(L, 2) || key_is_less(L, 2, -1)) &&
            (lua_isnil(L, 3) || key_is_less(L, -1, 3))) {
            lua_pushvalue(L, -1);
            lua_replace(L, 3);
        }
    }
    lua_settop(L, 3);
    if (lua_isnil(L, 3))
        return 1;
    lua_pushvalue(L, 3);
    lua_rawget(L, 1);
    return 2;
}

static int ipairs_step(lua_State *L)
{
    lua_Integer i = luaL_checkinteger(L, 2);

    i = (lua_Integer)((lua_Unsigned)i + 1);
    lua_pushinteger(L, i);
    return lua_geti(L, 1, i) == LUA_TNIL ? 1 : 2;
}

int script_ipairs(lua_State *L)
{
    luaL_checkany(L, 1);
    lua_pushnil(L);
    lua_pushcclosure(L, ipairs_step, 1); /* a closure, so that it has a fixed address */
    lua_pushvalue(L, 1);
    lua_pushinteger(L, 0);
    return 3;
}
